"""Whether the HDF5 library that is installed may read untrusted files."""

from __future__ import annotations

SAFE_VERSION = (1, 14, 6)  # of the HDF5 library


def library_problem(version: tuple[int, ...]) -> str:
    """Return why an HDF5 library of this version must not read untrusted files; "" if it is safe."""
    if version >= SAFE_VERSION:
        return ""
    found, needed = (".".join(map(str, v)) for v in (version, SAFE_VERSION))
    return (
        f"The HDF5 library is {found}, in which a damaged file can run code (CVE-2026-26200, fixed in"
        f" {needed}); update it with: pip install -U h5py, and open no file of strangers before."
    )
