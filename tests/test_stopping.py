"""The first signal asks, the second one stops."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from simscaleai import stopping
from simscaleai.stopping import Stopped, StopSignals


def test_the_first_is_noted_and_the_second_acts() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_comes_twice_and_means_one(monkeypatch: pytest.MonkeyPatch) -> None:
    acted = []
    monkeypatch.setattr(stopping, "_ECHO_SECONDS", 0.2)
    before = signal.signal(signal.SIGTERM, lambda number, frame: acted.append(number))
    try:
        with StopSignals() as stop:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested == signal.SIGTERM and acted == []
            time.sleep(0.25)
            os.kill(os.getpid(), signal.SIGTERM)
            assert acted == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == signal.SIGTERM
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_attempt_is_left_at_once() -> None:
    reached = []

    def long_work() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("after the signal")
        return 1

    with StopSignals() as stop:
        assert stop.attempt(lambda: 3) == 3
        assert stop.attempt(long_work) is None
        assert stop.attempt(lambda: 3) is None  # there is no time for it any more
        assert stop.requested == signal.SIGTERM
    assert reached == []


def test_a_stopped_program_does_not_look_finished() -> None:
    assert Stopped(signal.SIGTERM, 7).code == 143
    assert Stopped(signal.SIGINT, 7).step == 7


def test_in_another_thread_nothing_is_caught() -> None:
    found = []

    def run() -> None:
        with StopSignals() as stop:
            found.append(stop.requested)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [None]
