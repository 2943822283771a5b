"""Listening: what the hand's place says about the instruction, and whether a policy reads the words.

    python benchmarks/listening.py DATASET [CHECKPOINT ...] [--episodes 100]

DATASET has labels for every instruction (`actions_by_instruction`). For each step of the validation episodes
the first column has the share of scenes in which the wanted object is the one nearest to the hand: where it
is high, an instruction says nothing that the hand's place does not. For each CHECKPOINT two columns follow.
In every recorded state the policy is asked for each thing in turn, in a phrasing of training data. "Follows"
counts pairs of things for which the expert's actions in that state lie more than 1 cm apart: the share in
which the answer is nearer to the action for what was asked; 50 % is chance. "Changes" is the mean distance,
in cm, between answers for different things in the same state.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from simscaleai.array_types import ArrayDict
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.episode import LABELS
from simscaleai.storage.episodes import EpisodeFile, open_dataset

STEPS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
CM = 5.0  # of displacement at an action of 1
APART = 1.0  # cm
CHUNK = 64  # states that a policy acts for at once


class Moment:
    """The states of many episodes at one step: observations, labels, and what each episode asks for."""

    def __init__(self, data: EpisodeFile, episodes: list[int], step: int) -> None:
        assert data.contract is not None
        self.instructions = data.contract.instructions
        there = [i for i in episodes if data.episodes[i].length > step]
        rows = [
            {key: data.read(i, f"obs/{key}", step, step + 1)[0] for key in data.obs_keys}
            for i in there
        ]
        self.obs: ArrayDict = {key: np.stack([row[key] for row in rows]) for key in data.obs_keys}
        self.labels = np.stack(
            [data.read(i, LABELS, step, step + 1)[0] for i in there]
        )  # (n, K, A)
        sentences = list(self.instructions.values())
        said = [data.episodes[i].language for i in there]
        self.wanted = np.array([next(k for k, s in enumerate(sentences) if t in s) for t in said])

    def nearest_is_wanted(self) -> float:
        """Return the share of scenes in which the wanted object is nearest to the hand."""
        objects = np.stack([self.obs[f"{name}_pos"] for name in self.instructions], axis=1)
        distance = np.linalg.norm(objects - self.obs["ee_pos"][:, None], axis=-1)  # (n, K)
        return float((distance.argmin(axis=1) == self.wanted).mean())

    def listening(self, policy: ModelPolicy) -> tuple[float, float]:
        """Return the share of pairs of things in which answers follow, and how far answers differ, in cm."""
        answers = np.stack(
            [self._ask(policy, sentences[0]) for sentences in self.instructions.values()], axis=1
        )[..., :3]  # (n, K, 3)
        labels = self.labels[..., :3]  # (n, K, 3)
        distance = CM * _distances(answers, labels)  # (n, K, K): answer to what was asked, label
        own = np.diagonal(distance, axis1=1, axis2=2)[:, :, None]  # (n, K, 1)
        # Where the expert first rises whatever is asked, an answer cannot tell.
        apart = CM * _distances(labels, labels) > APART
        follows = (own < distance)[apart]
        k = len(self.instructions)
        changes = CM * _distances(answers, answers).sum() / (len(answers) * k * (k - 1))
        return float(follows.mean()), float(changes)

    def _ask(self, policy: ModelPolicy, sentence: str) -> NDArray[np.float32]:
        """Return the actions (n, A) of a policy that is asked for one thing in all states."""
        parts = []
        for start in range(0, len(self.labels), CHUNK):
            obs: Mapping[str, NDArray[np.generic]] = {
                key: value[start : start + CHUNK] for key, value in self.obs.items()
            }
            n = len(next(iter(obs.values())))
            policy.reset(np.ones(n, dtype=bool), [0] * n, [sentence] * n)
            parts.append(policy.predict_action_chunk(obs)[:, 0])
        return np.concatenate(parts)


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distances (n, K, K) between vectors a (n, K, d) and b (n, K, d) of the same state."""
    return np.linalg.norm(a[:, :, None] - b[:, None], axis=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--episodes", type=int, default=100, help="of the validation split")
    args = parser.parse_args()
    policies = [ModelPolicy.from_checkpoint(path, device="cpu") for path in args.checkpoints]
    table = Table(title=f"{args.dataset.name}, validation episodes")
    for column in ("step", "scenes", "wanted is nearest (%)"):
        table.add_column(column)
    for path in args.checkpoints:
        table.add_column(f"{path.parent.parent.name}: follows (%)")
        table.add_column("changes (cm)")
    with open_dataset(args.dataset) as data:
        episodes = data.split("valid")[: args.episodes]
        for step in STEPS:
            moment = Moment(data, episodes, step)
            row = [str(step), str(len(moment.wanted)), f"{100 * moment.nearest_is_wanted():.0f}"]
            for policy in policies:
                follows, changes = moment.listening(policy)
                row += [f"{100 * follows:.0f}", f"{changes:.2f}"]
            table.add_row(*row)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
