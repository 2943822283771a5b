"""Numbers, paths and flags of any kind become Python's own at the door, or are refused in a sentence."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from simscaleai.config import load_config, to_yaml
from simscaleai.convert import Converted, as_flag, convert, converted, plain
from simscaleai.errors import UserError


class Number(IntEnum):
    THREE = 3


class Word(StrEnum):
    LIGHT = "light"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (np.int64(3), 3),
        (np.float32(0.1), 0.1),
        (torch.tensor(0.1), 0.1),
        (np.array([0.1, 1e-3], np.float32), [0.1, 0.001]),
        (np.float64(0.1) + 0.2, 0.1 + 0.2),
        (np.bool_(True), True),
        (np.array(3), 3),
        (np.array([1, 2]), [1, 2]),
        (np.str_("a"), "a"),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (torch.tensor(True), True),
        (Fraction(1, 2), 0.5),
        (Decimal("0.5"), 0.5),
        (Number.THREE, 3),
        (Word.LIGHT, "light"),
        (Path("a/b"), "a/b"),
        (OrderedDict(a=(np.int8(1), [Path("x")])), {"a": (1, ["x"])}),
        (OmegaConf.create({"a": [1, {"b": 2}]}), {"a": [1, {"b": 2}]}),
        (None, None),
    ],
)
def test_plain_values(given: Any, wanted: Any) -> None:
    found = plain(given)
    assert found == wanted and type(found) is type(wanted)
    json.dumps(found)


def test_what_is_no_value_is_left_alone() -> None:
    tensor, function = torch.zeros(2), print
    assert plain(tensor) is tensor and plain(function) is function


@dataclass
class Lens(Converted):
    width: int = 128


@dataclass
class Settings(Converted):
    lr: float = 1e-3
    seed: int | None = None
    folder: str = "runs"
    place: Path = Path("a")
    strict: bool = False
    level: bool | str = False
    keys: list[str] | None = None
    lenses: list[Lens] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


def test_fields_have_their_type_however_they_are_assigned() -> None:
    settings = Settings(np.logspace(-4, -3, 3)[1], np.int64(3), Path("runs/a"))
    settings.strict, settings.level, settings.keys = np.bool_(True), np.bool_(False), "ee_pos"
    settings.extra = {"hidden": np.int64(64), "to": Path("b")}
    assert (type(settings.lr), type(settings.seed), settings.folder) == (float, int, "runs/a")
    assert (settings.strict, settings.level, settings.keys) == (True, False, ["ee_pos"])
    assert settings.extra == {"hidden": 64, "to": "b"}
    settings.lr, settings.seed, settings.strict = 1, 1e5, "False"
    assert (settings.lr, settings.seed, settings.strict) == (1.0, 100_000, False)
    settings.lr, settings.seed = torch.tensor([0.5]), np.array([7])
    assert (settings.lr, settings.seed) == (0.5, 7)
    settings.seed, settings.keys = None, ("a", "b")  # type: ignore[assignment]
    assert settings.seed is None and settings.keys == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", 2.5, "Settings.seed is 2.5; it must be a whole number"),
        ("seed", float("nan"), "Settings.seed is nan; it must be a whole number"),
        ("seed", "three", "Settings.seed is 'three'; it must be a whole number"),
        ("lr", [1, 2], r"Settings.lr is \[1, 2\]; it must be a number"),
        ("strict", "perhaps", "Settings.strict is 'perhaps'; it must be true or false"),
        ("folder", object, "Settings.folder is .*; it must be text"),
        ("lr", None, "Settings.lr is None; it must be a number"),
    ],
)
def test_what_can_mean_nothing_is_a_sentence(name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**{name: value})


def test_settings_of_a_dataclass_that_knows_nothing_of_this() -> None:
    @dataclass
    class Theirs:
        lr: float = 1e-3
        seed: int = 0
        lenses: list[Lens] = field(default_factory=list)

    lens = Lens()
    object.__setattr__(lens, "width", np.int64(64))
    loaded = load_config(Theirs, lr=np.float32(0.5), seed=np.int64(2), lenses=[lens])
    assert loaded == Theirs(0.5, 2, [Lens(64)])
    assert load_config(Theirs, overrides=[], **OmegaConf.create({"seed": 4})).seed == 4
    assert "seed: 3" in to_yaml(Theirs(seed=np.int64(3)))  # type: ignore[arg-type]


def test_arguments_are_converted_by_their_annotations() -> None:
    @converted
    def given(
        count: int, path: str | Path, names: list[str], device: str = "cpu", other: Any = None
    ) -> Any:
        return count, path, names, device, other

    marker = np.float32(1)
    names = np.array(["a", "b"])
    device: Any = torch.device("cpu")
    found = given(np.int64(2), Path("x"), names, device=device, other=marker)  # type: ignore[arg-type]
    assert found == (2, "x", ["a", "b"], "cpu", marker) and found[4] is marker
    with pytest.raises(UserError, match=r"count is 2.5; it must be a whole number"):
        given(2.5, "x", [])  # type: ignore[arg-type]
    given.__wrapped__.__annotations__["other"] = "KnownToTypeCheckers"  # type: ignore[attr-defined]
    assert given(1, "x", [], other=marker)[4] is marker
    with pytest.raises(TypeError, match="given"):
        given()  # type: ignore[call-arg]


YES = [True, 1, 1.0, np.float32(1), np.int64(1), np.array([True]), np.array(1), "True", "true"]
YES += [torch.tensor([[True]]), b"yes", ["on"]]
NO = [False, 0, np.float32(0), np.bool_(False), np.array([[0]]), "False", "false", "0", b"no"]
NO += [torch.tensor(0)]


def test_flags_in_all_their_kinds() -> None:
    assert [as_flag(value) for value in YES] == [True] * len(YES)
    assert [as_flag(value) for value in NO] == [False] * len(NO)


def test_flags_that_say_nothing_and_things_that_are_none() -> None:
    assert as_flag(None) is None and as_flag(np.nan) is None
    for value in ("perhaps", [True, False], object()):
        with pytest.raises(ValueError, match="neither true nor false"):
            as_flag(value)


def test_a_path_may_stay_one() -> None:
    assert convert(Path("a"), Path, "x") == Path("a") == convert("a", Path, "x")
