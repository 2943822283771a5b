"""Settings: defaults < file < overrides < keywords, typed, and nothing but data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simscaleai.config import change_config, load_config, to_yaml
from simscaleai.errors import MissingFileError, UserError


@dataclass
class Lens:
    name: str = "wide"
    width: int = 128


@dataclass
class Settings:
    rate: float = 0.002
    lenses: list[Lens] = field(default_factory=lambda: [Lens()])
    seed: int | None = None
    randomize: bool | str = False
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise UserError("rate must be positive.")


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("rate: 0.1\nseed: 1\nrandomize: light\n")
    loaded = load_config(Settings, file, ["seed=2", "randomize=heavy"], randomize=True)
    assert loaded == Settings(rate=0.1, seed=2, randomize=True)


def test_an_instance_is_changed(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("seed: 3\n")
    settings = Settings(rate=0.1, lenses=[Lens("a", 3)], seed=1)
    changed = change_config(settings, tmp_path / "s.yaml", randomize="heavy")
    assert changed == Settings(rate=0.1, lenses=[Lens("a", 3)], seed=3, randomize="heavy")
    assert settings.seed == 1


def test_nested_lists_and_dicts() -> None:
    overrides = ["lenses.0.width=64", "extra.depth=3", "extra.sizes=[1, 2]", "rate=1e-3"]
    assert load_config(Settings, overrides=overrides) == Settings(
        rate=0.001, lenses=[Lens(width=64)], extra={"depth": 3, "sizes": [1, 2]}
    )
    assert load_config(Settings, overrides=["lenses=[]"]).lenses == []
    assert load_config(Settings, lenses=[Lens("a"), {"name": "b"}]).lenses == [Lens("a"), Lens("b")]


def test_what_is_changed_in_one_is_changed_in_no_other() -> None:
    for overrides in ([], ["lenses.0.width=64", "extra.depth=3"]):
        loaded = load_config(Settings, overrides=overrides)
        loaded.lenses.append(Lens())
        loaded.extra["more"] = 1
    assert load_config(Settings) == Settings()


def test_yaml_round_trip(tmp_path: Path) -> None:
    settings = Settings(rate=0.5, lenses=[Lens("a", 3)], seed=0, extra={"a": [1, None]})
    (tmp_path / "s.yaml").write_text(to_yaml(settings))
    assert load_config(Settings, tmp_path / "s.yaml") == settings


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").touch()
    assert load_config(Settings, tmp_path / "s.yaml") == Settings()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sed=1", "Unknown Settings setting 'sed'.*Did you mean 'seed'"),
        ("lenses.0.widht=1", "Unknown Lens setting 'widht'; known: name, width. Did you mean"),
        ("rate=fast", "'rate'.*'fast'.*Float"),
        ("lenses.0.width=1.5", "width.*Integer"),
        ("lenses.one.width=1", "lenses.one.width=1"),
        ("seed", "write KEY=VALUE"),
        ("=1", "write KEY=VALUE"),
        ("seed=[", "not valid YAML"),
        ("rate=-1", "rate must be positive"),
        ("randomize=${oc.env:HOME}", "refers to another value"),
        ("extra.a={b: '${rate}'}", "refers to another value"),
    ],
)
def test_bad_override_is_one_sentence(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_config(Settings, overrides=[word])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", "Unknown Settings setting 'sed'"),
        ("- 1\n- 2", "must hold a mapping"),
        ("rate: 1\nseed: [", "not valid YAML: line"),
        ("extra: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("extra: {a: ['${oc.env:HOME}']}", "refers to another value"),
    ],
)
def test_bad_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_config(Settings, file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_bad_keyword(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no configuration file"):
        load_config(Settings, tmp_path / "none.yaml")
    with pytest.raises(UserError, match="Did you mean 'seed'"):
        load_config(Settings, sead=1)


def test_target_is_data_not_code() -> None:
    word = "extra={_target_: os.getcwd}"
    assert load_config(Settings, overrides=[word]).extra == {"_target_": "os.getcwd"}
