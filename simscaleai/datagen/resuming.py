"""Beginning, resuming and ending the making of a dataset whose finished episodes lie in parts.

    made = begin(folder, recipe, resume=True, overwrite=False)
    if made is None:
        with kept(folder):
            ...  # set episodes aside that folder.finished() lacks
            publish(folder)

Promise: a file that is there is not touched unless asked, and then replaced only at the end; what a
stopped run has finished is kept, and is only gone on with for the very same recipe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simscaleai.datagen.parts import PartsFolder
from simscaleai.datagen.recipe import differences
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.disk import CannotWriteError, name_disk_errors
from simscaleai.storage.episodes import open_dataset


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is kept and how to go on."""


def begin(
    folder: PartsFolder, recipe: dict[str, Any], *, resume: bool, overwrite: bool
) -> dict[str, Any] | None:
    """Take the folder for a run of `recipe`; or, if the output is complete, say what it was made with.

    Args:
      folder: of the output.
      recipe: everything that decides the content, as JSON values.
      resume: go on with what is there, if it is of the same recipe.
      overwrite: replace an output, or drop an unfinished run of another recipe.

    Returns:
      None, or the statistics and `content_hash` of an output that is complete.

    Raises:
      ExistingFileError: there is something, and neither `resume` nor `overwrite`.
      UserError: `resume` meets another recipe, the output is a folder, or another process is at it.
    """
    output = folder.output
    if output.is_dir():
        raise UserError(f"{output} is a folder; give the path of the file to write.")
    if not (resume or overwrite):
        _refuse_existing(folder)
    if resume and output.exists() and not (overwrite and folder.exists()):
        made, statistics = _made_before(output)
        if not (found := differences(made, recipe)):
            folder.remove()
            return statistics
        if not overwrite:
            raise _other_run(output, found)
    unfinished = folder.recipe() if resume and folder.exists() else None
    if unfinished is not None and (found := differences(unfinished, recipe)):
        if not overwrite:
            raise _other_run(folder.path, found)
        unfinished = None
    try:
        with name_disk_errors(folder.path):
            folder.open(recipe, keep=unfinished is not None)
    except CannotWriteError:
        _drop_empty(folder)
        raise
    return None


@contextmanager
def kept(folder: PartsFolder) -> Iterator[None]:
    """Let go of the folder in the end; on Ctrl-C and on a full disk say what is in it.

    After an error a folder in which there is no episode goes away.
    """
    flags = "--resume --overwrite" if folder.output.exists() else "--resume"
    go_on = f"run the same command with {flags} to go on."
    try:
        yield
    except UserError as error:
        _drop_empty(folder)
        if not isinstance(error, CannotWriteError):
            raise
        found = "No episode was set aside yet; run the same command again."
        if folder.exists():
            found = f"{len(folder.finished())} finished episodes are kept in {folder.path}; {go_on}"
        raise error.with_sentence(found) from error
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped: {len(folder.finished())} finished episodes are kept in {folder.path}; {go_on}"
        ) from None
    finally:
        folder.close()


def _drop_empty(folder: PartsFolder) -> None:
    if not folder.parts():
        folder.remove()


def publish(folder: PartsFolder) -> None:
    """Rename the dataset that was completed among the parts to the output; only then remove the parts."""
    with atomic_path(folder.output) as temporary:
        os.replace(folder.dataset, temporary)
    folder.remove()


def _made_before(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and statistics that a dataset was written with; empty in one of another tool."""
    with open_dataset(output) as data:
        found = [data.attribute(name, "{}") for name in ("recipe", "statistics")]
        content = data.attribute("content_hash", "")
    try:
        recipe, statistics = (dict(json.loads(text)) for text in found)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{output} does not say how it was made; use --overwrite.") from error
    return recipe, {**statistics, "content_hash": content}


def _refuse_existing(folder: PartsFolder) -> None:
    if folder.output.exists():
        raise ExistingFileError(
            f"{folder.output} exists; choose another output or replace it with --overwrite."
        )
    if folder.exists():
        raise ExistingFileError(
            f"{folder.path} holds an unfinished run; go on with --resume or drop it with"
            " --overwrite."
        )


def _other_run(path: Path, found: list[str]) -> UserError:
    return UserError(
        f"{path} was made with other settings ({'; '.join(found)}); give the same ones or"
        " start again with --overwrite."
    )
