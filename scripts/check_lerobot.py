"""Whether LeRobot reads our exports, whether we read what LeRobot writes, and whether it acts in our tasks.

    python3.12 -m venv /tmp/lerobot                 # lerobot 0.6 needs Python 3.12 and its own torch
    /tmp/lerobot/bin/pip install 'lerobot[dataset]'
    python scripts/check_lerobot.py --python /tmp/lerobot/bin/python

This process needs `simscaleai`, the other one `lerobot`; they share files only. Checked: frames, tasks,
statistics, delta timestamps and batches of three exports (images, videos, subtasks) by `LeRobotDataset`, and
two folders that `LeRobotDataset.create` wrote, imported.

--evaluate PYTHON names an interpreter that has both (`pip install 'lerobot[training]' simscaleai`). There the
`rollout` of `lerobot-eval` replays the recorded actions, and must show and count what the dataset says;
`lerobot-train` learns for a few steps from an export; `lerobot-eval` runs the policy in the environments of
`simscaleai.tools.envhub`; and `make_env` of an `env.py` is called as by a Hub repository.

--ray PYTHON names one that has Ray, whose `ray.data.read_parquet` reads an export and a manifest.
`docs/datasets.md` records versions and outcome.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CAMERAS = ("wrist_cam", "front_cam")
EXPORTS = ("images", "videos", "subtasks")
VIDEO_ERROR = 8.0  # of 255, mean over pixels: H.264 loses detail


def write(folder: Path) -> None:
    """Write a small dataset, three exports of it, and its arrays for the other process."""
    from simscaleai.datagen import export_dataset, generate_dataset
    from simscaleai.storage.episodes import open_dataset

    path = folder / "data.h5"
    generate_dataset(
        "pick_place",
        3,
        str(path),
        policy_type="scripted",
        domain_randomization=False,  # as `lerobot-eval` makes the environment
        cameras=CAMERAS,
        image_size=64,
        depth=True,
        show_progress=False,
    )
    export_dataset(path, folder / "images", show_progress=False)
    export_dataset(path, folder / "videos", video=True, show_progress=False)
    export_dataset(path, folder / "subtasks", subtasks=True, show_progress=False)
    arrays: dict[str, Any] = {}
    shards = folder / "shards"
    generate_dataset("reach", 6, str(shards), "scripted", shard_episodes=2, show_progress=False)
    with open_dataset(path) as data:
        assert data.contract is not None
        vectors = [k for k in data.obs_keys if len(data.contract.obs_shapes[k]) == 1]
        arrays["seeds"] = [episode.seed for episode in data.episodes]
        arrays["tasks"] = [episode.language for episode in data.episodes]
        for i in range(len(data)):
            arrays[f"action_{i}"] = data.read(i, "actions")
            arrays[f"reward_{i}"] = data.read(i, "rewards")
            arrays[f"state_{i}"] = np.concatenate([data.read(i, f"obs/{k}") for k in vectors], 1)
            for camera in CAMERAS:
                arrays[f"{camera}_{i}"] = data.read(i, f"obs/images/{camera}")
    np.savez(folder / "arrays.npz", **arrays)


def read_back(folder: Path) -> None:
    """Import the two folders that LeRobot wrote and compare them."""
    from simscaleai.datagen import import_dataset, validate_dataset
    from simscaleai.storage.episodes import open_dataset

    arrays = np.load(folder / "arrays.npz")
    for kind in ("images", "videos"):
        path = folder / f"from_{kind}.h5"
        import_dataset(folder / f"lerobot_{kind}", path, show_progress=False)
        report = validate_dataset(path)
        assert report.ok, report.errors
        with open_dataset(path) as data:
            assert len(data) == 3
            for i in range(len(data)):
                assert data.episodes[i].language == "pick it up"
                assert np.array_equal(data.read(i, "actions"), arrays[f"action_{i}"])
                assert np.array_equal(data.read(i, "obs/state"), arrays[f"state_{i}"])
                for camera in CAMERAS:
                    image = data.read(i, f"obs/images/{camera}")
                    compare_images(image, arrays[f"{camera}_{i}"], exact=kind == "images")


def compare_images(image: np.ndarray, expected: np.ndarray, *, exact: bool) -> None:
    if exact:
        assert np.array_equal(image, expected)
    else:
        assert np.abs(image.astype(float) - expected).mean() < VIDEO_ERROR


def check_reading(folder: Path, kind: str, arrays: Any) -> None:
    """In the other process: read one export by LeRobot, frame by frame."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [0, 0.05, 0.1], "observation.images.front_cam": [-0.05, 0]}
    root = folder / kind
    data = LeRobotDataset("local/check", root=root, delta_timestamps=deltas, video_backend="pyav")
    count = 3
    lengths = [len(arrays[f"action_{i}"]) for i in range(count)]
    assert len(data) == sum(lengths) and data.num_episodes == count
    assert data.meta.fps == 20 and data.meta.robot_type == "panda"
    every = np.concatenate([arrays[f"action_{i}"] for i in range(count)])
    for name, value in (("mean", every.mean(0)), ("std", every.std(0)), ("max", every.max(0))):
        np.testing.assert_allclose(data.meta.stats["action"][name], value, atol=1e-5)
    assert data.meta.stats["observation.images.front_cam"]["mean"].shape == (3, 1, 1)
    frame = 0
    for i, length in enumerate(lengths):
        for t in range(length):
            item = data[frame]
            frame += 1
            last = length - 1
            chunk = arrays[f"action_{i}"][[t, min(t + 1, last), min(t + 2, last)]]
            assert np.array_equal(item["action"].numpy(), chunk)
            assert item["action_is_pad"].tolist() == [False, t + 1 > last, t + 2 > last]
            assert np.array_equal(item["observation.state"].numpy(), arrays[f"state_{i}"][t])
            assert "cube" in item["task"]
            for camera, value in (
                ("wrist_cam", item["observation.images.wrist_cam"]),
                ("front_cam", item["observation.images.front_cam"][1]),
            ):
                image = (value.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
                compare_images(image, arrays[f"{camera}_{i}"][t], exact=kind != "videos")
            if kind == "subtasks":
                check_subtask(item, t / 20)
    if kind != "subtasks":  # PyTorch's own collate takes no lists of different lengths
        batch = next(iter(torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)))
        assert batch["observation.images.front_cam"].shape == (4, 2, 3, 64, 64)


