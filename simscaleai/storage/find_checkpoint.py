"""Find the checkpoint that a path refers to: a file, a folder, or the folder or name of a run.

    find_checkpoint("runs/a")                 # runs/a/checkpoints/final.pt, or best.pt where that is newer
    find_checkpoint("a")                      # the same, by the name of the run
    find_checkpoint("runs/a", resume=True)    # the newest one

Every command uses this function, so all of them accept the same paths. It imports quickly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from simscaleai.errors import MissingFileError
from simscaleai.guards import guarded, regular_file

RUNS = Path("runs")  # folder of runs that have a name
_ENDS = ("final.pt", "best.pt")  # preferred in this order if equally old
_OTHERS = ("last.pt", "step_*")
_SHARDED, _PRETRAINED = "index.json", "config.json"  # a folder with one of them is a checkpoint
_POINTER_BYTES = 256  # largest size of a text file with the name of a checkpoint
_LISTED = 5  # runs named in an error


def find_checkpoint(path: str | Path, *, resume: bool = False) -> Path:
    """Return the file or folder that holds the checkpoint.

    Args:
      path: path of a checkpoint, of a pointer such as `last`, of the folder of a run or its folder of
        checkpoints; or the name of a run in `runs/`.
      resume: of a run, select the newest checkpoint, instead of the newer one of final and best.

    Raises:
      MissingFileError: the path does not exist, or the folder contains no checkpoint.
      UserError: it is neither a file nor a folder.
    """
    path = regular_file(path, "checkpoint", folder=True)
    with guarded(f"The checkpoint {str(path)!r}", "check the path"):
        # ".." could leave runs/
        named = not path.is_absolute() and ".." not in path.parts and (RUNS / path).is_dir()
        if not path.exists() and not named:
            raise MissingFileError(
                f"There is no checkpoint {str(path)!r}, and no run of this name; check the path."
            )
        # a package of one's own may have the name of its run
        if named and (not path.exists() or (path.is_dir() and not _has_checkpoint(path))):
            path = RUNS / path
        if path.is_symlink():
            path = path.resolve()
        if path.is_dir():
            return path if _is_checkpoint(path) else _in_run(path, resume)
        if path.stat().st_size <= _POINTER_BYTES:  # `last` where symbolic links do not exist
            name = path.read_bytes().decode(errors="replace").strip()
            # a name without folders: a pointer cannot lead elsewhere
            beside = name != "" and name.isprintable() and Path(name).name == name
            target = path.with_name(name) if beside else path
            return regular_file(target, "checkpoint", folder=True) if target.exists() else path
        return path


def checkpoint_sha256(path: str | Path) -> str:
    """Return a hash of the content of a checkpoint, a file or a folder."""
    path = Path(path)
    if path.is_file():
        return _sha256(path)
    parts = sorted(part for part in path.rglob("*") if part.is_file())
    return hashlib.sha256("".join(map(_sha256, parts)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_checkpoint(folder: Path) -> bool:
    return (folder / _SHARDED).is_file() or (folder / _PRETRAINED).is_file()


def _has_checkpoint(folder: Path) -> bool:
    return _is_checkpoint(folder) or any(ends or others for ends, others in _checkpoints(folder))


def _checkpoints(run: Path) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yield (those of the end, others) of each folder in which a run may have its checkpoints."""
    for place in (run / "checkpoints", run):
        ends = [place / name for name in _ENDS if (place / name).exists()]
        yield ends, [path for pattern in _OTHERS for path in sorted(place.glob(pattern))]


def _in_run(folder: Path, resume: bool) -> Path:
    for ends, others in _checkpoints(folder):
        found = ends + others if resume else ends or others  # an unfinished run has no ends
        if found:
            return max(found, key=lambda path: (path.stat().st_mtime_ns, path in others))
    runs = [str(path) for path in runs_in(folder)]
    if runs:
        more = ", ..." if len(runs) > _LISTED else ""
        raise MissingFileError(
            f"The folder {str(folder)!r} holds no checkpoint, but runs that do: {', '.join(runs[:_LISTED])}"
            f"{more}; name one of them."
        )
    raise MissingFileError(
        f"The folder {str(folder)!r} holds no checkpoint (no final.pt, best.pt, last.pt or step_N.pt); give"
        " the path of a checkpoint, or the folder or name of a run."
    )


def runs_in(folder: Path) -> Iterator[Path]:
    """Yield the runs one or two levels below a folder, such as those of a sweep."""
    for level in ("*", "*/*"):
        places = {
            place.parent
            for pattern in (f"{level}/*.pt", f"{level}/checkpoints/*.pt")
            for place in folder.glob(pattern)
            if place.name in _ENDS
        }
        runs = {place.parent if place.name == "checkpoints" else place for place in places}
        if runs:
            yield from sorted(runs)
            return
