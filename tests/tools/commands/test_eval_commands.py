"""What `simscale eval` prints and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import UserError
from simscaleai.evaluation.eval_files import EvalFiles
from simscaleai.tools.cli import main


def test_the_name_of_a_run(evaluate: Any) -> None:
    code, out, _ = evaluate()
    assert code == 0 and "success rate" in out and "final.pt" in out
    assert sorted(p.name for p in Path("runs/a").iterdir()) == [
        "eval_info.json",
        "eval_info_final_reach_2_seed0.json",
        "final.pt",
    ]


def test_a_report(evaluate: Any, monkeypatch: Any) -> None:
    def film(*args: Any) -> Any:
        raise UserError("There is nothing to render with.")

    monkeypatch.setattr("simscaleai.tools.report.report_parts.film_episodes", film)
    Path("runs/a/metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n')
    Path("runs/a/config.yaml").write_text("name: <b>bold</b>\n")
    code, out, _ = evaluate("--report", "--max-videos", "1")
    assert code == 0 and "Report: runs/a/report.html" in out and "never_reached" in out
    page = Path("runs/a/report.html").read_text()
    assert "<strong>0.0 % success</strong>" in page
    assert "0.0 to 65.8 %" in page  # Wilson, of 0 in 2
    assert "never reached (2)" in page and "2 ended here" in page
    assert "No videos: There is nothing to render with." in page
    assert "simscale eval runs/a/final.pt --n-episodes 2 --max-videos 1 --report</pre>" in page
    # over time, over the table, and the loss
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "Paths of the gripper in 2 episodes" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page and "<b>bold" not in page
    Path("other").mkdir()
    Path("other/report.html").write_text("mine")
    code, _, err = evaluate("--report", "--output", "other")
    assert code == 2 and "other/report.html is not a report of simscale" in err
    assert [p.name for p in Path("other").iterdir()] == ["report.html"]  # before the first episode


def test_a_report_of_several_policies(evaluate: Any) -> None:
    code, out, _ = evaluate("scripted", "--env-name", "reach", "--report", "--output", "both")
    assert code == 0 and "Report: both/report.html" in out
    page = Path("both/report.html").read_text()
    assert "scripted: 100.0 % success" in page and "a: 0.0 % success" in page
    assert "Success of each policy" in page and "scripted: failures" in page


def test_a_folder_that_cannot_be_written(evaluate: Any, monkeypatch: Any, caplog: Any) -> None:
    Path("file").touch()
    code, out, err = evaluate("--output", "file/there")
    assert code == 2 and out == "" and "Error: file/there/eval_info.json cannot be written" in err

    def refuse(self: Path, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    code, out, err = evaluate()
    assert code == 0 and "success rate" in out and "not saved" in out
    assert "The results will not be saved: runs/a/eval_info.json" in caplog.text


def test_a_disk_that_is_full_in_the_end(evaluate: Any, monkeypatch: Any) -> None:
    def full(self: EvalFiles, results: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EvalFiles, "write", full)
    code, out, err = evaluate()
    assert code == 2 and "success rate" in out and "not saved" in out
    assert err.splitlines()[-1].startswith("Error: The results are not saved: runs/a/eval_info_")


def test_settings_of_the_environment(evaluate: Any) -> None:
    """A result of other settings has a file of its own, and says which they were."""
    code, *_ = evaluate("--env", "max_episode_steps=2", "--camera-pose", "side:1,1,1:0,0,0")
    assert code == 0 and evaluate()[0] == 0
    files = {json.loads(p.read_text())["mean_length"]: p for p in Path("runs/a").glob("*seed0*")}
    assert set(files) == {2.0, 3.0} and "max-episode-steps-2" in files[2.0].name
    about = json.loads(files[2.0].read_text())["env_kwargs"]
    assert about == {"max_episode_steps": 2, "camera_poses": {"side": [1, 1, 1, 0, 0, 0]}}
    code, _, err = evaluate("--env", "control_dt=0.1")
    assert code == 2 and "control_dt is 0.1 s, expected 0.05 s" in err
    code, _, err = evaluate("--env", "robot=ur5e")
    assert code == 2 and "--robot" in err


def test_several_policies_at_once(evaluate: Any) -> None:
    code, out, err = evaluate("scripted", "nothing", "--env-name", "reach")
    # one line for each that could be evaluated, and the mistake in the end
    assert code == 2 and "Evaluations" in out
    assert "runs/a/" in out and "scripted" in out and "100.0 %" in out
    assert err.splitlines()[-1].startswith("Error: ") and "'nothing'" in err
    # the expert has no folder of its own
    assert not list(Path(".").glob("eval_info*"))


def test_until_an_interval(evaluate: Any) -> None:
    code, *_ = evaluate("--until-interval", "0.9")
    # a single failure has an interval of 79 %
    assert code == 0 and Path("runs/a/eval_info_final_reach_until0.9_seed0.json").exists()
    code, _, err = evaluate("--until-interval", "2")
    assert code == 2 and "--until-interval is 2.0" in err


def test_another_robot(evaluate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    # the policy reads 7 joints, and the UR5e has 6
    code, _, err = evaluate("--robot", "ur5e")
    assert code == 2 and "'joint_pos' has shape (6,), expected (7,)" in err
    with pytest.raises(SystemExit) as ended:
        main(["eval", "scripted", "--robot", "ur5e", "--n-episodes", "2", "--output", "results"])
    assert ended.value.code == 0
    found = json.loads(Path("results/eval_info.json").read_text())
    assert found["robot"] == "ur5e" and found["success_rate"] == 1.0
    assert Path(found["output_path"]).name == "eval_info_scripted_reach_2_seed0_ur5e.json"
