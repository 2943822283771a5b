"""YAML of others: read as plain values, or refused in one sentence before it takes memory or time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simscaleai.errors import MissingFileError, UserError
from simscaleai.yaml_text import parse_yaml, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_what_settings_need_is_read(tmp_path: Path) -> None:
    text = "base: &base {lr: 1e-3, wide: yes}\nrun: {<<: *base, lr: 3e-4}\nnames: [a, 'b']\nnone:\n"
    assert parse_yaml(text, "x") == {
        "base": {"lr": 1e-3, "wide": True},
        "run": {"lr": 3e-4, "wide": True},
        "names": ["a", "b"],
        "none": None,
    }
    # as OmegaConf reads the same words on the command line
    text = "[1e5, -2_0.5E-3, 1.e3, 1_000, .5, 2026-01-02, 1e, e3]"
    assert parse_yaml(text, "x") == [1e5, -0.0205, 1e3, 1000, 0.5, "2026-01-02", "1e", "e3"]
    assert parse_yaml("", "x") is None and parse_yaml("9223372036854775807", "x") == 2**63 - 1
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfseed: 1\n")
    assert read_yaml(tmp_path / "a.yaml") == {"seed": 1}
    with pytest.raises(MissingFileError, match="no configuration file"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 20000 values"),
        ("a: &a {<<: [*a, *a]}", "refers to itself|undefined alias"),
        ("a: &a [*a]", "refers to itself"),
        ("a: " + "[" * 30_000, "nests deeper than 40"),
        ("\n".join(" " * i + "a:" for i in range(200)), "nests deeper than 40"),
        (
            "".join(f"k{i}: &k{i} [*k{i - 1}]\n" if i else "k0: &k0 [1]\n" for i in range(90)),
            "deep",
        ),
        ("seed: " + "9" * 5000, "integer of more than 63 bits"),
        ("seed: -" + "9" * 20, "integer of more than 63 bits"),
        ("seed: 0x" + "f" * 4000, "integer of more than 63 bits"),
        ("{" + "9" * 30 + ": 1}", "integer of more than 63 bits"),
        ("seed: " + ":".join(["59"] * 1000), "integer of more than 63 bits"),
        ("name: " + "a" * 10_000, "a value of 10000 characters"),
        ("# " + "a" * 70_000, "larger than 64 KiB"),
        ("seed: 1\nseed: 2", "line 2: found duplicate key seed"),
        ("seed: 1\n---\nseed: 2", "another document"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: *none", "undefined alias"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: !!timestamp 2020-13-45", "not valid YAML"),
        ("a: b\x00", "not valid YAML"),
        ("a: [", "not valid YAML: line"),
    ],
    ids=range(21),
)
def test_what_is_too_much_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse_yaml(text, "x.yaml")
    assert str(error.value).startswith("x.yaml ") and "\n" not in str(error.value)


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("seed: 1".encode("utf-16"))
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("a.yaml", "not text in UTF-8"), ("pipe", "named pipe"), (".", "folder")):
        with pytest.raises(UserError, match=message):
            read_yaml(tmp_path / name)
