"""Make the images of the documentation from real runs: `python scripts/make_images.py`.

It first generates demonstrations, clones policies and trains a PPO agent in `runs/images/`, unless they
exist, which takes a quarter of an hour on two CPU cores. Images are written to `docs/images/`. Look at each
before committing it.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import imageio.v3 as iio
from PIL import Image

from simscaleai.tools.cli import main
from simscaleai.tools.scaffold import write_package

ROOT = Path(__file__).resolve().parent.parent
RUNS, IMAGES = Path("runs/images"), Path("docs/images")
LIMIT = 300_000  # bytes of an image
FILM_WIDTH, FILM_QUALITY = 576, 45

# {output of a command: the command}
INGREDIENTS = {
    RUNS
    / "pick_place.h5": "datagen --env-name pick_place --n-episodes 500 --noise 0.2 --only-success"
    " --seed 0 --output {}",
    RUNS / "images.h5": "datagen --env-name pick_place --n-episodes 4 --cameras wrist_cam,front_cam"
    " --image-size 128 --seed 1 --output {}",
    RUNS / "pick_place/config.yaml": "train --dataset runs/images/pick_place.h5"
    " --name images/pick_place --max-steps 3000 --batch-size 256 --lr 1e-3 --eval-env-episodes 50"
    " log.log_every=20 trainer.eval_every=300 checkpoints.save_every=0",
    RUNS
    / "reach_color.h5": "datagen --env-name reach_color --n-episodes 1000 --noise 0.1 --only-success"
    " --cameras wrist_cam,front_cam --output {}",
    RUNS / "reach_color/config.yaml": "train --config configs/train/vla_reach_color.yaml"
    " --dataset runs/images/reach_color.h5 --name images/reach_color",
    RUNS / "reach/config.yaml": "rl --config configs/rl/reach.yaml --name images/reach"
    " agent.log_every=2",
}
# packages of `simscale new` that commands below import, {name: kind}
PACKAGES = {"push_puck": "task", "my_arm": "robot"}
CLONE = RUNS / "pick_place/checkpoints/final.pt"
COMMANDS = {
    "env_grid.png": "viz-env --env-name pick_place --n-steps 40",
    "randomized.png": "viz-env --env-name pick_place --randomize heavy --n-steps 20 --seed 3",
    "cameras.png": "viz-cameras --env-name pick_place --cameras observer_cam,overhead_cam,wrist_cam"
    " --seed 1 --size 160",
    "dataset_stats.png": "viz-dataset runs/images/pick_place.h5",
    "trajectory.png": "viz-trajectory runs/images/images.h5 --episode 0",
    "training.png": "viz-training runs/images/pick_place",
    "rl_training.png": "viz-rl runs/images/reach",
    "push_puck.png": "viz-env --import push_puck --env-name push_puck",
    "my_arm.png": "viz-env --import my_arm --env-name reach --robot my_arm",
    "instructions.mp4": "viz-video --policy runs/images/reach_color/checkpoints/final.pt"
    " --n-episodes 6 --n-steps 30 --seed 3 --size 208",
    "rollout.mp4": f"viz-video --policy {CLONE} --n-episodes 6 --randomize --n-steps 100 --size 208",
}


def make() -> None:
    os.chdir(ROOT)
    for made, command in INGREDIENTS.items():
        if not made.exists():
            simscale(command.format(made))
    for name, kind in PACKAGES.items():
        if not (RUNS / name).exists():
            write_package(kind, name, RUNS)
        sys.path.append(str(RUNS / name))
    for name, command in COMMANDS.items():
        path = IMAGES / name
        simscale(f"{command} --save {path}")
        if path.suffix == ".png":
            shrink(path)
        else:
            animate(path)
    for path in sorted(IMAGES.iterdir()):
        size = path.stat().st_size
        print(f"{path} {size / 1000:.0f} kB{'' if size < LIMIT else ': too large'}")


def simscale(command: str) -> None:
    print(f"simscale {command}", flush=True)
    try:
        main(shlex.split(command))
    except SystemExit as end:
        if end.code:
            raise


def shrink(path: Path) -> None:
    """Rewrite a PNG without transparency, compressed as well as possible."""
    Image.open(path).convert("RGB").save(path, optimize=True)


def animate(path: Path) -> None:
    """Replace a video by an animated WebP image, which pages show like any other image."""
    frames = [Image.fromarray(frame) for frame in iio.imiter(path, plugin="FFMPEG")]
    height = round(FILM_WIDTH * frames[0].height / frames[0].width)
    first, *rest = [
        frame.resize((FILM_WIDTH, height), Image.Resampling.LANCZOS) for frame in frames
    ]
    seconds = 1 / iio.immeta(path, plugin="FFMPEG")["fps"]
    first.save(
        path.with_suffix(".webp"),
        append_images=rest,
        save_all=True,
        duration=round(1000 * seconds),
        loop=0,
        quality=FILM_QUALITY,
        method=6,
    )
    path.unlink()


if __name__ == "__main__":
    make()
