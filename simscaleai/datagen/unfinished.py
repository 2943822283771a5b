"""Begin, resume and publish a dataset whose finished episodes are in shards until it is complete.

    made = begin(folder, recipe, resume=True, overwrite=False)
    if made is None:
        with keep_finished(folder):
            ...  # write the episodes that FinishedEpisodes(folder) lacks to shards
            publish(folder)

Promise: a file that is there is not touched unless asked, and then replaced only at the end; finished
episodes of a stopped run are kept, and only a run of the same recipe resumes from them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simscaleai.datagen.finished_episodes import FinishedEpisodes
from simscaleai.datagen.recipe import differences
from simscaleai.datagen.shards import ShardFolder
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.disk import CannotWriteError, name_disk_errors
from simscaleai.storage.episodes import open_dataset


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is kept and how to resume."""


def begin(
    folder: ShardFolder, recipe: JsonDict, *, resume: bool, overwrite: bool
) -> JsonDict | None:
    """Lock the folder for a run of `recipe`, unless the output is complete.

    Args:
      folder: of the output.
      recipe: everything that decides the content, as JSON values.
      resume: resume an unfinished run, if it has the same recipe.
      overwrite: replace an output, or drop an unfinished run of another recipe.

    Returns:
      None, or the statistics and `content_hash` of an output that is complete.

    Raises:
      ExistingFileError: the output or an unfinished run exists, without `resume` and `overwrite`.
      UserError: `resume` meets another recipe, the output is a folder, or another process is writing it.
    """
    output = folder.output
    if output.is_dir():
        raise UserError(
            f"{output} is a folder; give the path of the file to write, or write a folder of shards with"
            " --shard-episodes 1000."
        )
    if not (resume or overwrite):
        _refuse_existing(folder)
    if resume and output.exists() and not (overwrite and folder.exists()):
        made, statistics = made_before(output)
        if not (found := differences(made, recipe)):
            folder.remove()
            return statistics
        if not overwrite:
            raise other_run(output, found)
    unfinished = folder.recipe() if resume and folder.exists() else None
    if unfinished is not None and (found := differences(unfinished, recipe)):
        if not overwrite:
            raise other_run(folder.path, found)
        unfinished = None
    try:
        with name_disk_errors(folder.path):
            folder.open(recipe, keep=unfinished is not None)
    except CannotWriteError:
        _drop_empty(folder)
        raise
    return None


@contextmanager
def keep_finished(folder: ShardFolder) -> Iterator[None]:
    """Release the folder at the end; after Ctrl-C or a full disk, say how many episodes are kept.

    After an error a folder without episodes is removed.
    """
    flags = "--resume --overwrite" if folder.output.exists() else "--resume"
    go_on = f"run the same command with {flags} to go on."
    try:
        yield
    except UserError as error:
        _drop_empty(folder)
        if not isinstance(error, CannotWriteError):
            raise
        found = "No episode was saved yet; run the same command again."
        if folder.exists():
            found = f"{_kept(folder)}; {go_on}"
        raise error.with_sentence(found) from error
    except Exception:
        # a defect, perhaps in a task of the user's: nothing shall be in the way of the next try
        _drop_empty(folder)
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped: {_kept(folder)}; {go_on}") from None
    finally:
        folder.close()


def _kept(folder: ShardFolder) -> str:
    return f"{len(FinishedEpisodes(folder).summaries)} finished episodes are kept in {folder.path}"


def _drop_empty(folder: ShardFolder) -> None:
    if not folder.shards():
        folder.remove()


def publish(folder: ShardFolder) -> None:
    """Rename the completed dataset to the output; then remove the shards."""
    with atomic_path(folder.output) as temporary:
        os.replace(folder.dataset, temporary)
    folder.remove()


def made_before(output: Path) -> tuple[JsonDict, JsonDict]:
    """Return recipe and statistics of a dataset; empty for one of another tool.

    Raises:
      UserError: it cannot be read, or does not say how it was made.
    """
    with open_dataset(output) as data:
        found = [data.attribute(name, "{}") for name in ("recipe", "statistics")]
        content = data.attribute("content_hash", "")
    try:
        recipe, statistics = (dict(json.loads(text)) for text in found)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{output} does not say how it was made; use --overwrite.") from error
    return recipe, {**statistics, "content_hash": content}


def _refuse_existing(folder: ShardFolder) -> None:
    if folder.output.exists():
        raise ExistingFileError(
            f"{folder.output} exists; choose another output or replace it with --overwrite."
        )
    if folder.exists():
        raise ExistingFileError(
            f"{folder.path} holds an unfinished run; go on with --resume or drop it with"
            " --overwrite."
        )


def other_run(path: Path, found: list[str]) -> UserError:
    """Return the error for `path`, made with other settings: the `found` differences."""
    return UserError(
        f"{path} was made with other settings ({'; '.join(found)}); give the same ones or"
        " start again with --overwrite."
    )
