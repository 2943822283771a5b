"""Worker processes: what goes wrong in one is a sentence, and none outlives the program."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from simscaleai.errors import UserError
from simscaleai.training.data.stream import BatchStream


class Numbers(Dataset[torch.Tensor]):
    """Six samples, the fourth of which does something."""

    def __init__(self, at_three: Any) -> None:
        self.at_three = at_three

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if i == 3:
            self.at_three()
        return {"x": torch.zeros(4)}


def refuse() -> None:
    raise UserError("data.h5: 'obs/image' of demo_0, step 3: an Error: in the middle.")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_descriptors() -> None:
    os._exit(errno.EMFILE)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    ("at_three", "message"),
    [
        (refuse, "^data.h5: 'obs/image' of demo_0, step 3: an Error: in the middle.$"),
        (no_descriptors, "^There are too few file descriptors .* raise the limit"),
        # after the one before, whose worker is still known
        (die, "^A worker process of the data has ended .* lower data.num_workers"),
    ],
)
def test_errors_are_one_sentence_and_end_the_workers(
    at_three: Any, message: str, persistent: bool
) -> None:
    loader = DataLoader(
        Numbers(at_three), batch_size=1, num_workers=1, persistent_workers=persistent
    )
    stream = BatchStream(loader)
    with pytest.raises(UserError, match=message) as error, stream:
        for _ in stream.rest_of_epoch():
            processes = list(stream._batches.batches._workers)  # type: ignore[union-attr]
    assert "\n" not in str(error.value)
    for process in processes:
        process.join(5)
        assert not process.is_alive()


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_too_few_descriptors(few_descriptors: None) -> None:
    stream = BatchStream(DataLoader(Numbers(refuse), batch_size=1, num_workers=2))
    with pytest.raises(UserError, match="too few file descriptors"), stream:
        next(stream.rest_of_epoch())


PROGRAM = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from simscaleai.training.data.stream import BatchStream
loader = DataLoader(TensorDataset(torch.zeros(100)), num_workers=1, persistent_workers=True)
shares = iter(BatchStream(loader))
next(shares)
raise RuntimeError("something else")
"""


def test_a_program_ends_whatever_it_ends_of() -> None:
    """Python joins its child processes after asking them by SIGTERM, which workers ignore."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(b"RuntimeError: something else")
