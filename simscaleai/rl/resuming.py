"""Compare a resumed run of reinforcement learning with the one that it resumes.

A checkpoint of a run has an entry "run": the settings that decide what is learned, and the score of the
newest evaluation with its suite of episodes. Other settings (total steps, logging, evaluation, threads) may
differ in a resumed run.
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
_HARMLESS = ("total_timesteps", "log_every")


def deciding(config: RLConfig, contract: EnvContract) -> State:
    """Return settings that decide what is learned, {dotted name: plain value}; of a `complete` config."""
    reward = config.reward
    if not isinstance(reward, str | Mapping):
        reward = f"{type(reward).__module__}.{type(reward).__qualname__}"
    found = {
        "env_name": contract.env_name,
        "reward": dict(reward) if isinstance(reward, Mapping) else reward,
        "num_envs": config.num_envs,
    }
    # all of SimConfig, also what has its default: defaults may change between versions
    found |= {f"env.{key}": value for key, value in contract.to_dict()["env_config"].items()}
    found |= {f"agent.{k}": v for k, v in config.agent.items() if k not in _HARMLESS}
    return found


def suite(config: RLConfig) -> State:
    """Return which episodes an evaluation has: scores of other ones are not comparable."""
    return {"eval_episodes": config.eval_episodes, "eval_seed": config.eval_seed}


def check_same_run(payload: State, own: State, path: str) -> None:
    """Raise one UserError that names every setting in which the run of a checkpoint differs.

    Args:
      payload: of the checkpoint.
      own: `deciding` of the run that resumes from it.
      path: of the checkpoint.
    """
    about = payload.get("run")
    saved = about.get("settings") if isinstance(about, dict) else None
    if not isinstance(saved, dict):  # an agent that was saved outside of a run says less
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
    """Return the score of the folder's `best.pt`: `NO_SCORE` without one, None if it is of another suite."""
    path = folder / "best.pt"
    if not path.exists():
        return NO_SCORE
    run = load_checkpoint(path).get("run")
    if not isinstance(run, dict) or run.get("suite") != suite(config):
        return None
    success, reward = run["score"]
    return float(success), float(reward)


def check_output(path: Path) -> None:
    """Raise UserError if the final agent cannot be written to `path`, or would replace something else."""
    if path.is_dir():
        raise UserError(f"save_path is {path}, which is a folder; give the path of a file.")
    if path.exists():
        try:
            timesteps_of(load_checkpoint(path))
        except UserError:
            raise ExistingFileError(
                f"save_path is {path}, which exists and holds no agent; choose another path."
            ) from None
    require_writable(path, "choose another save_path")