def check_subtask(item: dict[str, Any], t: float) -> None:
    from lerobot.datasets.language_render import active_at

    active = active_at(t + 1e-4, persistent=item["language_persistent"], style="subtask")
    assert active is not None and active["content"]
    if t == 0:
        assert active["content"] == "reach the target", active


def check_writing(folder: Path, kind: str, arrays: Any) -> None:
    """In the other process: let LeRobot write the same frames."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dtype = "video" if kind == "videos" else "image"
    axes = ["height", "width", "channels"]
    features: dict[str, Any] = {
        f"observation.images.{camera}": {"dtype": dtype, "shape": (64, 64, 3), "names": axes}
        for camera in CAMERAS
    }
    for key, name in (("observation.state", "state_0"), ("action", "action_0")):
        features[key] = {"dtype": "float32", "shape": (arrays[name].shape[1],), "names": None}
    root = folder / f"lerobot_{kind}"
    data = LeRobotDataset.create(
        "local/check", 20, features, root=root, robot_type="panda", use_videos=kind == "videos"
    )
    for i in range(3):
        for t in range(len(arrays[f"action_{i}"])):
            frame = {f"observation.images.{c}": arrays[f"{c}_{i}"][t] for c in CAMERAS}
            frame |= {"observation.state": arrays[f"state_{i}"][t], "task": "pick it up"}
            data.add_frame({**frame, "action": arrays[f"action_{i}"][t]})
        data.save_episode()
    data.finalize()


def inside(folder: Path) -> None:
    """Everything that runs in the process with LeRobot."""
    arrays = dict(np.load(folder / "arrays.npz"))
    for kind in EXPORTS:
        check_reading(folder, kind, arrays)
    for kind in ("images", "videos"):
        check_writing(folder, kind, arrays)
    names = ("lerobot", "datasets", "pyarrow", "torch", "av")
    print(json.dumps({name: version(name) for name in names}))


HUB_ENV = """
from functools import partial
from simscaleai.tools import envhub
make_env = partial(envhub.make_env, task="reach", cameras=("wrist_cam",))
"""


def replayer(actions: list[np.ndarray], tasks: list[str]) -> Any:
    """Return a policy for LeRobot that replays recorded episodes, and asserts that it is told their tasks."""
    import torch

    class Replay(torch.nn.Module):
        def reset(self) -> None:
            self.step = 0

        def select_action(self, observation: dict[str, Any]) -> torch.Tensor:
            assert observation["task"] == tasks
            now = [episode[min(self.step, len(episode) - 1)] for episode in actions]
            self.step += 1
            return torch.from_numpy(np.stack(now))

    return Replay()


def check_replay(folder: Path) -> None:
    """Replay by `rollout`: a policy is shown what the dataset has, and that is counted and recorded."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.scripts.lerobot_eval import rollout

    from simscaleai.tools.envhub.lerobot_config import SimScaleEnv

    arrays = np.load(folder / "arrays.npz")
    actions = [arrays[f"action_{i}"] for i in range(3)]
    config = SimScaleEnv(task="pick_place", cameras=list(CAMERAS))
    env = config.create_envs(3)["simscale"][0]
    policy = replayer(actions, arrays["tasks"].tolist())
    unchanged: list[Any] = [lambda it: it] * 4  # processors
    options = {"return_observations": True, "env_features": config.features}
    options |= {"seeds": arrays["seeds"].tolist(), "recording_dir": folder / "recorded"}
    found = rollout(env, policy, *unchanged, **options)
    env.close()
    seen = {key: value.numpy() for key, value in found["observation"].items()}
    for i, episode in enumerate(actions):
        end = len(episode)
        assert found["done"][i].numpy().argmax() == end - 1
        reward = found["reward"][i, :end].numpy().astype(np.float32)
        assert np.array_equal(reward, arrays[f"reward_{i}"])
        assert not found["reward"][i, end:].any() and found["success"][i, end - 1]
        assert np.array_equal(seen["observation.state"][i, :end], arrays[f"state_{i}"])
        for camera in CAMERAS:
            image = seen[f"observation.images.{camera}"][i, :end].transpose(0, 2, 3, 1) * 255
            compare_images(image.round().astype(np.uint8), arrays[f"{camera}_{i}"], exact=True)
        recorded = LeRobotDataset("local/recorded", root=folder / "recorded" / f"env_{i}")
        assert np.array_equal([item["action"] for item in recorded], episode)


