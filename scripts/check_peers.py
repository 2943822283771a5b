"""Drive our environments with the real packages that people use them with, and print a table.

    python scripts/check_peers.py                # a row for each check; exit code 1 if one fails
    python scripts/check_peers.py torchrl ray    # those of some packages

A package that is not installed is reported as such. Gymnasium, moviepy and Stable-Baselines3 are part of
`.[dev]`, where the tests use them; the others bring more than this project has itself. RLlib asks for an
older Gymnasium than `constraints.txt` has, and works with this one, so its own dependencies are named:

    pip install -c constraints.txt torchrl rsl-rl-lib
    pip install -c constraints.txt --no-deps ray
    pip install -c constraints.txt pandas pyarrow tensorboardX dm-tree lz4 ormsgpack msgpack jsonschema
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

import simscaleai.sim  # noqa: F401 - registers the ids
from simscaleai.sim import make_vec_env

ID, GOAL_ID = "simscaleai/Reach-v0", "simscaleai/ReachGoal-v0"
FAST: dict[str, Any] = {"dt": 0.005, "max_episode_steps": 5}
CHECKS: list[tuple[str, str, Callable[[], None]]] = []  # (module, what is done, how)
DISTRIBUTIONS = {"ray": "ray", "rsl_rl": "rsl-rl-lib", "stable_baselines3": "stable_baselines3"}


def check(module: str, what: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a check that needs `module`."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        CHECKS.append((module, what, function))
        return function

    return register


def drive(envs: gymnasium.vector.VectorEnv, steps: int = 12) -> None:
    """Some episodes of random actions, of seeds that the environments draw."""
    _, info = envs.reset()
    assert (info["seed"] >= 0).all() and info["seed"].dtype == np.int64
    for _ in range(steps):
        *_, terminated, truncated, _ = envs.step(envs.action_space.sample())
        done = terminated | truncated
        if envs.metadata["autoreset_mode"] == AutoresetMode.DISABLED and done.any():
            envs.reset(options={"reset_mask": done})
    envs.close()


# Gymnasium


@check("gymnasium", "make_vec: sync, async and vector, with every autoreset mode")
def gymnasium_modes() -> None:
    for mode in AutoresetMode:
        for kind in ("sync", "async"):
            settings: Any = {"vectorization_mode": kind, "vector_kwargs": {"autoreset_mode": mode}}
            drive(gymnasium.make_vec(ID, 2, **settings, **FAST))
        drive(gymnasium.make_vec(ID, 2, autoreset_mode=mode, **FAST))


@check("gymnasium", "vector wrappers: FlattenObservation, NormalizeReward, RecordEpisodeStatistics")
def gymnasium_wrappers() -> None:
    from gymnasium.wrappers import vector

    for kind in ("sync", "vector_entry_point"):
        envs = gymnasium.make_vec(ID, 2, vectorization_mode=kind, **FAST)
        envs = vector.NormalizeReward(vector.FlattenObservation(envs))
        drive(vector.DictInfoToList(vector.RecordEpisodeStatistics(envs)).env)


@check("moviepy", "Gymnasium's RecordVideo of single and of vector environments")
def gymnasium_videos() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"render_mode": "rgb_array", **FAST}
        env = gymnasium.wrappers.RecordVideo(
            gymnasium.make(ID, **settings), f"{folder}/1", episode_trigger=lambda k: True
        )
        for _ in range(2):
            env.reset()
            for _ in range(5):
                env.step(env.action_space.sample())
        env.close()
        for mode in AutoresetMode:
            envs = gymnasium.make_vec(ID, 3, autoreset_mode=mode, **settings)
            drive(
                gymnasium.wrappers.vector.RecordVideo(
                    envs, f"{folder}/{mode.value}", episode_trigger=lambda k: k == 0
                )
            )
        found = {path.parent.name for path in Path(folder).glob("*/*.mp4")}
        assert found == {"1", *(mode.value for mode in AutoresetMode)}, found


# Stable-Baselines3


@check("stable_baselines3", "PPO on DummyVecEnv of gymnasium.make, and on our vector environment")
def sb3_ppo() -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common import env_util
    from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

    from simscaleai.rl.adapters.stable_baselines3 import SB3VecEnv

    ours = SB3VecEnv(make_vec_env("reach", 4, autoreset_mode="same_step", **FAST))
    theirs = env_util.make_vec_env(ID, 4, env_kwargs=FAST)
    for envs in (theirs, VecNormalize(VecMonitor(ours))):
        agent = PPO("MultiInputPolicy", envs, n_steps=16, batch_size=32, n_epochs=1)
        agent.learn(128)
        assert agent.ep_info_buffer


@check("stable_baselines3", "SAC with HerReplayBuffer on single and vector goal environments")
def sb3_her() -> None:
    from stable_baselines3 import SAC, HerReplayBuffer

    from simscaleai.rl.adapters.stable_baselines3 import SB3VecEnv

    for name in ("reach_goal", "pick_place_goal"):
        ours = SB3VecEnv(make_vec_env(name, 4, autoreset_mode="same_step", **FAST))
        for env in (gymnasium.make(GOAL_ID, **FAST), ours):
            agent = SAC(
                "MultiInputPolicy",
                env,
                replay_buffer_class=HerReplayBuffer,
                learning_starts=40,
                batch_size=32,
                policy_kwargs={"net_arch": [16]},
            )
            agent.learn(48)
            assert (agent.replay_buffer.sample(256).rewards == 0).any()


# TorchRL


@check("torchrl", "GymEnv: specs, rollout, frame_skip, from_pixels")
def torchrl_single() -> None:
    from torchrl.envs import GymEnv
    from torchrl.envs.utils import check_env_specs

    env = GymEnv(ID, **FAST)
    check_env_specs(env)
    assert env.rollout(3).shape == (3,)
    assert GymEnv(ID, frame_skip=2, **FAST).rollout(2).shape == (2,)
    images = GymEnv(ID, from_pixels=True, pixels_only=False, **FAST)
    assert images.rollout(2)["pixels"].shape == (2, 128, 128, 3)


@check("torchrl", 'GymWrapper of our vector environment, autoreset_mode="disabled"')
def torchrl_vector() -> None:
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import check_env_specs

    env = GymWrapper(make_vec_env("reach", 3, autoreset_mode="disabled", **FAST))
    check_env_specs(env)
    found = env.rollout(12, break_when_any_done=False)
    assert found.shape == (3, 12) and found["next", "done"].sum() == 6


# rsl_rl


@check("rsl_rl", "OnPolicyRunner: one iteration")
def rsl_rl_runner() -> None:
    from rsl_rl.runners import OnPolicyRunner

    from simscaleai.rl.adapters.rsl_rl import RslRlVecEnv

    network = {"class_name": "MLPModel", "hidden_dims": [16], "activation": "elu"}
    gaussian = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "scalar"}
    settings: dict[str, Any] = {
        "num_steps_per_env": 8,
        "save_interval": 100,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "algorithm": {"class_name": "PPO", "num_learning_epochs": 1, "num_mini_batches": 2},
        "actor": {**network, "distribution_cfg": gaussian},
        "critic": network,
    }
    envs = RslRlVecEnv(make_vec_env("reach", 16, autoreset_mode="same_step", **FAST))
    with tempfile.TemporaryDirectory() as folder:
        OnPolicyRunner(envs, settings, log_dir=folder).learn(1, init_at_random_ep_len=True)
        assert list(Path(folder).glob("model_*.pt"))


# RLlib


@check("ray", "RLlib: one PPO iteration, environments vectorized by Gymnasium and by us")
def rllib() -> None:
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.env_to_module import FlattenObservations

    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    for mode in ("sync", "vector_entry_point"):
        config = (
            PPOConfig()
            .environment(f"simscaleai.sim:{ID}", env_config=FAST)
            .env_runners(
                num_env_runners=1,  # a process of its own, which imports the ids by the name above
                num_envs_per_env_runner=4,
                rollout_fragment_length=40,
                gym_env_vectorize_mode=mode,
                env_to_module_connector=lambda env, spaces=None, device=None: FlattenObservations(),
            )
            .learners(num_learners=0)
            .training(train_batch_size_per_learner=160, minibatch_size=80, num_epochs=1)
        )
        algorithm = config.build_algo()
        assert algorithm.train()["env_runners"]["num_env_steps_sampled"] == 160
        algorithm.stop()
    ray.shutdown()


def main() -> None:
    wanted = sys.argv[1:]
    print("| package | version | check | result | s |\n|---|---|---|---|---|")
    failed = 0
    for module, what, function in CHECKS:
        if wanted and module not in wanted:
            continue
        if importlib.util.find_spec(module) is None:
            print(f"| {module} | - | {what} | not installed | |", flush=True)
            continue
        start, result = time.perf_counter(), "passed"
        try:
            function()
        except Exception as error:
            failed += 1
            result = f"FAILED: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        seconds = time.perf_counter() - start
        found = version(DISTRIBUTIONS.get(module, module))
        print(f"| {module} | {found} | {what} | {result} | {seconds:.0f} |", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
