"""A package outside the repository: its task, robot, model and agent in every command, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest

from simscaleai import plugins
from simscaleai.contract import EnvContract
from simscaleai.registry import Registry
from simscaleai.rollout.policy_environment import policy_environment
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.robots.robot import ASSETS
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.tools import hydra_launch

REPOSITORY = Path(__file__).parents[2]
FILES = {
    # The model and the agent by the name of their place: PyTorch is imported by who uses them.
    "__init__.py": """
        from simscaleai.models import register_model
        from simscaleai.sim import register_env
        from simscaleai.sim.robots.robot import register_robot
        from my_lab.arm import MY_ARM
        from my_lab.task import MyReach

        register_env("my_reach", MyReach)
        register_robot(MY_ARM)
        register_model("my_model")("my_lab.model:MyModel")
    """,
    "task.py": """
        from simscaleai.sim.tasks.reach import Reach

        class MyReach(Reach):
            name = "my_reach"
            instructions = ("touch the ball of our lab",)
            threshold = 0.03
    """,
    "arm.py": """
        from dataclasses import replace
        from pathlib import Path
        from simscaleai.sim.robots.ur5e import UR5E

        axes = tuple(name.replace("_joint", "_axis") for name in UR5E.arm_joints)
        MY_ARM = replace(
            UR5E,
            name="my_arm",
            mjcf=Path(__file__).with_name("my_arm.xml"),
            arm_joints=axes,
            arm_actuators=axes,
            randomization=None,
        )
    """,
    "model.py": """
        import torch
        from torch import nn

        class MyModel(nn.Module):
            def __init__(self, state_dim: int = 20, action_dim: int = 4) -> None:
                super().__init__()
                self.net = nn.Linear(state_dim, action_dim)

            def forward(self, batch):
                actions = self.predict(batch["observations"])
                expected = batch["actions"].reshape(actions.shape)
                return {"loss": (actions - expected).pow(2).mean(), "predicted_actions": actions}

            def predict(self, obs):
                return self.net(obs["state"])
    """,
}
AGENT = """
    from simscaleai.rl.agents.agent import register_agent
    from simscaleai.rl.agents.cem import CEMAgent

    @register_agent("my_cem")
    class MyCEM(CEMAgent):
        pass
"""
ENTRY_POINTS = "[simscaleai.plugins]\nour lab = my_lab\n"
DATAGEN = (
    "datagen --env-name my_reach --robot my_arm --n-episodes 4 --max-steps 8 --workers 2 -o d.h5"
)
TRAIN = "train --model my_model --dataset d.h5 --max-steps 3 --batch-size 8 --device cpu"
EVAL = "eval checkpoints/final.pt --n-episodes 2"
SWEEP = "sweep --model my_model --dataset d.h5 --max-steps 2 --batch-size 8 --device cpu seed=0,1 --name s"
RL = "rl --agent my_cem --env-name my_reach --num-envs 4 --total-steps 8"
RL_WORDS = (
    "agent.n_steps=2 env.robot=my_arm env.max_episode_steps=4 eval_episodes=2 show_progress=false"
)

Simscale = Callable[..., tuple[int, str, str]]


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        (folder / name).write_text("\n".join(line[indent:] for line in lines) + "\n")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The folder that the package `my_lab` is in; nothing says yet that it is a plugin."""
    folder = tmp_path / "packages"
    write(folder / "my_lab", FILES)
    mjcf = (ASSETS / "ur5e.xml").read_text().replace("_joint", "_axis")
    (folder / "my_lab" / "my_arm.xml").write_text(mjcf)
    return folder


@pytest.fixture
def installed(lab: Path) -> Path:
    """The same, with what an installed package leaves beside itself."""
    about = "Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n"
    write(lab / "my_lab-1.0.dist-info", {"METADATA": about, "entry_points.txt": ENTRY_POINTS})
    return lab


