"""Closed-loop evaluation: how often a policy succeeds, how sure that is, and where it fails.

    results = evaluate_policy(env, policy.predict, EvalConfig(n_episodes=50))
    results = evaluate_checkpoint("checkpoints/final.pt")

Success is counted once (at any step) and at the end; the interval is Wilson's at 95 %; every failure
is attributed to a stage of the task, or to physics that became unstable ("diverged"). The episodes of a
suite are the same for every policy.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from rich.console import Console
from rich.progress import track

from simscaleai.contract import EnvContract
from simscaleai.convert import Converted, converted
from simscaleai.errors import UserError
from simscaleai.observations import is_image_key
from simscaleai.policy import begin_episodes
from simscaleai.rl.acting import Actor
from simscaleai.rl.env_checks import name_of
from simscaleai.rl.episodes import EpisodeResult, run_batch, run_single, suite
from simscaleai.rl.outcomes import DIVERGED
from simscaleai.rl.statistics import wilson_interval
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.factory import make_vec_env, sim_config
from simscaleai.storage.atomic import atomic_path

ROWS = 128  # episodes at once, by default


@dataclass
class EvalConfig(Converted):
    """How `evaluate_policy` runs.

    Attributes:
      n_episodes: how many episodes.
      max_steps: control steps after which an episode is over, besides the environment's own limit.
      deterministic: passed to a `predict_fn` that takes an argument of this name.
      render: show each step; the environment must be made with `render_mode="human"`.
      save_videos: write `<video_dir>/episode_<i>.mp4`; needs `render_mode="rgb_array"`.
      video_dir: created if need be.
      seed: which suite of episodes.
    """

    n_episodes: int = 20
    max_steps: int = 200
    deterministic: bool = True
    render: bool = False
    save_videos: bool = False
    video_dir: str = "eval_videos"
    seed: int = 0


def evaluate_policy(
    env: Any, predict_fn: Callable[..., Any], config: EvalConfig | None = None
) -> dict[str, Any]:
    """Run episodes and sum them up.

    Args:
      env: any Gymnasium environment or vector environment, of any autoreset mode, whose info says
        `success` or `is_success`. Those of other packages get seeds of 31 bits.
      predict_fn: an observation to an action; of all envs at once for a vector environment. Or a policy: an
        object with `act(obs)` for n envs at once and `reset(mask, seeds)`, as `ModelPolicy`, which is told
        where episodes begin, or one with `predict(obs)`, as `PPOAgent` and those of Stable-Baselines3. A
        tuple is an action and the policy's own state, which it is given back.
      config: how many episodes, which ones, and what is shown.

    Returns:
      {"success_rate", "mean_reward", "std_reward", "mean_length", "min_reward", "max_reward"}, and
      "success_ci" (low, high), "success_at_end", "n_episodes", "failure_stages" {stage: count},
      "diverged" (how many episodes ended since their physics became unstable: failures, at the stage
      "diverged") and "episodes", one dict each with its seed. Where no info ever said whether an episode
      succeeded, a warning says so, and the rates are NaN. For a task with groups also "groups" {name:
      {"n_episodes", "success_rate", "success_ci", "failure_stages"}}, of those that occurred.
    """
    config = config or EvalConfig()
    actor = Actor(predict_fn, env, config.deterministic)
    seeds = suite(config.seed, config.n_episodes, env)
    if isinstance(env, VectorEnv):
        if config.render or config.save_videos:
            raise UserError(
                "render and save_videos show one episode at a time; give a single environment made with"
                " render_mode='human' or 'rgb_array'."
            )
        results = summarize(run_batch(env, actor, seeds, config.max_steps, actor.begin))
    else:
        results = summarize(_one_by_one(env, actor, seeds, config))
    if math.isnan(results["success_rate"]):
        warnings.warn(
            f"The environment {name_of(env)!r} never said whether an episode succeeded: its info has neither"
            " 'success' nor 'is_success'; no success rate was measured.",
            stacklevel=2,
        )
    return results


def _one_by_one(
    env: Any, actor: Actor, seeds: Sequence[int], config: EvalConfig
) -> Iterator[EpisodeResult]:
    """The episodes of a single environment, filmed and shown as the config wants."""
    for index, seed in enumerate(seeds):
        frames: list[Any] = []
        watch = partial(_watch, env, config, frames)
        yield run_single(env, actor, seed, index, config.max_steps, watch, actor.begin)
        if config.save_videos:
            from simscaleai.storage.video import write_video

            fps = (getattr(env, "metadata", None) or {}).get("render_fps") or 20
            write_video(Path(config.video_dir) / f"episode_{index}.mp4", frames, fps)


@converted
def evaluate_checkpoint(
    path: str | Path,
    n_episodes: int = 100,
    seed: int = 0,
    env_name: str | None = None,
    num_envs: int | None = None,
    randomize: str | None = None,
    phrasings: str = "train",
    output_dir: str | Path | None = None,
    device: str = "auto",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a trained policy in the environment that its checkpoint names.

    Args:
      path: a checkpoint.
      n_episodes: how many episodes, run side by side.
      seed: which suite of episodes.
      env_name: another environment; it must fit the policy.
      num_envs: rows that run at once.
      randomize: randomization level; None for none, whatever the data had.
      phrasings: how instructions are put: as in "train"ing data, or in "held_out" words.
      output_dir: where `eval_info.json` goes; beside the checkpoint by default.
      device: where the model runs.
      show_progress: whether to draw a progress bar on stderr.

    Returns:
      What `evaluate_policy` does, and "checkpoint", "env_name", "trained_on" (the environment of the
      policy's data) and "output_path".

    Raises:
      UserError: the checkpoint cannot be read, or its policy does not fit the environment.
    """
    from simscaleai.models.policy import ModelPolicy

    seeds = suite(seed, n_episodes)
    policy = ModelPolicy.from_checkpoint(path, device)
    name, config = policy_environment(policy.contract, env_name, randomize)
    rows = num_envs or min(n_episodes, ROWS)
    env = make_vec_env(name, rows, autoreset_mode="disabled", config=config)
    if policy.contract is not None:
        policy.contract.require(env.contract)
    env.task.use_phrasings(phrasings)
    running: Iterable[EpisodeResult] = run_batch(
        env, policy.act, seeds, env.config.max_episode_steps, partial(begin_episodes, policy, env)
    )
    running = track(
        running,
        "Evaluating",
        total=n_episodes,
        console=Console(stderr=True),
        disable=not show_progress,
    )
    folder = Path(output_dir) if output_dir is not None else Path(path).parent
    results = {
        "checkpoint": str(path),
        "env_name": env.contract.env_name,
        "trained_on": policy.contract.env_name if policy.contract is not None else None,
        **summarize(running),
        "seed": seed,
        "randomize": randomize,
        "phrasings": phrasings,
        "output_path": str(folder / "eval_info.json"),
    }
    with atomic_path(folder / "eval_info.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    return results


def summarize(results: Iterable[EpisodeResult]) -> dict[str, Any]:
    """The metrics of `evaluate_policy` for finished episodes."""
    episodes = sorted(results, key=lambda episode: episode.index)
    rewards = np.array([e.reward for e in episodes])
    counts = _counts(episodes)
    groups = sorted({e.group for e in episodes if e.group is not None})
    by_group = {g: _counts([e for e in episodes if e.group == g]) for g in groups}
    for found in by_group.values():
        del found["success_at_end"]
    return {
        "success_rate": counts["success_rate"],
        "success_ci": counts["success_ci"],
        "success_at_end": counts["success_at_end"],
        "mean_reward": float(rewards.mean()),
        "std_reward": float(rewards.std()),
        "mean_length": float(np.mean([e.length for e in episodes])),
        "min_reward": float(rewards.min()),
        "max_reward": float(rewards.max()),
        "n_episodes": len(episodes),
        "failure_stages": counts["failure_stages"],
        "diverged": counts["failure_stages"].get(DIVERGED, 0),
        "episodes": [e.to_dict() for e in episodes],
        **({"groups": by_group} if by_group else {}),
    }


def _counts(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    n = len(episodes)
    rate, at_end, interval = math.nan, math.nan, (math.nan, math.nan)
    if any(e.success is not None for e in episodes):  # an episode without a word is a failure then
        successes = sum(bool(e.success) for e in episodes)
        rate, interval = successes / n, wilson_interval(successes, n)
        at_end = sum(bool(e.success_at_end) for e in episodes) / n
    return {
        "n_episodes": n,
        "success_rate": rate,
        "success_ci": interval,
        "success_at_end": at_end,
        "failure_stages": dict(Counter(e.stage for e in episodes if e.stage is not None)),
    }


def policy_environment(
    contract: EnvContract | None, env_name: str | None = None, randomize: str | None = None
) -> tuple[str, SimConfig]:
    """Name and settings of the environment that a policy was trained for, or of `env_name` with the same.

    Args:
      contract: the policy's.
      env_name: another environment.
      randomize: randomization level; None for none, whatever the data had.

    Raises:
      UserError: neither says which environment.
    """
    name = env_name or (contract.env_name if contract is not None else None)
    if name is None:
        raise UserError(
            "The checkpoint does not say which environment its policy is for; name it with env_name."
        )
    settings: dict[str, Any] = dict(contract.env_config) if contract is not None else {}
    settings["domain_randomization"] = randomize is not None
    if randomize is not None:
        settings["randomization_level"] = randomize
    if contract is not None and not any(is_image_key(key) for key in contract.obs_shapes):
        settings["cameras"] = []
    if contract is not None and name != contract.env_name:
        settings.pop("xml_path", None)  # the scene belongs to the other task
    return name, sim_config(None, **{"cameras": [], **settings})


def _watch(env: Any, config: EvalConfig, frames: list[Any]) -> None:
    """Show or keep the present picture."""
    if not (config.render or config.save_videos):
        return
    frame = env.render()
    if config.save_videos:
        if frame is None:
            raise UserError(
                "save_videos needs pictures; make the environment with render_mode='rgb_array'."
            )
        frames.append(frame)
