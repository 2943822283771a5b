"""The whole loop on one task, as `make demo` and `simscale demo` run it.

It generates demonstrations with the scripted expert, trains a policy on them by behavior cloning, evaluates
the policy in 100 episodes that are not in the data, records a contact sheet and a video, and writes a report,
`report.html`. All files are in `runs/demo/`; the policy of an earlier demo is archived.
"""

from __future__ import annotations

import itertools
import json
import shlex
import time
from pathlib import Path
from typing import TypedDict

from simscaleai.datagen import generate_dataset
from simscaleai.errors import UserError
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
from simscaleai.evaluation.path_recorder import PathRecorder
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.tools.console import table, text
from simscaleai.tools.figures.rollout import record
from simscaleai.tools.report.eval_report import write_eval_report
from simscaleai.tools.report.report_page import REPORT
from simscaleai.tools.visualize import contact_sheet, save_or_show, write_rollout
from simscaleai.training import TrainConfig, train_policy

FOLDER = Path("runs/demo")
SHEET, VIDEO = "contact_sheet.png", "rollout.mp4"
SHEET_EPISODES = 4  # episodes on the contact sheet


class DemoStage(TypedDict):
    """Outcome of one stage of the demo."""

    stage: str
    result: str
    seconds: str


class DemoSummary(TypedDict):
    """Outcome of the demo."""

    success_rate: float
    success_ci: list[float]  # 95 % interval
    stages: list[DemoStage]


def run_demo(
    folder: Path = FOLDER,
    env_name: str = "pick_place",
    n_demonstrations: int = 2000,
    max_steps: int = 8000,
    n_episodes: int = 100,
    n_filmed: int = 9,
    size: int = 240,
) -> DemoSummary:
    """Run the loop in `folder`, print a table of its stages and write it to `summary.json`.

    Args:
      folder: folder of all files.
      env_name: name of the environment.
      n_demonstrations: number of episodes of the expert.
      max_steps: optimizer steps of training.
      n_episodes: number of episodes of the evaluation.
      n_filmed: number of episodes in the video.
      size: height and width of an episode in the video, pixels.

    Returns:
      {"success_rate", "success_ci", "stages": [{"stage", "result", "seconds"}, ...]}.
    """
    clock = [time.perf_counter()]
    data = generate_dataset(
        env_name,
        n_demonstrations,
        str(folder / "demonstrations.h5"),
        "scripted",
        domain_randomization=False,
        only_success=True,
        noise=0.2,  # the clone also sees states beside the expert's path
        overwrite=True,
    )
    clock.append(time.perf_counter())
    settings = TrainConfig(
        dataset_path=data["output_path"],
        checkpoint_dir=str(folder),
        max_steps=max_steps,
        batch_size=256,
        lr=1e-3,
        save_every=0,  # only `final.pt`: training takes minutes
        log_every=500,
    )
    metrics = train_policy(settings)
    clock.append(time.perf_counter())
    measured = SourceEvaluation(n_episodes=n_episodes, output_dir=str(folder))
    paths = PathRecorder()
    evaluation = evaluate_source(str(folder / "final.pt"), measured, [paths])
    clock.append(time.perf_counter())
    images = film(folder, n_filmed, size)
    clock.append(time.perf_counter())
    command = _command(folder, env_name, n_demonstrations, max_steps, n_episodes)
    write_eval_report(folder / REPORT, [evaluation], measured, [paths], command)
    clock.append(time.perf_counter())

    rate, interval = evaluation["success_rate"], evaluation["success_ci"]
    results = {
        "demonstrations": f"{data['total_episodes']} episodes, {data['total_steps']} steps",
        "training": f"{max_steps} steps of behavior cloning, loss {metrics['loss']:.4f}",
        "evaluation": f"{text('success_rate', rate)} success in {n_episodes} unseen episodes,"
        f" 95 % interval {text('success_ci', interval)}",
        "images": images,
        "report": REPORT,
    }
    seconds = [round(end - start, 1) for start, end in itertools.pairwise(clock)]
    rows = [(*item, f"{took:.0f}") for item, took in zip(results.items(), seconds, strict=True)]
    table(f"{env_name}, in {folder}/", ["stage", "result", "seconds"], rows)
    stages = [DemoStage(stage=row[0], result=row[1], seconds=row[2]) for row in rows]
    summary = DemoSummary(success_rate=rate, success_ci=list(interval), stages=stages)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _command(
    folder: Path, env_name: str, n_demonstrations: int, max_steps: int, n_episodes: int
) -> str:
    """Return the command that runs the same demo."""
    words = [
        "simscale",
        "demo",
        "--env-name",
        env_name,
        "--n-demonstrations",
        str(n_demonstrations),
    ]
    words += ["--max-steps", str(max_steps), "--n-episodes", str(n_episodes)]
    return shlex.join([*words, "--output", str(folder)])


def film(folder: Path, n_episodes: int, size: int) -> str:
    """Draw the contact sheet and the video of `final.pt`; return their names, or the reason why not.

    A machine that cannot render must not lose the results of the demo.
    """
    try:
        source = find_policy_source(str(folder / "final.pt"))
        seconds = source.config.control_dt
        snapshots = list(record(source, n_episodes, size=(size, size)))
        first = [snapshot.first(SHEET_EPISODES) for snapshot in snapshots]
        title = f"{source.env_name}, {source.title}"
        save_or_show(contact_sheet(first, seconds, title), folder / SHEET)
        write_rollout(folder / VIDEO, snapshots, seconds)
    except UserError as error:
        return f"none: {error}"
    return f"{SHEET}, {VIDEO}"
