from __future__ import annotations

import pytest

from simscaleai.tools.console import finish, results, table, text


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("success_rate", 0.25, "25.0 %"),
        ("success_ci", (0.1, 0.45), "10.0 % to 45.0 %"),
        ("success_rate", float("nan"), "not reported"),
        ("success_ci", (float("nan"), float("nan")), "not reported"),
        ("eval_success_at_end", 1.0, "100.0 %"),
        ("data_wait_share", 0.031, "3.1 %"),
        ("samples_per_second", 30421.2, "30,421"),
        ("loss", 0.0123456, "0.01235"),
        ("seed", 0, "0"),
        ("randomize", None, "no"),
        ("stages", {"missed": 2}, "missed: 2"),
        ("episodes", [1, 2], ""),
    ],
)
def test_values_as_a_person_reads_them(key: str, value: object, shown: str) -> None:
    assert text(key, value) == shown


def test_lists_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    results("Title", {"eval_loss": 0.5, "episodes": [1], "note": "[bold]"})
    shown = capsys.readouterr().out
    assert "eval loss" in shown and "[bold]" in shown and "episodes" not in shown


def test_names_mean_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    results(
        "Title",
        {"mean_reward": -64.4, "eval_success_ci": (0.1, 0.2), "checkpoint_sha256": "ab" * 32},
    )
    shown = capsys.readouterr().out
    assert "mean return" in shown and "eval 95 % interval of the success rate" in shown
    assert "abababababab " in shown and "reward" not in shown and "ab" * 7 not in shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.14, "3.1 s"), (61.0, "1 min 1 s"), (7384.0, "2 h 3 min")]
)
def test_a_command_ends_with_its_time_and_what_comes_next(
    seconds: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(seconds, "simscale eval a")
    assert capsys.readouterr().out == f"Took {said}.\nNext: simscale eval a\n"


def test_names_are_neither_markup_nor_commands(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "[red]x[/blue]\x1b[31m\\"
    table(evil, [evil, ""], [(evil, evil)])
    shown = "".join(capsys.readouterr().out.split())
    assert "\x1b" not in shown and shown.count("[red]x[/blue]\\x1b[31m\\") >= 3
