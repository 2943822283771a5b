"""Closed-loop evaluation: how often a policy succeeds, how sure that is, and where it fails.

    results = evaluate_policy(env, policy.predict, EvalConfig(n_episodes=50))
    results = evaluate_checkpoint("checkpoints/final.pt")

Success is counted once (at any step) and at the end; the interval is Wilson's at 95 %; every failure
is attributed to a stage of the task, or to physics that became unstable ("diverged"). The episodes of a
suite are the same for every policy.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from simscaleai.config import load_config
from simscaleai.convert import Converted, converted
from simscaleai.errors import UserError
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
from simscaleai.evaluation.following import run_every_instruction
from simscaleai.evaluation.suite import run_suite, suite
from simscaleai.evaluation.summary import Metrics, summarize
from simscaleai.rollout.env_checks import check_env, name_of
from simscaleai.rollout.frame_recorder import FrameRecorder, check_video_dir
from simscaleai.rollout.gym_types import GymEnv, Predictor
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_adapter import PolicyAdapter
from simscaleai.storage.find_checkpoint import find_checkpoint

logger = logging.getLogger(__name__)


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
      every_instruction: run each of `n_episodes` scenes once for every instruction of the task, and count
        the scenes in which all were followed; see `evaluation.following`.
    """

    n_episodes: int = 20
    max_steps: int = 200
    deterministic: bool = True
    render: bool = False
    save_videos: bool = False
    video_dir: str = "eval_videos"
    seed: int = 0
    every_instruction: bool = False


def evaluate_policy(
    env: GymEnv, predict_fn: Predictor, config: EvalConfig | Mapping[str, Any] | None = None
) -> Metrics:
    """Run episodes and sum them up.

    Args:
      env: any Gymnasium environment or vector environment, of any autoreset mode, whose info says
        `success` or `is_success`. Those of other packages get seeds of 31 bits.
      predict_fn: an observation to an action; of all envs at once for a vector environment. Or a policy: an
        object with `act(obs)` for n envs at once and `reset(mask, seeds, instructions)`, as `ModelPolicy`,
        which is reset where episodes begin, or one with `predict(obs)`, as `PPOAgent` and those of
        Stable-Baselines3. A tuple is an action and the policy's own state, which it is given back.
      config: how many episodes, which ones, and what is shown; an `EvalConfig`, or a mapping of its fields.

    Returns:
      {"success_rate", "mean_reward", "std_reward", "mean_length", "min_reward", "max_reward"}, and
      "success_ci" (low, high), "success_at_end", "n_episodes", "failure_stages" {stage: count},
      "diverged" (how many episodes ended since their physics became unstable: failures, at the stage
      "diverged") and "episodes", one dict each with its seed. Where no info ever said whether an episode
      succeeded, a warning is logged, and the rates are NaN. For a task with categories also "categories"
      {name: {"n_episodes", "success_rate", "success_ci", "failure_stages"}}, of those that occurred. For a
      task whose instruction chooses among objects also "following": see `following.measure_following`.
    """
    check_env(env)
    if isinstance(config, Mapping):
        config = load_config(EvalConfig, **config)
    config = config or EvalConfig()
    if config.max_steps < 1:
        raise UserError(f"max_steps is {config.max_steps}; it must be at least 1.")
    # one adapter for all episodes: it keeps the state of policies that have one
    policy = PolicyAdapter(predict_fn, env, config.deterministic)
    seeds = suite(config.seed, config.n_episodes, env)
    if config.every_instruction and (config.render or config.save_videos):
        raise UserError(
            "every_instruction cannot be shown or filmed; leave out render and save_videos."
        )
    if config.every_instruction:
        results = summarize(run_every_instruction(env, policy, seeds, config.max_steps))
    elif isinstance(env, VectorEnv):
        if config.render or config.save_videos:
            raise UserError(
                "render and save_videos show one episode at a time; give a single environment made with"
                " render_mode='human' or 'rgb_array'."
            )
        results = summarize(run_suite(env, policy, seeds, config.max_steps))
    else:
        results = summarize(_run_single(env, policy, seeds, config))
    # a rate of 0 would look like failure
    if math.isnan(results["success_rate"]):
        logger.warning(
            "The environment %r never said whether an episode succeeded: its info has neither"
            " 'success' nor 'is_success'; no success rate was measured.",
            name_of(env),
        )
    return results


def _run_single(
    env: GymEnv, policy: PolicyAdapter, seeds: Sequence[int], config: EvalConfig
) -> Iterator[EpisodeResult]:
    """Run the episodes of a single environment, filmed and shown as the config wants."""
    if not (config.render or config.save_videos):
        yield from run_suite(env, policy, seeds, config.max_steps)
        return
    folder = Path(config.video_dir)
    film = FrameRecorder(env, keep=config.save_videos)
    if config.save_videos:
        check_video_dir(folder)  # before the first episode, not after it
    # the loop waits while a film is written, and the next reset begins the next film
    for result in run_suite(env, policy, seeds, config.max_steps, [film]):
        yield result
        if config.save_videos:
            film.write(folder / f"episode_{result.index}.mp4")


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
    every_instruction: bool = False,
    until_interval: float | None = None,
    resume: bool = False,
    videos: str | None = None,
    max_videos: int = 5,
) -> Metrics:
    """Evaluate a trained policy in the environment that its checkpoint names.

    Args:
      path: a checkpoint, or the folder or name of a run; see `find_checkpoint`.
      n_episodes: how many episodes, run side by side.
      seed: which suite of episodes.
      env_name: another environment; it must fit the policy.
      num_envs: how many episodes run at once; by default at most `suite.MAX_ENVS`.
      randomize: randomization level; None for none, whatever the data had.
      phrasings: how instructions are put: as in "train"ing data, or in "held_out" words.
      output_dir: where the results go, as `eval_info.json` and in a file of their own; beside the checkpoint
        by default, see `eval_files`.
      device: where the model runs.
      show_progress: whether to draw a progress bar on stderr.
      every_instruction: as of `EvalConfig`; `n_episodes` counts scenes then, "n_scenes" of the results.
      until_interval, resume, videos, max_videos: see `SourceEvaluation`.

    Returns:
      What `evaluate_policy` does, and "checkpoint", "checkpoint_sha256", "env_name", "trained_on" (the
      environment of the policy's data), the settings, and "output_path": the evaluation's own file. It is
      None where the folder of the checkpoint cannot be written, which is logged before the first episode.

    Raises:
      UserError: the checkpoint cannot be read, its policy does not fit the environment, or `output_dir`
        cannot be written; before the first episode.
      UnsavedResults: the files could not be written in the end; the error has the results.
    """
    suite(seed, n_episodes)  # before the checkpoint is read, which takes longer
    settings = SourceEvaluation(
        n_episodes=n_episodes,
        seed=seed,
        env_name=env_name,
        num_envs=num_envs,
        randomize=randomize,
        phrasings=phrasings,
        output_dir=None if output_dir is None else str(output_dir),
        device=device,
        show_progress=show_progress,
        every_instruction=every_instruction,
        until_interval=until_interval,
        resume=resume,
        videos=videos,
        max_videos=max_videos,
    )
    return evaluate_source(str(find_checkpoint(path)), settings)
