"""How episodes are divided among worker processes."""

from __future__ import annotations

import threading
from contextlib import suppress
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from simscaleai.datagen import worker_pool


@pytest.mark.parametrize(("count", "shares"), [(7, [3, 2, 2]), (2, [1, 1]), (1, [1])])
def test_no_worker_gets_an_empty_share(monkeypatch, count, shares):
    got = []

    def spawn(main, job, registered):
        here, there = Pipe()

        def serve():
            with suppress(EOFError):  # a worker without a share hears nothing until the end
                got.append(there.recv())
                there.send(None)

        threading.Thread(target=serve, daemon=True).start()
        return None, here

    monkeypatch.setattr(worker_pool, "spawn", spawn)
    pool = worker_pool.WorkerPool(SimpleNamespace(registered=lambda: None), 3)
    pool.run(list(range(count)), lambda progress: None)
    assert sorted(map(len, got), reverse=True) == shares
    assert sorted(index for share in got for index in share) == list(range(count))