def evaluate(folder: Path) -> None:
    """In a process with LeRobot and this package: train on an export, and act in our environments."""
    from lerobot.envs.utils import _call_make_env, _import_hub_module, _normalize_hub_result

    check_replay(folder)
    binaries = Path(sys.executable).parent
    small = ("chunk_size=8", "n_action_steps=8", "dim_model=32", "n_heads=2", "dim_feedforward=32")
    shape = [f"--policy.{word}" for word in (*small, "n_encoder_layers=1", "use_vae=false")]
    dataset = ["--dataset.repo_id=local/check", f"--dataset.root={folder / 'images'}"]
    quick = ["--steps=3", "--batch_size=2", "--num_workers=0", "--wandb.enable=false"]
    policy = ["--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false"]
    policy += ["--policy.pretrained_backbone_weights=null", *shape]
    trained = folder / "trained"
    command = [
        str(binaries / "lerobot-train"),
        *dataset,
        *quick,
        *policy,
        f"--output_dir={trained}",
    ]
    subprocess.run(command, check=True)
    weights = trained / "checkpoints" / "last" / "pretrained_model"
    ours = ["--env.discover_packages_path=simscaleai.tools.envhub", "--env.type=simscale"]
    ours += [
        "--env.task=pick_place",
        f"--env.cameras=[{','.join(CAMERAS)}]",
        "--env.episode_length=10",
        "--env.settings={dt: 0.005, render_engine: auto}",
    ]
    episodes = [
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        f"--output_dir={folder / 'evaluated'}",
    ]
    command = [str(binaries / "lerobot-eval"), *ours, *episodes]
    command += [f"--policy.path={weights}", "--policy.device=cpu"]
    subprocess.run(command, check=True)
    found = json.loads((folder / "evaluated" / "eval_info.json").read_text())
    assert found["overall"]["n_episodes"] == 2 and 0 <= found["overall"]["pc_success"] <= 100
    assert list((folder / "evaluated").rglob("*.mp4"))
    # as `lerobot.envs.make_env("you/repo", trust_remote_code=True)`, after its download
    (folder / "env.py").write_text(HUB_ENV)
    module = _import_hub_module(str(folder / "env.py"), "you/repo")
    result = _call_make_env(module, n_envs=2, use_async_envs=False, cfg=None)
    ((env,),) = [suite.values() for suite in _normalize_hub_result(result).values()]
    obs, _ = env.reset(seed=[1, 2])
    assert obs["pixels"]["wrist_cam"].shape == (2, 64, 64, 3)
    env.close()
    print(json.dumps({name: version(name) for name in ("lerobot", "torch", "mujoco")}))


