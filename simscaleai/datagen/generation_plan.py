"""Decide what a generation runs, from its arguments: settings, recipe, and how many envs fit in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from simscaleai.contract import EnvContract
from simscaleai.convert import plain
from simscaleai.datagen.job import Job
from simscaleai.datagen.recipe import Recipe, model_sha256
from simscaleai.datagen.worker import make_env
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.memory import require_memory
from simscaleai.rollout.policies import policy_sha256
from simscaleai.sim.scene_cameras import scene_cameras

RECORDER_BYTES = 512 * 2**20  # of the observations of all unfinished episodes of one worker
_EPISODE_BYTES = 500  # of an episode's summary, in memory while others run
_WORKER_BYTES = 60 * 2**20  # of a process that has imported the package, before it steps anything


def make_recipe(job: Job, n_episodes: int, valid_fraction: float) -> Recipe:
    """Return everything that decides the content of the dataset."""
    checkpoint = policy_sha256(job.policy_type)
    # the contract and the hash of the model are known only of an env that was made
    env = make_env(job, 1)
    try:
        _check_labels(job, env)
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
            expert_labels=job.expert_labels,
            switch_instructions=job.switch_instructions,
        )
    finally:
        env.close()


def _check_labels(job: Job, env: Any) -> None:
    """Raise UserError if the expert cannot label what a policy does in `env`."""
    name = env.contract.env_name
    if job.expert_labels and not hasattr(env.task, "expert"):
        raise UserError(
            f"The task {name!r} has no scripted expert, which expert_labels needs; leave it out."
        )
    if job.switch_instructions and not job.expert_labels:
        raise UserError(
            "switch_instructions lets a policy begin with what its episode is not about; record the expert's"
            " actions instead of its own with expert_labels."
        )
    if job.switch_instructions and len(env.contract.instructions) < 2:
        raise UserError(
            f"The task {name!r} has no instructions to switch between; leave out switch_instructions."
        )


@dataclass(frozen=True)
class Images:
    """What images are recorded; see `generate_dataset`."""

    cameras: Sequence[str]
    size: int
    depth: bool
    segmentation: bool


def env_settings(
    env_name: str, env_kwargs: Mapping[str, Any], images: Images, states_only: bool
) -> tuple[JsonDict, JsonDict]:
    """Return the settings of the environment, and with `states_only` which cameras the dataset notes.

    Raises:
      UserError: the scene has no such camera, or images are asked for that nobody will draw.
    """
    settings: JsonDict = plain(env_kwargs)
    more = images.depth or images.segmentation
    if not images.cameras:
        if more:
            raise UserError("depth and segmentation need cameras; name some with cameras.")
        return settings, {}
    found = scene_cameras(env_name, images.cameras, images.size, **settings)
    if states_only:
        if more:
            raise UserError(
                "states_only records no images, and training draws color; leave out depth and segmentation,"
                " and draw them with `simscale render`."
            )
        return settings, {"cameras": list(images.cameras), "image_size": images.size}
    settings["cameras"] = found
    return {
        **settings,
        "observe_depth": images.depth,
        "observe_segmentation": images.segmentation,
    }, {}


def check_arguments(
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
    # all at once: a command with two mistakes is corrected in one go
    wrong = [rule for rule, holds in rules.items() if not holds]
    if wrong:
        raise UserError("Out of range: " + ", ".join(wrong) + ".")


def check_memory(n_episodes: int, workers: int) -> None:
    """Raise UserError if so many episodes, or worker processes of this machine, do not fit in memory."""
    require_memory(_EPISODE_BYTES * n_episodes, f"n_episodes={n_episodes}", "make several datasets")
    require_memory(_WORKER_BYTES * min(workers, n_episodes), f"workers={workers}")


def affordable_envs(num_envs: int, environment: EnvContract, max_steps: int) -> int:
    """Return how many envs fit in RECORDER_BYTES while recording, at most `num_envs`."""
    # arrays are uncompressed in memory until their episode has ended
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
