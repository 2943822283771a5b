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

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.datagen.episode_rounds import run_rounds
from simscaleai.datagen.finalize import finalize
from simscaleai.datagen.finished_episodes import FinishedEpisodes
from simscaleai.datagen.generation_plan import (
    Images,
    affordable_envs,
    check_arguments,
    check_memory,
    env_settings,
    make_recipe,
)
from simscaleai.datagen.generation_task import GenerationTask
from simscaleai.datagen.job import Job
from simscaleai.datagen.progress_bar import ProgressBar
from simscaleai.datagen.recipe import Recipe
from simscaleai.datagen.sharded_output import make_shards
from simscaleai.datagen.shards import ShardFolder
from simscaleai.datagen.unfinished import begin, keep_finished
from simscaleai.datagen.worker import kept_worker
from simscaleai.errors import UserError
from simscaleai.executors import Executor, choose_executor
from simscaleai.executors.executor import num_cpus
from simscaleai.executors.main_module import end_if_imported_by_worker
from simscaleai.json_types import JsonDict
from simscaleai.rollout.policies import resolve_policy
from simscaleai.rollout.registered import Registered


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
    num_envs: int = 256,
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
    expert_labels: bool = False,
    switch_instructions: bool = False,
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
      shard_episodes: write a folder of shards with so many episodes each; see `shard_task`.
      executor: what makes the shards: "processes", "slurm" or "ray", with options as in "ray:num_cpus=2", or
        an `executors.Executor`. By default this process, or `workers` processes.
      states_only: draw no images; `cameras` and `image_size` are noted, for training with `data.render`.
      expert_labels: record what the task's expert would do in each state, while the policy acts (DAgger).
      switch_instructions: with `expert_labels`, give the policy another instruction first, and that of the
        episode from a random step on.

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
    given = {**(env_kwargs or {}), **({} if robot is None else {"robot": robot})}
    images = Images(cameras, image_size, depth, segmentation)
    settings, noted = env_settings(env_name, given, images, states_only)
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
        num_threads=0 if workers <= 1 else max(1, num_cpus() // workers),
        next_obs=next_obs,
        expert_labels=expert_labels,
        switch_instructions=switch_instructions,
    )
    # all that can be wrong is found before the first file is written, or an old one replaced
    check_arguments(job, n_episodes, valid_fraction, workers, shard_episodes)
    # workers of an executor may be other machines, whose memory is not known here
    check_memory(n_episodes, workers if shard_episodes is None or executor is None else 0)
    # raises for what other processes cannot have
    registered = job.registered() if workers > 1 or executor else Registered()
    recipe = replace(make_recipe(job, n_episodes, valid_fraction), render=noted)
    environment = EnvContract.from_dict(recipe.environment)
    job = replace(job, num_envs=affordable_envs(num_envs, environment, max_steps))
    how = {"resume": resume, "overwrite": overwrite, "show": show_progress}
    if shard_episodes is None:
        made = _make_file(job, registered, recipe, workers, output, **how)
    else:
        task = GenerationTask(output.absolute(), shard_episodes, registered, job, recipe)
        engine = choose_executor(
            executor, workers, task.count, task.folder, needs_main=registered.needs_main
        )
        made = _make_folder(task, engine, **how)
    return {**made, "output_path": str(output), "seconds": time.perf_counter() - began}


def _make_folder(task: GenerationTask, executor: Executor, **how: bool) -> JsonDict:
    """Make the shards that are missing; return the statistics of the dataset."""
    try:
        statistics, made = make_shards(task, executor, **how)
    finally:
        kept_worker.close()
    return {**statistics, "resumed_episodes": task.n_episodes - sum(len(r.lengths) for r in made)}


def _make_file(
    job: Job,
    registered: Registered,
    recipe: Recipe,
    workers: int,
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    show: bool,
) -> JsonDict:
    """Run what is missing and write the file, unless it is complete; return its statistics."""
    folder, resumed = ShardFolder(output), recipe.n_episodes
    made = begin(folder, recipe.to_dict(), resume=resume, overwrite=overwrite)
    if made is None:
        with keep_finished(folder), ProgressBar(recipe.n_episodes, show=show) as bar:
            finished = FinishedEpisodes(folder)
            resumed = len(finished.summaries)  # before this run adds its own
            run_rounds(job, registered, recipe, workers, finished, bar)
            bar.writing()
            made = finalize(recipe, folder, finished.summaries)
    return {**made, "file_size_mb": output.stat().st_size / 1e6, "resumed_episodes": resumed}


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
