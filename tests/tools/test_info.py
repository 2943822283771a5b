"""What `simscale info` finds."""

from __future__ import annotations

import h5py

from simscaleai.tools import info


def test_versions_and_assets() -> None:
    versions = info.versions()
    assert versions["mujoco"].split(".")[0] >= "4"
    assert versions["HDF5"] == h5py.version.hdf5_version
    assert (info.assets() / "panda.xml").is_file()


def test_a_broken_engine_says_why() -> None:
    assert info._runs("pass") == "works"
    assert info._runs("raise OSError('no such library')") == "no: OSError: no such library"
    assert info._runs("import os; os._exit(3)") == "no: exit code 3"
    assert info._runs("import os, sys; sys.exit(os.environ['WHY'])", WHY="because") == "no: because"
