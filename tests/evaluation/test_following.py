"""Which object a policy goes for is counted apart from success, and for every instruction of a scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from simscaleai.errors import UserError
from simscaleai.evaluation import EvalConfig, evaluate_checkpoint, evaluate_policy
from simscaleai.evaluation.following import measure_following, run_every_instruction
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.models import create_model, register_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.colors import COLORS
from simscaleai.storage.checkpoint import save_checkpoint
from simscaleai.tools.cli import main

Act = Callable[[dict[str, np.ndarray]], np.ndarray]


def episode(seed: int, approached: str | None, success: bool) -> EpisodeResult:
    return EpisodeResult(0, seed, success, success, 0.0, 1, None, approached=approached)


def goes_to(place: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Act:
    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        action = np.zeros((*obs["ee_pos"].shape[:-1], 4), dtype=np.float32)
        action[..., :3] = np.clip((place(obs) - obs["ee_pos"]) / 0.05, -1, 1)
        return action

    return act


def test_shares_and_scenes_add_up() -> None:
    # two scenes of two instructions: the right object in 3 of 4 episodes, in both of them in scene 7 alone
    results = [
        episode(7, "right", True),
        episode(7, "right", False),
        episode(8, "right", True),
        episode(8, "wrong", True),
        episode(9, None, True),  # says nothing
    ]
    found = measure_following(results)
    counts = {name: (share["count"], share["n"]) for name, share in found.items()}
    assert counts == {
        "approached_right": (3, 4),
        "approached_wrong": (1, 4),
        "approached_none": (0, 4),
        "strict": (1, 2),
        "strict_success": (1, 2),  # scene 8: both succeeded, whatever was approached first
    }
    assert found["approached_right"]["rate"] == 0.75
    assert found["approached_right"]["ci"] == wilson_interval(3, 4)
    assert "strict" not in measure_following([episode(1, "none", False)])
    assert measure_following([episode(1, None, True)]) == {}


@pytest.mark.parametrize("name", ["reach_color", "pick_place_color"])
def test_the_expert_follows_every_instruction(name: str) -> None:
    envs = make_vec_env(name, 6, autoreset_mode="disabled", dt=0.01)
    # the way to an object is enough here
    config = EvalConfig(n_episodes=4, max_steps=20, every_instruction=True)
    found = evaluate_policy(envs, envs.task.expert(), config)
    assert found["n_episodes"] == 12
    assert found["following"]["strict"]["count"] == 4 == found["following"]["strict"]["n"]
    assert [e["category"] for e in found["episodes"]] == list(COLORS) * 4
    seeds = [e["seed"] for e in found["episodes"]]
    assert seeds[0::3] == seeds[1::3] == seeds[2::3] and len(set(seeds)) == 4


def test_a_policy_that_ignores_the_instruction_passes_no_scene() -> None:
    config = EvalConfig(n_episodes=4, max_steps=20, every_instruction=True)
    green = goes_to(lambda obs: obs["green_pos"])
    envs = make_vec_env("reach_color", 4, autoreset_mode="same_step", dt=0.01)
    found = evaluate_policy(envs, green, config)["following"]
    # asked for three colors, it is right once in each of 4 scenes
    assert {k: (v["count"], v["n"]) for k, v in found.items()} == {
        "approached_right": (4, 12),
        "approached_wrong": (8, 12),
        "approached_none": (0, 12),
        "strict": (0, 4),
        "strict_success": (0, 4),
    }
    one = make_env("reach_color", cameras=[], dt=0.01)
    assert evaluate_policy(one, green, config)["following"] == found
    # and afterwards episodes ask for what their seed draws
    assert one.task._asked is None and envs.task._asked is None


def test_the_first_object_counts_and_staying_away_is_none() -> None:
    envs = make_vec_env("reach_color", 1, autoreset_mode="disabled", dt=0.01)
    envs.task.ask("red")
    envs.reset(seed=0)
    info: Any = {}
    for color in ("blue", "red"):  # near blue first, then at red
        for _ in range(25):
            obs = envs.task.observe(envs.sim)
            *_, info = envs.step(goes_to(lambda o, c=color: o[f"{c}_pos"])(obs))
    assert COLORS[info["approached"][0]] == "blue" and COLORS[info["wanted"][0]] == "red"
    config = EvalConfig(n_episodes=2, max_steps=3)
    found = evaluate_policy(envs, goes_to(lambda obs: obs["ee_pos"]), config)
    assert found["following"]["approached_none"]["rate"] == 1.0


class Foreign(gymnasium.Env[Any, Any]):
    """Another package's environment, whose info has the two numbers."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.wanted = int(self.np_random.integers(2))
        return np.zeros(2, np.float32), self.info(-1)

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, True, False, self.info(int(action[0] > 0))

    def info(self, approached: int) -> dict[str, Any]:
        return {"wanted": self.wanted, "approached": approached, "success": False}


def test_environments_of_other_packages_may_report_it() -> None:
    found = evaluate_policy(Foreign(), lambda obs: np.ones(1), EvalConfig(n_episodes=10))
    right = found["following"]["approached_right"]["count"]
    assert 0 < right < 10 and found["following"]["approached_wrong"]["count"] == 10 - right
    with pytest.raises(UserError, match="no choice of them"):
        evaluate_policy(Foreign(), lambda obs: np.ones(1), EvalConfig(every_instruction=True))


def test_what_cannot_be_asked_is_refused() -> None:
    reach = make_vec_env("reach", 1, autoreset_mode="disabled")
    with pytest.raises(UserError, match="'reach' has no requests"):
        reach.task.ask("red")
    with pytest.raises(UserError, match="no choice of them"):
        next(run_every_instruction(reach, reach.task.expert(), [1]))
    color = make_vec_env("reach_color", 1, autoreset_mode="disabled")
    with pytest.raises(UserError, match=r"'gren'.*Did you mean 'green'"):
        color.task.ask("gren")
    filmed = EvalConfig(every_instruction=True, save_videos=True)
    with pytest.raises(UserError, match="cannot be shown or filmed"):
        evaluate_policy(color, color.task.expert(), filmed)


class Greenish(nn.Module):
    """Goes to the green sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def predict(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        state = obs["state"]  # blue_pos, ee_pos, green_pos, ...: the keys are sorted
        move = (state[:, 6:9] - state[:, 3:6]) / 0.05
        return torch.cat([move, torch.zeros(len(state), 1)], dim=1).clip(-1, 1)


def test_the_command_prints_and_writes_it(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    register_model("test-greenish")(Greenish)
    contract = make_env("reach_color", cameras=[], dt=0.01, max_episode_steps=25).contract
    policy = ModelPolicy(create_model("test-greenish"), contract=contract)
    payload = {"policy": policy.description(), "weights": dict(policy.state_dict())}
    path = save_checkpoint(tmp_path / "final.pt", payload)
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(path), "--n-episodes", "2", "--every-instruction"])
    out = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "Following the instruction" in out
    assert "2 of 6" in out and "0 of 2" in out
    name = "eval_info_final_reach-color_6_seed0_every-instruction.json"
    written = json.loads((tmp_path / name).read_text())
    assert written["following"]["strict"]["n"] == 2 == written["n_scenes"]
    assert written == json.loads((tmp_path / "eval_info.json").read_text())
    # made again it replaces its file; without the option it is another evaluation
    again = evaluate_checkpoint(path, 2, every_instruction=True, show_progress=False)
    assert Path(again["output_path"]).name == name
    assert evaluate_checkpoint(path, 6, show_progress=False)["output_path"] != str(tmp_path / name)