def read_by_ray(folder: Path) -> None:
    """In a process with Ray: read the frames of an export, and a manifest."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else it listens at all addresses
    import ray

    here = {"address": "local", "_node_ip_address": "127.0.0.1", "include_dashboard": False}
    ray.init(**here, num_cpus=1, log_to_driver=False)
    arrays = np.load(folder / "arrays.npz")
    rows = ray.data.read_parquet(str(folder / "images" / "data")).sort("index").take_all()
    actions = np.concatenate([arrays[f"action_{i}"] for i in range(3)])
    assert np.array_equal(np.stack([row["action"] for row in rows]), actions)
    shards = ray.data.read_parquet(str(folder / "shards" / "manifest.parquet")).take_all()
    assert sorted(row["shard"] for row in shards) == [f"shard-0000{i}.h5" for i in range(3)]
    assert sum(row["episodes"] for row in shards) == 6
    ray.shutdown()
    print(json.dumps({"ray": version("ray"), "pyarrow": version("pyarrow")}))


PARTS = {"inside": inside, "evaluate": evaluate, "ray": read_by_ray}


def run_part(part: str, python: str, folder: Path) -> None:
    """Run a part in another interpreter and print which versions passed."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    if part != "evaluate":  # the others have this package neither installed nor in reach
        offline.pop("PYTHONPATH", None)
    command = [python, __file__, "--part", part, "--folder", str(folder)]
    run = subprocess.run(command, env=offline, capture_output=True, text=True, cwd=folder)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)
    found = json.loads(run.stdout.splitlines()[-1])
    print(f"{part}: passed with " + ", ".join(f"{name} {number}" for name, number in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="interpreter that has lerobot")
    parser.add_argument("--evaluate", help="interpreter that has lerobot and this package")
    parser.add_argument("--ray", help="interpreter that has Ray")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        PARTS[arguments.part](arguments.folder)
        return
    if not (arguments.python or arguments.evaluate or arguments.ray):
        parser.error("name an interpreter: --python, --evaluate or --ray")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder)
        if arguments.python:
            run_part("inside", arguments.python, folder)
            read_back(folder)
        if arguments.evaluate:
            run_part("evaluate", arguments.evaluate, folder)
        if arguments.ray:
            run_part("ray", arguments.ray, folder)


if __name__ == "__main__":
    main()
