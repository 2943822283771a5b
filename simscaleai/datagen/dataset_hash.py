"""Hash what a dataset holds, whatever the order and the compression of its episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from simscaleai.storage.episode import IDENTITY, combine_digests, episode_digest
from simscaleai.storage.episodes import EpisodeSource, open_dataset


def content_hash(path: str | Path) -> str:
    """Return a hash of what a dataset holds: values, attributes and splits of its episodes.

    It does not depend on the order or the names of the episodes, nor on compression and chunks.
    """
    with open_dataset(path) as data:
        checksums = [data.checksum(i) for i in range(len(data))]
        return hash_of_checksums(data, checksums)


def hash_of_checksums(
    data: EpisodeSource,
    checksums: Sequence[str],
    masks: Mapping[str, Sequence[int]] | None = None,
    *,
    with_path: bool = False,
) -> str:
    """Return the hash of a file whose episodes have these checksums, with its own masks or others."""
    masks = data.splits() if masks is None else masks
    splits = {name: set(members) for name, members in masks.items()}
    digests = []
    for i, checksum in enumerate(checksums):
        about = {k: data.episode_attribute(i, k) for k in (*IDENTITY, "model_sha256")}
        digests.append(episode_digest(checksum, about, [m for m in splits if i in splits[m]]))
    return combine_digests(digests, data.attribute("env_args", "{}"), with_path=with_path)
