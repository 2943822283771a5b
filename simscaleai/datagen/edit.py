"""Change the instructions of a dataset, or leave observations out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.datagen.dataset_output import DatasetOutput
from simscaleai.datagen.rewriting import Choice, Rewrite, source_hash
from simscaleai.errors import UserError, unknown_name
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import Episode
from simscaleai.storage.episodes import open_dataset

_V = TypeVar("_V")


@converted
def edit_dataset(
    dataset: str | Path,
    output_path: str | Path,
    *,
    instructions: Mapping[str, str] | None = None,
    drop_obs: Sequence[str] = (),
    shard_episodes: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write a dataset with other instructions, or with fewer observations.

    Args:
      dataset: the dataset.
      output_path, shard_episodes: the file or folder to write; see `merge_datasets`.
      instructions: {old: new}, whole sentences.
      drop_obs: observations to leave out, such as "images/wrist_cam".
      overwrite, show_progress: as in `merge_datasets`.

    Returns:
      as `merge_datasets`, without "copies".

    Raises:
      UserError: no episode has such an instruction or observation.
    """
    output = DatasetOutput(Path(output_path), shard_episodes, overwrite)
    output.check([dataset])
    renamed, dropped = dict(instructions or {}), list(drop_obs)
    if not renamed and not dropped:
        raise UserError("There is nothing to edit; give instructions or observations.")
    with open_dataset(dataset) as data:
        sentences = {episode.language for episode in data.episodes}
        for old in renamed:  # a misspelled name would change nothing, and nobody would notice
            if old not in sentences:
                raise unknown_name(f"instruction of {data.path}:", old, sentences)
        for key in dropped:
            if key not in data.obs_keys:
                raise unknown_name(f"observation of {data.path}:", key, data.obs_keys)
        if set(dropped) >= set(data.obs_keys):
            raise UserError("A dataset without observations is of no use; keep at least one.")

        def change(episode: Episode) -> Episode:
            return replace(
                episode,
                language=renamed.get(episode.language, episode.language),
                obs=_without(episode.obs, dropped),
                next_obs=_without(episode.next_obs, dropped),
            )

        contract = data.contract
        if contract is not None:
            contract = _edited(contract, renamed, dropped)
        recipe = {"edited_from": source_hash(data), "instructions": renamed, "drop_obs": dropped}
        choices = [Choice(data, data.split("all"))]
        rewrite = Rewrite(choices, recipe, contract=contract, change=change)
        return rewrite.run(output, show_progress=show_progress)


def _edited(
    contract: EnvContract, renamed: Mapping[str, str], dropped: Iterable[str]
) -> EnvContract:
    """Return the contract of an edited dataset."""
    # models take shapes and instructions from the contract and not from the arrays
    return replace(
        contract,
        obs_shapes=_without(contract.obs_shapes, dropped),
        obs_dtypes=_without(contract.obs_dtypes, dropped),
        instructions={
            goal: tuple(dict.fromkeys(renamed.get(sentence, sentence) for sentence in sentences))
            for goal, sentences in contract.instructions.items()
        },
    )


def _without(entries: Mapping[str, _V], dropped: Iterable[str]) -> dict[str, _V]:
    return {key: value for key, value in entries.items() if key not in set(dropped)}
