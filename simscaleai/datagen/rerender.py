"""Render the images of recorded episodes again, without simulating.

    render_dataset("data/demos.h5", "data/images.h5", ["wrist_cam", "front_cam"], image_size=64)

A dataset holds the physics state before every action, and what domain randomization drew. That is all an
image depends on: each state is loaded, with the recorded randomization, and drawn. Actions, rewards,
splits and the other observations are copied. The state after the last action was not recorded, so the new
file has no `next_obs`.

Promise: the cameras of a dataset give the images that it has, byte by byte (with the same engine and
versions). The output appears whole or not at all, an existing file is not touched unless asked, and
`resume=True` resumes a stopped run where it ended.

Trap: a scene edited since recording is drawn as it is now. The new file then names the model that was drawn,
and `edited_scene` in the result counts the episodes that were recorded with another one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from simscaleai.convert import converted
from simscaleai.datagen.episode_renderer import EpisodeRenderer
from simscaleai.datagen.finished_episodes import FinishedEpisodes
from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.recorded_states import check_states, recorded_contract
from simscaleai.datagen.render_task import RenderTask, close_renderer
from simscaleai.datagen.rewriting import source_hash
from simscaleai.datagen.shards import ShardFolder, ShardWriter
from simscaleai.datagen.unfinished import begin, keep_finished, publish
from simscaleai.errors import UserError
from simscaleai.executors import Executor, choose_executor
from simscaleai.executors.main_module import end_if_imported_by_worker
from simscaleai.json_types import JsonDict
from simscaleai.rollout.registered import Registered
from simscaleai.sim.factory import gym_id
from simscaleai.sim.scene_cameras import scene_cameras
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import EpisodeSource, open_dataset

_TEXTS = ("policy", "mujoco_version")


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
) -> JsonDict:
    """Write `dataset` again, with images of `cameras` in place of its own.

    Args:
      dataset: a file of `generate_dataset`.
      output_path: the new file; its folder is created.
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

    Returns:
      {"total_episodes", "total_steps", "frames" (images that this run drew, of one camera each),
      "frames_per_second", "output_path", "file_size_mb", "content_hash", "edited_scene",
      "resumed_episodes", "seconds"}.

    Raises:
      ExistingFileError: the output, or an unfinished run of it, is there.
      UserError: an argument is wrong, `resume` meets a run of other arguments, or the dataset does not
        say in which environment it was made.
      Interrupted: Ctrl-C (a KeyboardInterrupt).
    """
    end_if_imported_by_worker()
    began = time.perf_counter()
    output = Path(output_path)
    if output.exists() and output.resolve() == Path(dataset).resolve():
        raise UserError(f"{output} is the dataset itself; give another path for the output.")
    if not cameras:
        raise UserError("No camera to render is named; give at least one, such as front_cam.")
    if workers < 1:
        raise UserError(f"workers is {workers}; it must be at least 1.")
    folder = ShardFolder(output)
    with open_dataset(dataset) as data:
        contract = recorded_contract(data, "rendered again")
        # cameras are looked up in the scene of the dataset, without those that it was recorded with
        settings = {**contract.env_config, "cameras": []}
        settings = {
            "cameras": scene_cameras(contract.env_name, cameras, image_size, **settings),
            "observe_depth": depth,
            "observe_segmentation": segmentation,
            "render_engine": engine,
        }
        with closing(EpisodeRenderer(contract, settings, randomize, seed)) as renderer:
            check_states(data, renderer.env)
            recipe = renderer.recipe(data)
            made = begin(folder, recipe, resume=resume, overwrite=overwrite)
            todo: list[int] = []
            # by episode: a merged dataset may hold several models
            edited = sum(
                bool(name) and renderer.drawn_model(name) != name for name in _models(data)
            )
            if made is None:
                crew = None
                if workers > 1 or executor is not None:
                    task = RenderTask(
                        Path(dataset).absolute(),
                        source_hash(data),
                        settings,
                        randomize,
                        seed,
                        folder.path.absolute(),
                        Registered.of(contract.env_name, contract.env_config.get("controller")),
                    )
                    crew = _Crew(task, output.absolute(), workers, executor)
                made, todo = _make(data, renderer, folder, recipe, show_progress, crew)
        frames = len(cameras) * sum(data.episodes[i].length for i in todo)
        steps = sum(episode.length for episode in data.episodes)
        count = len(data)
    seconds = time.perf_counter() - began
    return {
        "total_episodes": count,
        "total_steps": steps,
        "frames": frames,
        "frames_per_second": frames / seconds,
        "output_path": str(output),
        "file_size_mb": output.stat().st_size / 1e6,
        "content_hash": made["content_hash"],
        "edited_scene": edited,
        "resumed_episodes": count - len(todo),
        "seconds": seconds,
    }


def _make(
    data: EpisodeSource,
    renderer: EpisodeRenderer,
    folder: ShardFolder,
    recipe: JsonDict,
    show: bool,
    crew: _Crew | None,
) -> tuple[JsonDict, list[int]]:
    """Draw what is missing, in this process or by a crew, and write the dataset.

    Return {"content_hash"} and the episodes that were drawn.
    """
    with keep_finished(folder), ProgressBar(len(data), show=show) as bar:
        finished = FinishedEpisodes(folder)
        todo = [i for i in range(len(data)) if i not in finished.summaries]
        bar.start(EpisodeCounts.of(finished.summaries.values()))
        if crew is None:
            _draw(data, renderer, folder, todo, bar)
        else:
            with finished.shown_by(bar):
                crew.draw(todo)
        bar.writing()
        return _finalize(data, renderer, folder, recipe), todo


def _draw(
    data: EpisodeSource,
    renderer: EpisodeRenderer,
    folder: ShardFolder,
    todo: Sequence[int],
    bar: ProgressBar,
) -> None:
    """Write the episodes `todo` with their images to shards; finished ones are saved after an error too."""
    pending = ShardWriter(folder.path)
    try:
        for i in todo:
            episode = renderer.episode(data, i)
            pending.add(episode)
            bar.add(EpisodeCounts(1, int(episode.success), 1))
    finally:
        pending.flush()


@dataclass(frozen=True)
class _Crew:
    """What draws the episodes; logs of a cluster go beside `output`."""

    task: RenderTask
    output: Path
    workers: int
    executor: str | Executor | None

    def draw(self, todo: Sequence[int]) -> None:
        """Have the episodes `todo` written to shards by workers."""
        task = self.task.divided(todo, self.workers)
        items = range(len(task.chunks))
        executor = choose_executor(
            self.executor,
            self.workers,
            len(items),
            self.output,
            needs_main=task.registered.needs_main,
        )
        try:
            for _ in executor.run(task, items):
                pass
        finally:  # after Ctrl-C too: workers must not write to a folder that is unlocked
            executor.close()
            close_renderer()


def _finalize(
    data: EpisodeSource, renderer: EpisodeRenderer, folder: ShardFolder, recipe: JsonDict
) -> JsonDict:
    """Write the dataset of all episodes; return {"content_hash"}."""
    models = [renderer.drawn_model(name) for name in _models(data)]
    with atomic_path(folder.dataset) as temporary:
        writer = EpisodeWriter(
            temporary,
            renderer.contract,
            splits=data.splits(),
            env_id=gym_id(renderer.contract.env_name),
            attributes={
                "recipe": json.dumps(recipe, sort_keys=True),
                "statistics": data.attribute("statistics", "{}"),
            },
        )
        with writer:
            writer.add_all(
                (e.index, replace(e, **_texts(data, e.index), model_sha256=models[e.index]))
                for e in folder.episodes(range(len(data)))
            )
    publish(folder)
    return {"content_hash": writer.content_hash}


def _texts(data: EpisodeSource, i: int) -> JsonDict:
    """Return the attributes of an episode that shards do not hold."""
    return {key: str(data.episode_attribute(i, key, "")) for key in _TEXTS}


def _models(data: EpisodeSource) -> list[str]:
    """Return the hash of the model that each episode was recorded with."""
    return [str(data.episode_attribute(i, "model_sha256", "")) for i in range(len(data))]
