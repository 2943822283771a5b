"""Train a policy as another one was trained, on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from simscaleai.config import change_config, parse_override
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.tools.train import train_run
from simscaleai.training.compatibility import changes_learning
from simscaleai.training.component_settings import COMPONENTS
from simscaleai.training.run_config import RunConfig, load_run
from simscaleai.training.train_config import TrainConfig


@dataclass(frozen=True)
class Retraining:
    """The settings of a checkpoint's training, with changes; called as (dataset, folder), it trains.

    Attributes:
      run: the settings; dataset and folder are those of the call.
      changes: {dotted name: value} of those that differ from the checkpoint's on request.
    """

    run: RunConfig
    changes: JsonDict = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: str | Path, overrides: Sequence[str] = ()) -> Retraining:
        """Return the training of a checkpoint.

        Args:
          checkpoint: a file, or the folder or name of a run.
          overrides: changed settings, `key=value` as of `simscale train`.

        Raises:
          UserError: the checkpoint says nothing of its training, or an override is wrong.
        """
        config = load_checkpoint(checkpoint).get("config")
        if not isinstance(config, dict) or "model_name" not in config:
            raise UserError(
                f"The checkpoint {str(checkpoint)!r} does not say how it was trained; name one of"
                " `simscale train`."
            )
        with guarded(f"The settings in {str(checkpoint)!r}", "use another checkpoint"):
            run = RunConfig.of(change_config(TrainConfig(), **config))
        changed = dict(map(parse_override, overrides))
        changed = {RunConfig.aliases.get(key, key): value for key, value in changed.items()}
        return cls(load_run(flags=_settings(run) | changed), changed)

    @property
    def dataset(self) -> str:
        """The dataset that the checkpoint was trained on; "" if on none."""
        return self.run.data.path

    @property
    def deciding(self) -> JsonDict:
        """The changes that change what is learned, and not how fast or what is shown of it."""
        return {name: value for name, value in self.changes.items() if _decides(name)}

    def __call__(self, dataset: Path, folder: Path) -> dict[str, float]:
        """Train on `dataset` into `folder`, or resume the training there; return the last metrics."""
        return train_run(
            replace(
                self.run,
                name=None,  # its folder would come first
                data=replace(self.run.data, path=str(dataset)),
                checkpoints=replace(self.run.checkpoints, folder=str(folder), resume_from="auto"),
            )
        )


# A checkpoint may come from somebody else: it says how to train, and not where to write or whom to tell.
_GROUPS = ("data", "optimizer", "schedule", "trainer", "hardware")


def _settings(run: RunConfig) -> JsonDict:
    """Return {dotted name: value} of what decides the training."""
    settings: JsonDict = {"seed": run.seed, "checkpoints.save_every": run.checkpoints.save_every}
    settings |= {f"model.{key}": value for key, value in run.model.items()}
    for group in _GROUPS:
        part = getattr(run, group)
        settings |= {f"{group}.{f.name}": getattr(part, f.name) for f in fields(part)}
    return settings


def _decides(name: str) -> bool:
    """Return whether a setting of `RunConfig`, by its dotted name, changes what is learned."""
    group, _, key = name.partition(".")
    if group in ("name", "eval"):  # where it is, and episodes that only watch
        return False
    component = COMPONENTS.get(group)
    return changes_learning(component.flat_name(key) if component else name)
