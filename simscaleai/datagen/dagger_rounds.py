"""DAgger: the policy drives, the expert labels every visited state, and a new policy learns from all of it.

    dagger("runs/a", "data/a.h5", "data/dagger.h5", train, rounds=3, episodes=200)

A clone sees only states of the expert's own way, and not those to which its mistakes lead. In each round the
newest policy acts in episodes of their own seeds, the task's expert says what it would have done in every
state, and a policy is trained on the first dataset and all rounds so far (Ross et al., 2011,
https://arxiv.org/abs/1011.0686). It works for every task that has a scripted expert.

    data/dagger.h5           the last round's dataset: the first one, and all rounds
    data/dagger.h5.rounds/
      dagger.json            what decides the content; written first
      round_1.h5             the episodes that the given policy drove, labeled by the expert
      policy_1/              the run that learned from the first dataset and round_1
      round_2.h5             the episodes that policy_1 drove, ...

Every file appears whole or not at all, and a step whose result is there is not done again: `resume=True`
goes on after Ctrl-C, a crash or a kill, and gives the same content.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simscaleai import seeding
from simscaleai.contract import EnvContract
from simscaleai.convert import converted, plain
from simscaleai.datagen.dataset_output import DatasetOutput
from simscaleai.datagen.generator import generate_dataset
from simscaleai.datagen.merge import merge_datasets
from simscaleai.datagen.recipe import differences
from simscaleai.datagen.rewriting import source_hash
from simscaleai.datagen.unfinished import Interrupted, made_before, other_run
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.executors.main_module import end_if_imported_by_worker
from simscaleai.json_types import JsonDict
from simscaleai.rollout.policies import policy_sha256, resolve_policy
from simscaleai.sim.factory import make_vec_env
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.disk import name_disk_errors
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.find_checkpoint import find_checkpoint
from simscaleai.storage.lock import FolderLock

Train = Callable[[Path, Path], object]
"""A function (dataset, folder) that trains a policy into the folder, or resumes its training there."""

_FINAL = "final.pt"  # of a run that is complete
_SETTINGS = "dagger.json"


@converted
def dagger(
    checkpoint: str | Path,
    dataset: str | Path,
    output_path: str | Path,
    train: Train,
    *,
    rounds: int = 3,
    episodes: int = 200,
    seed: int = 42,
    max_steps: int | None = None,
    noise: float = 0.0,
    randomize: str | None = None,
    switch_instructions: bool = False,
    workers: int = 1,
    num_envs: int = 256,
    env_kwargs: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
    announce: Callable[[str], None] = lambda text: None,
) -> JsonDict:
    """Improve a policy by rounds of its own episodes with the expert's labels.

    Args:
      checkpoint: the policy of the first round: a checkpoint, or the folder or name of a run.
      dataset: the first demonstrations, of the environment in which the rounds are run.
      output_path: the file for the dataset of all episodes; `<output_path>.rounds/` gets the rest.
      train: trains a policy; see `Train`. `simscaleai.tools.retrain.Retraining` does as the checkpoint was.
      rounds: how many times to drive and to train.
      episodes: episodes of each round.
      seed: master seed of the rounds; round r has the episodes of a seed of its own.
      max_steps: truncate an episode after this many steps; by default as the first dataset.
      noise, workers, num_envs: see `generate_dataset`.
      randomize: a level of domain randomization; by default that of the first dataset.
      switch_instructions: give the policy another instruction at the start of each episode.
      env_kwargs: settings of the environment (`SimConfig` fields) that differ from the first dataset.
      training: what `train` does otherwise than the checkpoint's training did, as {setting: value}; it is
        only noted, so that `resume` refuses another one.
      resume: resume an unfinished run of the same arguments; nothing is done if it is complete.
      overwrite: replace an existing output and its rounds.
      show_progress: draw progress bars on stderr, if that is a terminal.
      announce: called with a sentence when a step begins.

    Returns:
      {"total_episodes", "total_steps", "output_path", "content_hash", "policy" (folder of the last one),
      "rounds": a list of {"round", "policy" (who drove), "episodes", "steps", "success_rate" (of that
      policy), "content_hash"}, "seconds"}.

    Raises:
      ExistingFileError: the output or its rounds are there, without `resume` and `overwrite`.
      UserError: an argument is wrong, the task has no expert, the environment differs from that of the first
        dataset, or `resume` meets other arguments.
      Interrupted: Ctrl-C.
    """
    end_if_imported_by_worker()
    began = time.perf_counter()
    if rounds < 1:
        raise UserError(f"rounds is {rounds}; at least 1 is allowed.")
    checkpoint = _model(str(checkpoint))
    with open_dataset(dataset) as data:
        if data.contract is None:
            raise UserError(
                f"{dataset} does not say in which environment it was made, so no policy can drive there."
            )
        drive = _drive(data.contract, env_kwargs or {}, max_steps, randomize)
        content = source_hash(data)
    drive |= {"n_episodes": episodes, "noise": noise, "switch_instructions": switch_instructions}
    settings = {
        "checkpoint": policy_sha256(checkpoint),
        "dataset": content,
        "rounds": rounds,
        "training": plain(dict(training or {})),
    }
    speed = {"workers": workers, "num_envs": num_envs, "show_progress": show_progress}
    run = _Rounds(Path(output_path), checkpoint, Path(dataset), train, drive, speed, seed, rounds)
    with run.at_work({**settings, "seed": seed, **drive}, resume=resume, overwrite=overwrite):
        found = [run.round(k, announce) for k in range(1, rounds + 1)]
    with open_dataset(output_path) as data:
        return {
            "total_episodes": len(data),
            "total_steps": sum(episode.length for episode in data.episodes),
            "output_path": str(output_path),
            "content_hash": source_hash(data),
            "policy": str(run.policy(rounds)),
            "rounds": found,
            "seconds": time.perf_counter() - began,
        }


def _model(checkpoint: str) -> str:
    """Return the path of a checkpoint; UserError for policies that cannot be trained again."""
    name = resolve_policy(checkpoint)
    if not Path(name).exists():
        raise UserError(
            f"{checkpoint!r} is no trained policy, and DAgger improves one; give a checkpoint or a run."
        )
    return name


def _drive(
    contract: EnvContract,
    changed: Mapping[str, object],
    max_steps: int | None,
    randomize: str | None,
) -> JsonDict:
    """Return the arguments of `generate_dataset` for the environment of a dataset, with changes.

    Raises:
      UserError: the changed environment has other observations, actions or a control rate.
    """
    settings: JsonDict = plain({**contract.env_config, **changed})
    # before the first episode, and not when the first round is merged
    env = make_vec_env(contract.env_name, 1, **settings)
    try:
        contract.require(env.contract)
    finally:
        env.close()
    level = settings.pop("randomization_level", None)
    if not settings.pop("domain_randomization", False):
        level = None
    limit = settings.pop("max_episode_steps")
    return {
        "env_name": contract.env_name,
        "env_kwargs": settings,
        "randomize": randomize or level,
        "domain_randomization": (randomize or level) is not None,
        "max_steps": limit if max_steps is None else max_steps,
    }


@dataclass
class _Rounds:
    """The folder of the rounds; see the module docstring."""

    output: Path
    checkpoint: str
    dataset: Path
    train: Train
    drive: JsonDict
    speed: JsonDict
    seed: int
    rounds: int

    def __post_init__(self) -> None:
        self.folder = self.output.with_name(self.output.name + ".rounds")
        self.lock = FolderLock(self.folder, "running DAgger in")
        self._settings = self.folder / _SETTINGS

    def policy(self, number: int) -> Path:
        """Return the folder of the policy that round `number` trains; 0 is the given one."""
        return self.folder / f"policy_{number}" if number else Path(self.checkpoint)

    @contextmanager
    def at_work(self, settings: JsonDict, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Lock the folder for a run of `settings`, unless something is in its way."""
        started = resume and self._settings.exists()
        if not (started and self._merged_here()):
            DatasetOutput(self.output, overwrite=overwrite).check([self.dataset])
        if self.folder.exists() and not (started or overwrite):
            raise ExistingFileError(
                f"{self.folder} holds the rounds of an earlier run; go on with --resume or drop them with"
                " --overwrite."
            )
        with name_disk_errors(self.folder):
            self.lock.take()
        try:
            self._begin(settings, resume=resume, overwrite=overwrite)
            yield
        except Exception:
            # nothing shall be in the way of the next try if the first step could not begin
            if {path.name for path in self.folder.iterdir()} <= {_SETTINGS, self.lock.path.name}:
                self._settings.unlink(missing_ok=True)
            raise
        finally:
            self.lock.release()

    def _begin(self, settings: JsonDict, *, resume: bool, overwrite: bool) -> None:
        """Compare the settings with those of the rounds that are there, or write them."""
        earlier = self._read() if resume else None
        found = differences(earlier, settings) if earlier is not None else []
        if found and not overwrite:
            raise other_run(self.folder, found)
        # without settings too: a kill may have left rounds of which nobody knows whose they are
        if earlier is None or found:
            self._remove()
        with atomic_path(self._settings) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")

    def round(self, number: int, announce: Callable[[str], None]) -> JsonDict:
        """Drive, merge and train, or what is missing of that; return what the round saw."""
        title = f"Round {number} of {self.rounds}"
        driver, labeled = self.policy(number - 1), self._labeled(number)
        announce(f"{title}: {driver} drives, the expert labels.")
        made = generate_dataset(
            output_path=str(labeled),
            policy_type=str(find_checkpoint(driver)),
            seed=seeding.derive_seed(self.seed, "dagger", number),
            expert_labels=True,
            resume=True,
            **self.drive,
            **self.speed,
        )
        trained = (self.policy(number) / _FINAL).exists()
        if not trained or (number == self.rounds and not self._merged_here()):
            self._learn(number, title, announce, trained=trained)
        return {
            "round": number,
            "policy": str(driver),
            "episodes": made["total_episodes"],
            "steps": made["total_steps"],
            "success_rate": made["success_rate"],
            "content_hash": made["content_hash"],
        }

    def _learn(
        self, number: int, title: str, announce: Callable[[str], None], *, trained: bool
    ) -> None:
        """Merge the first dataset and all rounds so far, and train on it, unless that is done."""
        last = number == self.rounds
        merged = self.output if last else self.folder / "merged.h5"
        parts = [self.dataset, *(self._labeled(k) for k in range(1, number + 1))]
        show = self.speed["show_progress"]
        # a merged file that is there may be that of the round before
        result = merge_datasets(parts, merged, overwrite=True, show_progress=show)
        if not trained:
            announce(f"{title}: training on {result['total_episodes']} episodes.")
            try:
                self.train(merged, self.policy(number))
            except KeyboardInterrupt:
                raise Interrupted(
                    f"Stopped in the training of round {number}; run the same command with --resume to go on."
                ) from None
        if last:
            (self.folder / "merged.h5").unlink(missing_ok=True)

    def _merged_here(self) -> bool:
        """Return whether the output is that of the rounds that are there, and nobody else's file."""
        with suppress(UserError):  # there is none, or it is no dataset
            recipe, _ = made_before(self.output)
            merged = recipe.get("merged_from")
            if isinstance(merged, list) and len(merged) > 1:
                # not the first dataset: `_begin` says whether that is another one
                return merged[1:] == [self._hash(k) for k in range(1, len(merged))]
        return False

    def _hash(self, number: int) -> str:
        with open_dataset(self._labeled(number)) as data:
            return source_hash(data)

    def _labeled(self, number: int) -> Path:
        return self.folder / f"round_{number}.h5"

    def _read(self) -> JsonDict | None:
        try:
            found = json.loads(self._settings.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{self._settings} is damaged; start again with --overwrite."
            ) from error
        return found if isinstance(found, dict) else {}

    def _remove(self) -> None:
        """Remove the rounds of an earlier run, and nothing else."""
        for path in self.folder.iterdir():
            if path.name.startswith("policy_") and path.is_dir():
                shutil.rmtree(path)
            elif path.name.startswith(("round_", "merged.h5", _SETTINGS)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