@pytest.fixture
def simscale(tmp_path: Path, lab: Path) -> Simscale:
    """Run a command in a process of its own; give exit code, output and complaints."""

    def run(*words: str, **variables: str) -> tuple[int, str, str]:
        path = os.pathsep.join([str(REPOSITORY), str(lab)])
        ended = subprocess.run(
            [sys.executable, "-m", "simscaleai.tools.cli", *" ".join(words).split()],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **variables},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.returncode, ended.stdout, ended.stderr

    return run


def succeed(simscale: Simscale, *words: str, **variables: str) -> str:
    code, out, err = simscale(*words, **variables)
    assert code == 0, f"{words}: {out}{err}"
    return out


def test_data_by_two_workers(simscale: Simscale, tmp_path: Path) -> None:
    assert "good" in succeed(simscale, DATAGEN, "--import my_lab")
    with h5py.File(tmp_path / "d.h5") as file:
        recorded = file["data"].attrs["env_args"]
        assert "simscaleai/MyReach-v0" in recorded and '"my_arm"' in recorded


@pytest.mark.slow
def test_data_training_and_evaluation(simscale: Simscale, tmp_path: Path) -> None:
    ours = "--import my_lab"
    succeed(simscale, DATAGEN, ours)
    succeed(simscale, TRAIN, ours)
    text = json.dumps(load_checkpoint(tmp_path / "checkpoints" / "final.pt"), default=str)
    assert "my_reach" in text and "my_lab" not in text  # names alone, and nothing to import
    # without the package, in one sentence: what is unknown and the remedy
    code, _, err = simscale(EVAL)
    assert code == 2 and len(err.splitlines()) == 1, err
    assert "Unknown model 'my_model'; known: act, bc" in err and "come with --import" in err
    assert "success" in succeed(simscale, EVAL, ours)


def test_a_checkpoint_of_a_foreign_task_or_robot_names_it(refused: Callable[..., str]) -> None:
    # names that the examples of no other test register
    known = make_env("reach", cameras=[]).contract.to_dict()
    for key, changed in {
        "environment 'nobodys_reach'": {**known, "env_name": "nobodys_reach"},
        "robot 'nobodys_arm'": {
            **known,
            "env_config": {**known["env_config"], "robot": "nobodys_arm"},
        },
    }.items():
        contract = EnvContract.from_dict(changed)

        def make(contract: EnvContract = contract) -> None:
            name, config = policy_environment(contract)
            make_vec_env(name, 1, config=config)

        refused(make, f"Unknown {key}; known: ", "names of your own come with --import")


def test_unknown_names_say_how_to_bring_them(simscale: Simscale) -> None:
    code, _, err = simscale("datagen --env-name my_reach")
    assert code == 2 and "Unknown environment 'my_reach'" in err
    assert "; names of your own come with --import MODULE (or SIMSCALE_IMPORT)." in err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["option", "entry point"])
