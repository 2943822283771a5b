"""The report of a comparison of policies."""

from __future__ import annotations

from pathlib import Path

from simscaleai.evaluation.compare import CompareReport
from simscaleai.evaluation.comparison import Comparison
from simscaleai.evaluation.confidence_sequence import Verdict
from simscaleai.tools.report.report_figures import can_draw, medium, plot_success_over_time
from simscaleai.tools.report.report_page import (
    REPORT,
    Figures,
    Rates,
    Report,
    Section,
    Table,
    VerdictBox,
    write_report,
)
from simscaleai.tools.report.report_parts import (
    MOST_EPISODES,
    command_line,
    funnel,
    gallery,
    origin,
    rate_of,
    training_sections,
)

# A verdict of "same" or "undecided" is neither good nor bad: that depends on what was hoped for.
_TONES = {Verdict.IMPROVED: "good", Verdict.REGRESSED: "bad"}
_CHANGES = {"reward": "return", "length": "control steps", "stage": "failure stage reached"}


def write_compare_report(found: CompareReport) -> Path:
    """Write the report into the folder of the comparison; return its path."""
    names = list(found.episodes)
    first = found.comparisons[0]  # all have the same baseline
    policies = [first.baseline, *(c.candidate for c in found.comparisons)]
    rates = tuple((name, rate_of(episodes)) for name, episodes in found.episodes.items())
    sections: list[Section] = [Rates("Success in all episodes that were run", rates)]
    sections.append(_numbers(found, names))
    for comparison, name in zip(found.comparisons, names[1:], strict=True):
        sections += _differing(comparison, f"{names[0]} and {name}")
    if can_draw():
        drawn = medium(
            plot_success_over_time(found.episodes), "Episodes that have succeeded by each step"
        )
        sections.append(Figures("When episodes succeed", (drawn,)))
    sections += [
        funnel(f"Where episodes of {name} fail", episodes, found.stages)
        for name, episodes in found.episodes.items()
    ]
    # short names as headings, whole ones to find the runs
    sections += training_sections(dict(zip(names, policies, strict=True)))
    sections += origin(command_line("compare", policies, found.settings), found.settings)
    report = Report(
        title=f"{' against '.join(reversed(names))}",
        subtitle=f"Paired comparison on the same starts of suite {found.settings.seed} in {found.env_name}",
        verdicts=tuple(
            _verdict(comparison, name, names[0], found.settings.min_difference)
            for comparison, name in zip(found.comparisons, names[1:], strict=True)
        ),
        sections=sections,
    )
    path = Path(found.output_dir) / REPORT
    write_report(path, report)
    return path


def _verdict(found: Comparison, name: str, baseline: str, min_difference: float) -> VerdictBox:
    low, high = found.interval
    detail = (
        f"{name} succeeds in {found.candidate_success.text()}, {baseline} in"
        f" {found.baseline_success.text()}. Difference {100 * found.difference:+.1f} %"
        f" ({100 * low:+.1f} to {100 * high:+.1f} at confidence {100 * (1 - found.alpha):g} %, valid whenever"
        f" the comparison ended); p = {found.p_value:.3g}."
    )
    headline = f"{name}: {found.sentence(min_difference)}"
    return VerdictBox(_TONES.get(found.verdict, "neutral"), headline, detail)


def _numbers(found: CompareReport, names: list[str]) -> Table:
    """Return the means of the baseline and each candidate in the episodes that count."""
    rows = [
        (
            name,
            _CHANGES.get(quantity, quantity),
            f"{change.baseline:.4g}",
            f"{change.candidate:.4g}",
            f"{change.difference:+.3g} ({change.interval[0]:+.3g} to {change.interval[1]:+.3g})",
            f"{change.p_value:.3g}",
        )
        for comparison, name in zip(found.comparisons, names[1:], strict=True)
        for quantity, change in comparison.changes.items()
    ]
    columns = ("candidate", "mean of", "baseline", "candidate's", "difference (95 %)", "p")
    return Table("Other quantities, paired", columns, tuple(rows))


def _differing(found: Comparison, names: str) -> list[Section]:
    # films are named after their episode, as in episode_17.mp4
    captions = {e.index: f"Episode {e.index}: {e.baseline}, {e.candidate}" for e in found.differing}
    videos = [Path(path) for path in found.videos]
    clips = [(path, captions.get(int(path.stem.partition("_")[2]), path.stem)) for path in videos]
    pairs = found.pairs
    note = (
        f"Only the baseline succeeded in {pairs.only_first} episodes, only the candidate in"
        f" {pairs.only_second}, both in {pairs.both}, neither in {pairs.neither}."
    )
    rows = tuple(
        (str(e.index), e.baseline, e.candidate, e.instruction, str(e.seed))
        for e in found.differing[:MOST_EPISODES]
    )
    columns = ("episode", "baseline", "candidate", "instruction", "seed")
    return [
        gallery(f"Episodes that differ between {names}: baseline on the left", clips) if clips
        else Table("", (), ()),
        Table(f"Episodes that differ between {names}", columns, rows, note),
    ]  # fmt: skip
