"""Compare a resumed run of reinforcement learning with the one that it resumes.

The entry "run" of a checkpoint contains the settings that affect what is learned, and the score of the newest
evaluation with its suite. Other settings (total steps, logging, evaluation, threads) may change in a
resumed run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simscaleai.contract import EnvContract
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.rl.agents.agent import State
from simscaleai.rl.agents.agent_checkpoint import agent_entries, timesteps_of
from simscaleai.rl.settings import RLConfig
from simscaleai.storage.atomic import require_writable
from simscaleai.storage.checkpoint import load_checkpoint

Score = tuple[float, float]  # success rate, then mean return
NO_SCORE: Score = (-1.0, float("-inf"))
_HARMLESS = ("total_timesteps", "log_every")  # settings of agents that may change in a resumed run


def deciding(config: RLConfig, contract: EnvContract) -> State:
    """Return the settings of a `complete` config that affect learning, as {dotted name: plain value}."""
    reward = config.reward
    if not isinstance(reward, str | Mapping):  # an object is identified by its class
        reward = f"{type(reward).__module__}.{type(reward).__qualname__}"
    found = {
        "env_name": contract.env_name,
        "reward": dict(reward) if isinstance(reward, Mapping) else reward,
        "num_envs": config.num_envs,
    }
    # All of SimConfig, defaults included: defaults may change between versions.
    found |= {f"env.{key}": value for key, value in contract.to_dict()["env_config"].items()}
    found |= {f"agent.{k}": v for k, v in config.agent.items() if k not in _HARMLESS}
    return found


def suite(config: RLConfig) -> State:
    """Return the evaluation suite; scores of different suites cannot be compared."""
    return {"eval_episodes": config.eval_episodes, "eval_seed": config.eval_seed}


def check_same_run(payload: State, own: State, path: str) -> None:
    """Raise one UserError that names every setting in which the run of a checkpoint differs.

    Args:
      payload: content of the checkpoint.
      own: `deciding` of the resuming run.
      path: path of the checkpoint.
    """
    about = payload.get("run")
    saved = about.get("settings") if isinstance(about, dict) else None
    if not isinstance(saved, dict):  # saved by `agent.save` alone: compare what it records
        agent = agent_entries(payload)[0]
        saved = {f"agent.{key}": value for key, value in agent["config"].items()}
        saved["agent.name"] = agent["name"]
        contract = (payload.get("policy") or {}).get("contract") or {}
        saved |= {f"env.{key}": v for key, v in contract.get("env_config", {}).items()}
        saved |= {"env_name": contract["env_name"]} if "env_name" in contract else {}
    differing = [
        f"{key} is {own[key]}, and {saved[key]} there"
        for key in own
        if key in saved and saved[key] != own[key]
    ]
    if differing:
        raise UserError(
            f"The run of {path!r} had other settings: "
            + "; ".join(differing)
            + "; resume with the same ones (its config.yaml), or start another run with --init-from."
        )


def best_score(folder: Path, config: RLConfig) -> Score | None:
    """Return the score of `best.pt` in `folder`; `NO_SCORE` without one, None for another suite."""
    path = folder / "best.pt"
    if not path.exists():
        return NO_SCORE
    run = load_checkpoint(path).get("run")
    if not isinstance(run, dict) or run.get("suite") != suite(config):
        return None
    success, reward = run["score"]
    return float(success), float(reward)


def check_output(path: Path) -> None:
    """Raise UserError if the final agent cannot be written to `path` or would replace another file."""
    if path.is_dir():
        raise UserError(f"save_path is {path}, which is a folder; give the path of a file.")
    if path.exists():  # only an earlier agent is replaced
        try:
            timesteps_of(load_checkpoint(path))
        except UserError:
            raise ExistingFileError(
                f"save_path is {path}, which exists and holds no agent; choose another path."
            ) from None
    require_writable(path, "choose another save_path")
