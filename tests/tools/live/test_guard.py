"""Strangers are turned away: other names, other pages' scripts, and other interfaces."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from simscaleai.errors import UserError
from simscaleai.tools.live.guard import exposure, listen, refusal, url


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8080"},
        {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
        {"Host": "[::1]:8080", "Origin": "http://[::1]:8080"},
        {"Host": "192.168.1.7:8080", "Origin": "http://192.168.1.7:8080"},
        {"Host": "Robot.lan", "Origin": "https://Robot.lan"},  # through a proxy
    ],
)
def test_its_own_page_is_answered(headers: dict[str, str]) -> None:
    assert refusal(headers, "Robot.lan") is None


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "name ''"),
        ({"Host": "evil.example:8080"}, "'evil.example'"),
        ({"Host": "localhost.evil.example"}, "'localhost.evil.example'"),
        ({"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}, "'evil.example'"),
        ({"Host": "127.0.0.1:8080", "Origin": "http://evil.example"}, "own page"),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:9090"}, "own page"),
        ({"Host": "127.0.0.1:8080", "Origin": "null"}, "own page"),
    ],
)
def test_others_are_not(headers: dict[str, str], why: str) -> None:
    assert why in (refusal(headers, "127.0.0.1") or "")


def test_a_taken_port_is_one_sentence() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="give another --host, or"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"Cannot listen at '203\.0\.113\.7'"):
        listen("203.0.113.7", 0)


def bound(address: str) -> socket.socket:
    return cast(Any, SimpleNamespace(getsockname=lambda: (address, 8080)))


def test_a_warning_where_others_can_reach_it() -> None:
    assert exposure(bound("127.0.0.1")) == exposure(bound("::1")) == ""
    for address in ("0.0.0.0", "::", "192.168.1.7"):
        warning = exposure(bound(address))
        assert "anyone who reaches" in warning and address in warning


def test_the_address_that_is_printed_can_be_opened() -> None:
    assert url(bound("0.0.0.0")) == "http://127.0.0.1:8080/"
    assert url(bound("::1")) == "http://[::1]:8080/"
    assert url(bound("192.168.1.7")) == "http://192.168.1.7:8080/"
