"""Compare the index of a file with its content."""

from __future__ import annotations

from simscaleai.storage.episode import OBS
from simscaleai.storage.episode_file import open_file
from simscaleai.storage.episodes import EpisodeFile


def index_is_true(file: EpisodeFile) -> bool:
    """Return whether the index of a file, opened without it, agrees with HDF5; true if there is none."""
    everything = file.split("all")
    keys = ["actions", *(OBS + key for key in file.obs_keys)]
    with open_file(file.path) as indexed:
        # a file of another program: HDF5 itself is read
        if indexed.index is None:
            return True
        if indexed.episodes != file.episodes:
            return False
        columns = file.columns(everything, keys)
        for key, found in indexed.columns(everything, keys).items():
            true = columns[key]
            if found is None or true is None or not found.same_as(true):
                return False
    return True
