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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from rich.console import Console
from rich.progress import track

from simscaleai.config import load_config
from simscaleai.convert import Converted, converted
from simscaleai.errors import UnsavedResults, UserError, printable
from simscaleai.evaluation.eval_files import EvalFiles
from simscaleai.evaluation.following import check_requests, run_every_instruction
from simscaleai.evaluation.suite import MAX_ENVS, run_suite, suite
from simscaleai.evaluation.summary import Metrics, summarize
from simscaleai.progress import can_draw
from simscaleai.rollout.env_checks import check_env, name_of
from simscaleai.rollout.frames import FrameRecorder, check_video_dir
from simscaleai.rollout.gym_types import GymEnv, Predictor
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_adapter import PolicyAdapter
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.sim.factory import make_vec_env
from simscaleai.storage.find_checkpoint import checkpoint_sha256, find_checkpoint

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
        which is told where episodes begin, or one with `predict(obs)`, as `PPOAgent` and those of
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
    """The episodes of a single environment, filmed and shown as the config wants."""
    if not (config.render or config.save_videos):
        yield from run_suite(env, policy, seeds, config.max_steps)
        return
    folder = Path(config.video_dir)
    film = FrameRecorder(env, keep=config.save_videos)
    if config.save_videos:
        check_video_dir(folder)
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

    Returns:
      What `evaluate_policy` does, and "checkpoint", "checkpoint_sha256", "env_name", "trained_on" (the
      environment of the policy's data), the settings, and "output_path": the evaluation's own file. It is
      None where the folder of the checkpoint cannot be written, which is logged before the first episode.

    Raises:
      UserError: the checkpoint cannot be read, its policy does not fit the environment, or `output_dir`
        cannot be written; before the first episode.
      UnsavedResults: the files could not be written in the end; the error has the results.
    """
    seeds = suite(seed, n_episodes)  # of 63 bits: the environment is one of ours
    found = find_checkpoint(path)
    source = find_policy_source(str(found), env_name, randomize, device)
    num_envs = min(n_episodes, MAX_ENVS) if num_envs is None else num_envs
    env = make_vec_env(source.env_name, num_envs, autoreset_mode="disabled", config=source.config)
    policy = source.policy(env)
    # sentences of the data, or others that mean the same
    env.task.use_phrasings(phrasings)
    assert source.model is not None
    trained_on = source.model.contract
    about: Metrics = {
        "checkpoint": str(found),
        "checkpoint_sha256": checkpoint_sha256(found),
        "env_name": env.contract.env_name,
        "trained_on": trained_on.env_name if trained_on is not None else None,
        "n_episodes": n_episodes,
        "seed": seed,
        "randomize": randomize,
        "phrasings": phrasings,
    }
    run: Callable[..., Iterator[EpisodeResult]] = run_suite
    if every_instruction:
        run = run_every_instruction
        total = n_episodes * len(check_requests(env))
        about |= {"n_episodes": total, "n_scenes": n_episodes, "every_instruction": True}
    files: EvalFiles | None = None
    try:
        files = EvalFiles(Path(output_dir) if output_dir is not None else found.parent, about)
    except UserError as error:
        if output_dir is not None:
            raise  # a place that was asked for is not silently left out
        logger.warning(printable(f"The results will not be saved: {error}"))
    running = _with_progress(run(env, policy, seeds), about["n_episodes"], show_progress)
    results = {**about, **summarize(running), "output_path": str(files.path) if files else None}
    if files is not None:
        _write(files, results)
    return results


def _with_progress(
    running: Iterable[EpisodeResult], n_episodes: int, show: bool
) -> Iterable[EpisodeResult]:
    """The same results, with a progress bar on stderr where one can be drawn."""
    console = Console(stderr=True)
    # a notebook without its widgets would get a line for every episode
    hidden = not show or (console.is_jupyter and not can_draw(console))
    return track(running, "Evaluating", total=n_episodes, console=console, disable=hidden)


def _write(files: EvalFiles, results: Metrics) -> None:
    """Write results; where that fails, raise them, so that the episodes were not run for nothing."""
    try:
        files.write(results)
    except OSError as error:
        raise UnsavedResults(
            f"The results are not saved: {files.path}: {error.strerror}.", results
        ) from error
