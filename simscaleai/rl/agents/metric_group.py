"""Metrics of an agent that are shown together, in figures and beside the progress bar."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MetricGroup:
    """Metrics that are drawn in one panel.

    Attributes:
      title, ylabel: text of the panel.
      labels: {metric: label of its curve}.
      log: whether the axis is logarithmic, where the values allow it.
      from_zero: whether the axis starts at 0.
      reference: a value to draw a horizontal line at; None for none.
      progress: {metric: format}, such as "KL {:.3f}", of the metrics beside the progress bar.
    """

    title: str
    ylabel: str
    labels: dict[str, str]  # in the order of the legend
    log: bool = False
    from_zero: bool = False
    reference: float | None = None
    progress: dict[str, str] = field(default_factory=dict)
