"""Render the images of recorded episodes again, without simulating.

    render_dataset("data/demos.h5", "data/images.h5", ["wrist_cam", "front_cam"], image_size=64)

A dataset holds the physics state before every action, and what domain randomization drew. That is all an
image depends on: each state is loaded, with the recorded randomization, and drawn. Actions, rewards,
splits and the other observations are copied. The state after the last action was not recorded, so the new
file has no `next_obs`.

Promise: the cameras of a dataset give the images that it has, byte by byte (with the same engine and
versions). One file appears whole or not at all, and so does each shard of a folder (see `sharded_output`),
with the same content. An existing file is not touched unless asked, and `resume=True` resumes a stopped run
where it ended.

Trap: a scene edited since recording is drawn as it is now. The new file then names the model that was drawn,
and `edited_scene` in the result counts the episodes that were recorded with another one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.datagen.finished_episodes import FinishedEpisodes
from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.recorded_states import check_states, recorded_contract
from simscaleai.datagen.render_shard_task import RenderShardTask, check_for_shards
from simscaleai.datagen.render_task import (
    OpenRendering,
    Rendering,
    RenderTask,
    chunks_of,
    kept_rendering,
)
from simscaleai.datagen.rewriting import source_hash
from simscaleai.datagen.sharded_output import make_shards
from simscaleai.datagen.shards import ShardFolder
from simscaleai.datagen.unfinished import begin, keep_finished, publish
from simscaleai.errors import UserError
from simscaleai.executors import Executor, choose_executor
from simscaleai.executors.main_module import end_if_imported_by_worker
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.rollout.registered import Registered
from simscaleai.sim.base_env import CameraConfig
from simscaleai.sim.factory import gym_id
from simscaleai.sim.scene_cameras import scene_cameras
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import EpisodeSource, open_dataset


@converted
def render_dataset(
    dataset: str | Path,
    output_path: str | Path,
    cameras: Sequence[str],
    image_size: int = 64,
    *,
    depth: bool = False,
    segmentation: bool = False,
    randomize: str | None = None,
    seed: int = 0,
    engine: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
    workers: int = 1,
    executor: str | Executor | None = None,
    shard_episodes: int | None = None,
) -> JsonDict:
    """Write `dataset` again, with images of `cameras` in place of its own.

    Args:
      dataset: a file or folder of `generate_dataset`.
      output_path: the new file, or with `shard_episodes` the folder; the folders above it are created.
      cameras: names; the first gives `obs/image`, and of several each gives `obs/images/<camera>`.
      image_size: pixels per side.
      depth: also `obs/depth/<camera>`, float32 in m.
      segmentation: also `obs/segmentation/<camera>`, int32 geom ids, -1 for none.
      randomize: draw colors and lights anew for each episode at this level ("light", "default",
        "heavy"); by default everything looks as it was recorded.
      seed: of the new colors and lights.
      engine: "auto", "warp" or "gl".
      resume: resume an unfinished run of the same arguments; nothing is done if the output is complete.
      overwrite: replace an existing output, or drop an unfinished run of other arguments.
      show_progress: draw a progress bar on stderr, if that is a terminal.
      workers: processes, or tasks of the executor that run at once; 1 draws in this process.
      executor: what draws: "processes", "slurm" or "ray", with options as in "ray:num_cpus=2", or an
        `executors.Executor`. The content is the same.
      shard_episodes: write a folder of shards with so many episodes each; a task draws one shard.

    Returns:
      {"total_episodes", "total_steps", "frames" (images that this run drew, of one camera each),
      "frames_per_second", "output_path", "file_size_mb", "content_hash", "edited_scene",
      "resumed_episodes", "seconds"}, and "shards" of a folder.

    Raises:
      ExistingFileError: the output, or an unfinished run of it, is there.
      UserError: an argument is wrong, `resume` meets a run of other arguments, the dataset does not say in
        which environment it was made, or a folder of shards cannot hold its masks.
      Interrupted: Ctrl-C (a KeyboardInterrupt).
    """
    end_if_imported_by_worker()
    began = time.perf_counter()
    output = Path(output_path)
    _check_arguments(Path(dataset), output, cameras, workers, shard_episodes)
    with open_dataset(dataset) as data:
        contract = recorded_contract(data, "rendered again")
        settings = {
            "cameras": _cameras(contract, cameras, image_size),
            "observe_depth": depth,
            "observe_segmentation": segmentation,
            "render_engine": engine,
        }
        path = Path(dataset).absolute()
        rendering = Rendering(path, source_hash(data), settings, randomize, seed)
    registered = Registered()
    if workers > 1 or executor is not None:
        # raises for what other processes cannot have
        registered = Registered.of(contract.env_name, contract.env_config.get("controller"))
    run = _Run(rendering, registered, output, workers, executor, resume, overwrite, show_progress)
    try:
        opened = kept_rendering.get(rendering)
        check_states(opened.data, opened.renderer.env)
        if shard_episodes is None:
            made, drawn = run.write_file(opened)
        else:
            made, drawn = run.write_folder(opened, shard_episodes)
        count, steps = len(opened.data), int(opened.data.lengths.sum())
        edited = _edited(opened)
    finally:
        kept_rendering.close()
    frames, seconds = len(cameras) * sum(drawn), time.perf_counter() - began
    return {
        "total_episodes": count,
        "total_steps": steps,
        "frames": frames,
        "frames_per_second": frames / seconds,
        "output_path": str(output),
        **made,
        "edited_scene": edited,
        "resumed_episodes": count - len(drawn),
        "seconds": seconds,
    }


@dataclass(frozen=True)
class _Run:
    """Writes what is missing of the output; see `render_dataset`."""

    rendering: Rendering
    registered: Registered
    output: Path
    workers: int
    executor: str | Executor | None
    resume: bool
    overwrite: bool
    show: bool

    def write_file(self, opened: OpenRendering) -> tuple[JsonDict, list[int]]:
        """Write one file; return {"file_size_mb", "content_hash"} and the lengths of the drawn episodes."""
        folder, drawn = ShardFolder(self.output), list[int]()
        recipe, data = opened.renderer.recipe(opened.data), opened.data
        made = begin(folder, recipe, resume=self.resume, overwrite=self.overwrite)
        if made is None:
            with keep_finished(folder), ProgressBar(len(data), show=self.show) as bar:
                finished = FinishedEpisodes(folder)
                todo = [i for i in range(len(data)) if i not in finished.summaries]
                bar.start(EpisodeCounts.of(finished.summaries.values()))
                self._draw(todo, finished, bar)
                bar.writing()
                content = _finalize(opened, folder, recipe)
            drawn = [data.episodes[i].length for i in todo]
        else:
            content = made["content_hash"]
        return {"file_size_mb": self.output.stat().st_size / 1e6, "content_hash": content}, drawn

    def _draw(self, todo: Sequence[int], finished: FinishedEpisodes, bar: ProgressBar) -> None:
        """Have the episodes `todo` drawn into parts."""
        chunks = chunks_of(todo, self.workers)
        place = finished.folder.path.absolute()
        task = RenderTask(self.rendering, self.registered, place, chunks)
        executor = self._executor(len(chunks))
        try:
            finished.run(task, executor, len(chunks), bar)
        finally:  # after Ctrl-C too: workers must not write to a folder that is unlocked
            executor.close()

    def write_folder(
        self, opened: OpenRendering, shard_episodes: int
    ) -> tuple[JsonDict, list[int]]:
        """Write a folder of shards; return what `write_file` does, and "shards"."""
        check_for_shards(opened)
        data = opened.data
        task = RenderShardTask(
            self.output.absolute(),
            shard_episodes,
            self.registered,
            self.rendering,
            len(data),
            opened.renderer.recipe(data),
            _statistics(data),
        )
        statistics, rows = make_shards(
            task,
            self._executor(task.count),
            resume=self.resume,
            overwrite=self.overwrite,
            show=self.show,
        )
        made = {key: statistics[key] for key in ("file_size_mb", "content_hash", "shards")}
        return made, [int(length) for row in rows for length in row.lengths]

    def _executor(self, items: int) -> Executor:
        # logs of a cluster go beside the output
        return choose_executor(
            self.executor,
            self.workers,
            items,
            self.output.absolute(),
            needs_main=self.registered.needs_main,
        )


def _check_arguments(
    dataset: Path,
    output: Path,
    cameras: Sequence[str],
    workers: int,
    shard_episodes: int | None,
) -> None:
    if output.exists() and output.resolve() == dataset.resolve():
        raise UserError(f"{output} is the dataset itself; give another path for the output.")
    if not cameras:
        raise UserError("No camera to render is named; give at least one, such as front_cam.")
    if workers < 1:
        raise UserError(f"workers is {workers}; it must be at least 1.")
    if shard_episodes is not None and shard_episodes < 1:
        raise UserError(f"shard_episodes is {shard_episodes}; it must be at least 1.")


def _cameras(contract: EnvContract, cameras: Sequence[str], image_size: int) -> list[CameraConfig]:
    """Return cameras of the scene of a dataset, without those that it was recorded with."""
    recorded = {**contract.env_config, "cameras": []}
    return scene_cameras(contract.env_name, cameras, image_size, **recorded)


def _finalize(opened: OpenRendering, folder: ShardFolder, recipe: JsonDict) -> str:
    """Write the file of all episodes; return its content hash."""
    data, renderer = opened.data, opened.renderer
    with atomic_path(folder.dataset) as temporary:
        writer = EpisodeWriter(
            temporary,
            renderer.contract,
            splits=opened.splits,
            env_id=gym_id(renderer.contract.env_name),
            attributes={
                "recipe": json.dumps(recipe, sort_keys=True),
                "statistics": data.attribute("statistics", "{}"),
            },
        )
        with writer:
            writer.add_all(
                (e.index, replace(e, **renderer.origin(data, e.index)))
                for e in folder.episodes(range(len(data)))
            )
    publish(folder)
    return writer.content_hash


def _statistics(data: EpisodeSource) -> JsonDict:
    """Return what a dataset says of its episodes."""
    with guarded(f"{data.path}: the statistics", "run `simscale validate` on it"):
        return dict(json.loads(data.attribute("statistics", "{}")))


def _edited(opened: OpenRendering) -> int:
    """Return how many episodes were recorded with another model than the one that is drawn."""
    data, renderer = opened.data, opened.renderer
    # by episode: a merged dataset may hold several models
    names = [str(data.episode_attribute(i, "model_sha256", "")) for i in range(len(data))]
    return sum(bool(name) and renderer.drawn_model(name) != name for name in names)