def test_every_command(
    how: str, simscale: Simscale, lab: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write(tmp_path / "elsewhere", {"my_agent.py": AGENT})
    agent = f"--import {tmp_path / 'elsewhere' / 'my_agent.py'}"
    ours = "--import my_lab" if how == "option" else ""
    if how == "entry point":
        request.getfixturevalue("installed")
    commands = [
        DATAGEN,
        "validate d.h5",
        TRAIN,
        TRAIN + " --name own eval.env_episodes=2",
        EVAL,
        "viz-env --env-name my_reach --n-steps 4 --size 32 --save e.png",
        "viz-cameras --env-name my_reach --n-steps 0 --save c.png",
        "viz-video --env-name my_reach --save v.mp4 --size 64 --n-steps 3",
        "viz-env --policy checkpoints/final.pt --n-steps 4 --size 32 --save p.png",
        "viz-dataset d.h5 --save d.png",
        "viz-trajectory d.h5 --save t.png",
        "render d.h5 --cameras front_cam --image-size 16 -o i.h5",
        f"{RL} {RL_WORDS} {agent}",
        SWEEP,
        "list-models my_model",
    ]
    for command in commands:
        succeed(simscale, command, ours)
    listed = succeed(simscale, "list-envs", ours)
    assert "touch the ball of our lab" in listed and "reach_color" in listed


@pytest.mark.slow
def test_a_file_named_by_the_variable(simscale: Simscale, tmp_path: Path) -> None:
    register = "\n\nfrom simscaleai.sim import register_env\nregister_env('my_reach', MyReach)\n"
    write(tmp_path / "elsewhere", {"touch.py": FILES["task.py"]})
    file = tmp_path / "elsewhere" / "touch.py"
    file.write_text(file.read_text() + register)
    succeed(simscale, DATAGEN.replace("--robot my_arm", ""), SIMSCALE_IMPORT=str(file))
    again = "datagen --env-name my_reach --n-episodes 2 --workers 2 -o e.h5"
    out = succeed(simscale, again, "--import elsewhere/touch.py")
    assert "good" in out


# --- without a process of their own -----------------------------------------------------------------------


@pytest.fixture
def fresh(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that has not looked for plugins yet, and finds those in `lab`."""
    monkeypatch.setattr(plugins, "_states", {})
    monkeypatch.setattr(plugins, "_installed_tried", False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(lab)])
    monkeypatch.setenv(plugins.VARIABLE, "")
    return lab


def things() -> Registry:
    return Registry("thing", {"built_in": "json:loads"})


def test_installed_plugins_load_when_a_name_is_not_known(fresh: Path, installed: Path) -> None:
    write(fresh / "my_lab", {"__init__.py": "raise RuntimeError('no license')"})
    found = things()
    assert found.get("built_in") is json.loads
    assert not plugins._states  # nobody needed one
    assert found.names() == ["built_in"]
    with pytest.raises(
        ValueError, match=r"Unknown thing 'x'.* 'our lab' of the package 'my-lab' .*no license"
    ):
        found.get("x")


def test_a_requested_plugin_that_is_broken_is_one_sentence(
    fresh: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    write(tmp_path, {"json.py": "pass", "ends.py": "raise SystemExit('bye')"})
    cases = {
        "no_such_module": "No module named 'no_such_module'",
        str(tmp_path / "none.py"): "there is no file",
        str(tmp_path / "json.py"): "another module is called 'json'; rename the file",
        str(tmp_path / "ends.py"): "SystemExit: bye",
    }
    for name, cause in cases.items():
        os.environ[plugins.VARIABLE] = name
        refused(lambda: things().get("built_in"), repr(name), cause, "--import")
        refused(things().names, repr(name), cause)
        assert cause in plugins.states()[name]
        assert things().names() == ["built_in"]  # told already


def test_requests_add_up(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ[plugins.VARIABLE] = os.pathsep.join(["a.b", "c"])
    monkeypatch.chdir(fresh)
    plugins.request(["d", "c", "arm.py"])
    assert plugins.requested() == ["a.b", "c", "d", str(fresh / "arm.py")]
    plugins.request([])
    assert len(plugins.requested()) == 4


def test_a_run_of_a_sweep_on_another_machine_requests_the_same(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.request(["my_lab"])
    sent = partial(hydra_launch._call, lambda number: None, plugins.requested())
    monkeypatch.setenv(plugins.VARIABLE, "theirs")
    sent(SimpleNamespace(job=0))
    assert plugins.requested() == ["theirs", "my_lab"]


def test_list_envs_and_info_survive_a_broken_plugin(simscale: Simscale) -> None:
    code, out, err = simscale("list-envs --import nope")
    assert code == 0 and "reach_color" in out and "cannot be made" not in out
    assert err.startswith("The plugin 'nope' cannot be imported") and len(err.splitlines()) == 1


@pytest.mark.slow
def test_info_lists_plugins(simscale: Simscale, installed: Path) -> None:
    out = succeed(simscale, "info --import nope")
    assert "The plugin 'nope' cannot be imported" in out and "our lab" in out and "loaded" in out
    assert "no: " not in out.partition("warp")[2]
