"""The first signal asks, the second one stops."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from simscaleai.stopping import StopSignals


def test_the_first_is_noted_and_the_second_acts() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == signal.SIGTERM
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_nothing_is_caught() -> None:
    found = []

    def run() -> None:
        with StopSignals() as stop:
            found.append(stop.requested)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [None]
