"""Generating a dataset of demonstrations: plan, run, finalize.

    stats = generate_dataset("reach", 200, "data/reach.h5", policy_type="scripted")

Promises:

- An episode whose physics becomes unstable is counted and left out, and another one is run.
- Episode k is a function of the arguments that describe the data, the seed and k: the file has the
  same content (`content_hash`) for any number of workers, any batch width, interrupted or not.
- The output appears whole or not at all. Until then finished episodes are in `<output>.parts/`,
  from where `resume=True` resumes after Ctrl-C, a crash or a power cut.
- An existing file is not touched unless `overwrite=True`, and then replaced only at the end.

Trap: with `workers` > 1 an environment or model of your own that is defined in the main script needs the
usual `if __name__ == "__main__":` there, as spawned processes then import the script.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from simscaleai.contract import EnvContract
from simscaleai.convert import converted, plain
from simscaleai.datagen.attempts import TooFewSuccesses, most_attempts, too_few
from simscaleai.datagen.executors import Executor, InProcess, Processes, executor_from_text
from simscaleai.datagen.finalize import finalize
from simscaleai.datagen.progress_bar import ProgressBar
from simscaleai.datagen.recipe import Recipe, model_sha256
from simscaleai.datagen.shard_maker import ShardTask
from simscaleai.datagen.sharded_output import generate_shards
from simscaleai.datagen.shards import EpisodeSummary, ShardFolder
from simscaleai.datagen.spawn import Order, end_if_imported_by_worker, order
from simscaleai.datagen.unfinished import begin, keep_finished
from simscaleai.datagen.worker_pool import Job, Worker, WorkerPool, make_env
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.memory import require_memory
from simscaleai.rollout.policies import policy_sha256, resolve_policy
from simscaleai.sim.scene_cameras import scene_cameras

RECORDER_BYTES = 512 * 2**20
_EPISODE_BYTES = 500  # of an episode's summary, in memory while others run
_WORKER_BYTES = 60 * 2**20


@converted
def generate_dataset(
    env_name: str = "reach",
    n_episodes: int = 100,
    output_path: str = "data/dataset.h5",
    policy_type: str = "random",
    domain_randomization: bool = True,
    max_steps: int = 200,
    seed: int = 42,
    *,
    randomize: str | None = None,
    only_success: bool = False,
    noise: float = 0.0,
    valid_fraction: float = 0.1,
    workers: int = 1,
    num_envs: int = 64,
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
    cameras: Sequence[str] = (),
    image_size: int = 64,
    depth: bool = False,
    segmentation: bool = False,
    next_obs: bool = False,
    robot: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    shard_episodes: int | None = None,
    executor: str | Executor | None = None,
    states_only: bool = False,
) -> JsonDict:
    """Run episodes and write them to one HDF5 file, or to a folder of shards.

    Args:
      env_name: a registered environment.
      n_episodes: how many episodes the file shall hold.
      output_path: the file, or with `shard_episodes` the folder; the folders above it are created.
      policy_type: "random", "scripted" (the task's expert), a checkpoint, the folder or name of a run, or a
        Python function as "module:function"; see `rollout.policies`.
      domain_randomization: whether to randomize, at level "default" unless `randomize` names one.
      max_steps: an episode that has not ended by itself is truncated here.
      seed: the master seed; any non-negative integer.
      randomize: a level of domain randomization; stands above `domain_randomization`.
      only_success: keep the first `n_episodes` episodes that succeed; others are tried and left out.
      noise: standard deviation of Gaussian noise on the executed actions. The recorded action stays
        that of the policy, so that a clone learns to come back from where the noise has led.
      valid_fraction: fraction of the episodes that /mask/valid names; the rest is /mask/train.
      workers: processes; 1 runs in this one.
      num_envs: the largest number of simulations that one worker steps together.
      resume: resume an unfinished run of the same arguments; nothing is done if the output is complete.
      overwrite: replace an existing output, or drop an unfinished run of other arguments.
      show_progress: draw a progress bar on stderr, if that is a terminal.
      cameras: names of cameras to record; the first gives the observation `image`, and of several each gives
        `images/<camera>`. In the file they are `obs/<camera>_image`.
      image_size: pixels per side.
      depth: also record `depth/<camera>`, float32 in m.
      segmentation: also record `segmentation/<camera>`, int32 geom ids, -1 for none.
      next_obs: also record `next_obs`, the observation after each action, that after the last one included.
      robot: the name of a registered robot; by default that of `env_kwargs`, or the Panda.
      env_kwargs: further settings of the environment (`SimConfig` fields).
      shard_episodes: write a folder of shards with so many episodes each; see `shard_maker`.
      executor: what makes the shards: "processes", "slurm" or "ray", with options as in "ray:num_cpus=2", or
        an `executors.Executor`. By default this process, or `workers` processes.
      states_only: draw no images; `cameras` and `image_size` are noted, for training with `data.render`.

    Returns:
      {"total_episodes", "total_steps", "mean_episode_length", "mean_reward" (mean over episodes of
      the summed reward), "success_rate" (of the episodes in the file), "output_path",
      "file_size_mb", "attempts", "attempt_success_rate" (of all episodes that were run), "diverged" (how
      many of those were left out since their physics became unstable), "content_hash",
      "train_episodes", "valid_episodes", "resumed_episodes", "seconds"}, and "shards" of a folder.

    Raises:
      ExistingFileError: the output, or an unfinished run of it, is there.
      UserError: an argument is wrong, `resume` meets a run of other arguments, `only_success`
        a policy that hardly ever succeeds, or the physics is unstable in most episodes.
      Interrupted: Ctrl-C (a KeyboardInterrupt).
    """
    end_if_imported_by_worker()
    began = time.perf_counter()
    output = _output(output_path, shard_episodes, executor)
    folder = ShardFolder(output)
    given = {**(env_kwargs or {}), **({} if robot is None else {"robot": robot})}
    settings = _settings(env_name, given, cameras, image_size, depth, segmentation)
    noted: JsonDict = {}
    if states_only:
        noted = _noted(cameras, image_size, depth or segmentation)
        settings = _settings(env_name, given, (), image_size, False, False)
    job = Job(
        env_name=env_name,
        env_kwargs=settings,
        randomization=randomize or ("default" if domain_randomization else None),
        max_steps=max_steps,
        policy_type=resolve_policy(policy_type),
        noise=float(noise),
        seed=seed,
        only_success=only_success,
        num_envs=num_envs,
        num_threads=0 if workers <= 1 else max(1, _cpus() // workers),
        folder=folder.path,
        next_obs=next_obs,
    )
    _check(job, n_episodes, valid_fraction, workers, shard_episodes)
    require_memory(_EPISODE_BYTES * n_episodes, f"n_episodes={n_episodes}", "make several datasets")
    if shard_episodes is None or executor is None:
        require_memory(_WORKER_BYTES * min(workers, n_episodes), f"workers={workers}")
    ordered = (
        order(job) if workers > 1 or executor else Order(job, {}, {}, {})
    )  # raises before files are touched
    recipe = replace(_recipe(job, n_episodes, valid_fraction), render=noted)
    environment = EnvContract.from_dict(recipe.environment)
    job = replace(job, num_envs=_affordable(num_envs, environment, max_steps))
    if shard_episodes is not None:
        task = ShardTask(replace(ordered, job=job), recipe, output.absolute(), shard_episodes)
        engine = _executor(executor, workers, task)
        statistics = generate_shards(
            task, engine, resume=resume, overwrite=overwrite, show=show_progress
        )
        return {**statistics, "output_path": str(output), "seconds": time.perf_counter() - began}
    made = begin(folder, recipe.to_dict(), resume=resume, overwrite=overwrite)
    if made is not None:
        seconds = time.perf_counter() - began
        return _result(made, output, seconds=seconds, resumed=n_episodes)
    with keep_finished(folder), ProgressBar(n_episodes, show=show_progress) as bar:
        resumed = len(folder.finished())
        finished = _run(job, recipe, workers, folder, bar)
        bar.writing()
        statistics = finalize(recipe, folder, finished)
    return _result(statistics, output, seconds=time.perf_counter() - began, resumed=resumed)


def _output(path: str | Path, shard_episodes: int | None, executor: str | Executor | None) -> Path:
    """Return the path to write; UserError if it is clear that a file was not meant, or cannot be."""
    output = Path(path)
    if shard_episodes is None:
        if output.is_dir() or str(path).endswith(("/", os.sep)):
            raise UserError(
                f"{path} is a folder; name a file such as {output / 'dataset.h5'}, or write a folder of"
                " shards with --shard-episodes 1000."
            )
        if executor is not None:
            raise UserError(
                "An executor makes shards; write a folder of them with --shard-episodes 1000, or leave out"
                " --executor: --workers alone divides the episodes of one file."
            )
    return output


def _executor(executor: str | Executor | None, workers: int, task: ShardTask) -> Executor:
    """Return what makes the shards."""
    if executor is None:
        if min(workers, task.count) <= 1:
            return InProcess()
        return Processes(min(workers, task.count), needs_main=task.order.needs_main)
    if isinstance(executor, str):
        logs = task.folder.with_name(f"{task.folder.name}.{executor.partition(':')[0]}")
        return executor_from_text(executor, workers, logs)
    return executor


def _run(
    job: Job, recipe: Recipe, workers: int, folder: ShardFolder, bar: ProgressBar
) -> dict[int, EpisodeSummary]:
    """Run the missing episodes in rounds; return the summaries of all finished ones."""
    finished = folder.finished()
    bar.start(finished.values())
    pool: Worker | WorkerPool | None = None
    try:
        while todo := _missing(recipe, finished):
            if pool is None:
                crew = min(workers, len(todo))
                pool = Worker(job) if crew == 1 else WorkerPool(job, crew)
            pool.run(todo, bar.add)
            finished = folder.finished()
            assert all(i in finished for i in todo)
    except TooFewSuccesses:
        folder.remove()  # the same attempts would fail again
        raise
    finally:
        if pool is not None:
            pool.close()
    return finished


def _missing(recipe: Recipe, finished: Mapping[int, EpisodeSummary]) -> list[int]:
    """Return the episodes to run next; [] once the dataset is determined.

    The dataset is the first n kept episodes in order of index, so attempts beyond them do no harm. Their
    number is estimated from the success rate so far.
    """
    wanted = recipe.n_episodes
    # A killed run leaves holes: every episode before the last attempt has to be known.
    attempts = max(wanted, max(finished, default=-1) + 1)
    holes = [i for i in range(attempts) if i not in finished]
    if holes:
        return holes
    kept = sum(f.kept for f in finished.values())
    limit = most_attempts(recipe, wanted)
    if kept >= wanted:
        return []
    if attempts >= limit:
        successes = sum(f.success for f in finished.values())
        diverged = sum(f.diverged for f in finished.values())
        raise too_few(recipe, wanted, len(finished), successes, diverged)
    rate = (kept + 1) / (attempts + 1)
    more = math.ceil((wanted - kept) / rate)
    return list(range(attempts, min(attempts + more, limit)))


def _result(statistics: JsonDict, output: Path, *, seconds: float, resumed: int) -> JsonDict:
    return {
        **statistics,
        "output_path": str(output),
        "file_size_mb": output.stat().st_size / 1e6,
        "resumed_episodes": resumed,
        "seconds": seconds,
    }


def _recipe(job: Job, n_episodes: int, valid_fraction: float) -> Recipe:
    checkpoint = policy_sha256(job.policy_type)
    env = make_env(job, 1)
    try:
        return Recipe(
            n_episodes=n_episodes,
            seed=job.seed,
            policy=job.policy_type,
            policy_sha256=checkpoint,
            randomization=job.randomization,
            max_steps=job.max_steps,
            noise=job.noise,
            only_success=job.only_success,
            valid_fraction=valid_fraction,
            environment=env.contract.to_dict(),
            mujoco_version=mujoco.__version__,
            model_sha256=model_sha256(env.model),
            next_obs=job.next_obs,
        )
    finally:
        env.close()


def _noted(cameras: Sequence[str], image_size: int, more: bool) -> JsonDict:
    """Return the cameras that a dataset of states notes; UserError for images that training cannot draw."""
    if more:
        raise UserError(
            "states_only records no images, and training draws color; leave out depth and segmentation, and"
            " draw them with `simscale render`."
        )
    return {"cameras": list(cameras), "image_size": image_size} if cameras else {}


def _settings(
    env_name: str,
    env_kwargs: Mapping[str, Any] | None,
    cameras: Sequence[str],
    image_size: int,
    depth: bool,
    segmentation: bool,
) -> JsonDict:
    """Return `env_kwargs` with the settings of the named cameras."""
    settings: JsonDict = plain(env_kwargs or {})
    if not cameras:
        if depth or segmentation:
            raise UserError("depth and segmentation need cameras; name some with cameras.")
        return settings
    settings["cameras"] = scene_cameras(env_name, cameras, image_size, **settings)
    return {**settings, "observe_depth": depth, "observe_segmentation": segmentation}


def _check(
    job: Job, n_episodes: int, valid_fraction: float, workers: int, shard_episodes: int | None
) -> None:
    """Raise one UserError that names every argument out of range."""
    rules = {
        f"n_episodes {n_episodes} (at least 1)": n_episodes >= 1,
        f"max_steps {job.max_steps} (at least 1)": job.max_steps >= 1,
        f"seed {job.seed} (at least 0)": job.seed >= 0,
        f"noise {job.noise} (0 or more)": 0 <= job.noise < math.inf,
        f"valid_fraction {valid_fraction} (0 to less than 1)": 0 <= valid_fraction < 1,
        f"workers {workers} (at least 1)": workers >= 1,
        f"num_envs {job.num_envs} (at least 1)": job.num_envs >= 1,
        f"shard_episodes {shard_episodes} (at least 1)": shard_episodes is None
        or shard_episodes >= 1,
    }
    wrong = [rule for rule, holds in rules.items() if not holds]
    if wrong:
        raise UserError("Out of range: " + ", ".join(wrong) + ".")


def _affordable(num_envs: int, environment: EnvContract, max_steps: int) -> int:
    """Return how many envs fit in RECORDER_BYTES while recording, at most `num_envs`."""
    step_nbytes = sum(
        math.prod(shape) * np.dtype(environment.obs_dtypes[key]).itemsize
        for key, shape in environment.obs_shapes.items()
    )
    require_memory(
        step_nbytes * max_steps,
        f"An episode of max_steps={max_steps}",
        "choose fewer steps or smaller images",
    )
    return max(1, min(num_envs, RECORDER_BYTES // (step_nbytes * max_steps)))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
