"""A page to browse a dataset: episodes as thumbnails that play, with filters.

    write_dataset_page("data/reach.h5", Path("dataset.html"))

Frames are those of a recorded camera; of episodes without images, the recorded states are drawn. The page is
a report (`report_page`): one file that opens without a network and has no script.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.contract import EnvContract
from simscaleai.datagen.episode_renderer import EpisodeRenderer
from simscaleai.datagen.subtasks import SubtaskFinder
from simscaleai.errors import MissingPackageError, UserError, printable
from simscaleai.guards import guarded
from simscaleai.observations import is_image
from simscaleai.sim.factory import make_vec_env
from simscaleai.sim.scene_cameras import view_of
from simscaleai.storage.episode import OBS
from simscaleai.storage.episodes import EpisodeSource, open_dataset
from simscaleai.storage.video import write_video
from simscaleai.tools.figures.dataset_figure import name_of, plot_dataset
from simscaleai.tools.report.report_figures import can_draw, medium
from simscaleai.tools.report.report_page import (
    Browser,
    Card,
    Figures,
    Preformatted,
    Report,
    Section,
    VerdictBox,
    check_report_path,
    data_uri,
    write_report,
)

Frames = NDArray[np.uint8]
"""(T, H, W, 3)."""

SIZE = 160  # pixels of images that are drawn here
EPISODES = 48  # on one page, unless another number is given
MOST_EPISODES = 1000
_VIDEO_BYTES = 12_000_000  # of all videos; beyond, episodes have a thumbnail only
_MOST_FRAMES = 60  # of an episode; a longer one skips steps
_INSTRUCTIONS = 12  # choices of the filter; the others are "other"
_REMEDY = "choose another file with --save"


def write_dataset_page(
    dataset: str | Path, path: Path, episodes: int = EPISODES, command: str = ""
) -> int:
    """Write the page and return the number of episodes on it.

    Args:
      dataset: HDF5 file, or folder of shards.
      path: of the page; an earlier page is replaced.
      episodes: how many to show at most: failures, as far as half of them go, and others evenly spaced.
      command: the command that makes the page again.

    Raises:
      UserError: there is no such dataset, it has no episode, the page cannot be written, or the extra `viz`
        is not installed.
    """
    if not 1 <= episodes <= MOST_EPISODES:
        raise UserError(f"episodes is {episodes}; a page shows 1 to {MOST_EPISODES}.")
    if importlib.util.find_spec("imageio") is None:
        raise MissingPackageError(
            "A page of episodes needs imageio; install it with: pip install 'simscaleai[viz]'."
        )
    check_report_path(path, _REMEDY)  # before minutes of drawing
    with (
        guarded(f"The dataset {dataset}", "run `simscale validate` on it"),
        open_dataset(dataset) as data,
    ):
        chosen = choose(data, episodes)
        cards = list(_cards(data, chosen))
        sections: list[Section] = [Browser(_title(data, chosen), tuple(cards), _note(cards))]
        verdict, subtitle = _summary(data)
        title = f"Dataset: {printable(name_of(data))}"
    if can_draw():
        sections.append(
            Figures(
                "All episodes", (medium(plot_dataset(dataset), "Lengths, returns and actions"),)
            )
        )
    sections.append(Preformatted("Made by", command))
    write_report(path, Report(title, subtitle, (verdict,), sections), _REMEDY)
    return len(chosen)


def choose(data: EpisodeSource, most: int) -> list[int]:
    """Return at most `most` episodes that have a step; failures are at most half of many."""
    everything = data.split("all")
    if not everything:
        raise UserError(f"{data.path} has no episode with a step; there is nothing to show.")
    if len(everything) <= most:
        return everything
    failed = [i for i in everything if data.episodes[i].success is False]
    kept = _spread(failed, max(most // 2, most - (len(everything) - len(failed))))
    others = [i for i in everything if data.episodes[i].success is not False]
    return sorted(kept + _spread(others, most - len(kept)))


def _spread(values: Sequence[int], most: int) -> list[int]:
    if len(values) <= most:
        return list(values)
    return [values[k] for k in np.linspace(0, len(values) - 1, most).astype(int)]


def _cards(data: EpisodeSource, chosen: Sequence[int]) -> Iterator[Card]:
    stages = _stages(data, chosen)
    common = _common_instructions(data, chosen)
    fps = 1.0 / data.contract.control_dt if data.contract is not None else 20.0
    used = 0
    for i, frames in zip(chosen, _all_frames(data, chosen), strict=True):
        poster = video = ""
        if frames is not None:
            poster = _jpeg(frames[len(frames) // 2])
            if used < _VIDEO_BYTES and can_draw():
                every = math.ceil(data.episodes[i].length / _MOST_FRAMES)
                content = _mp4(frames, fps / every)
                used += len(content)
                video = data_uri(content, "video/mp4")
        yield Card(video, poster, _caption(data, i, stages.get(i)), _tags(data, i, stages, common))


def _tags(
    data: EpisodeSource, i: int, stages: dict[int, str], common: Sequence[str]
) -> dict[str, str]:
    meta = data.episodes[i]
    tags = {"outcome": {True: "success", False: "failure", None: "not recorded"}[meta.success]}
    if i in stages:
        tags["stage"] = stages[i]
    asked = _request(data, meta.language)
    if asked:
        tags["asks for"] = asked
    elif meta.language:
        tags["instruction"] = meta.language if meta.language in common else "other"
    return tags


def _request(data: EpisodeSource, sentence: str) -> str:
    """Return what a sentence asks for, such as "red"; "" where sentences all mean the same."""
    requests = data.contract.instructions if data.contract is not None else {}
    return next((name for name, sentences in requests.items() if sentence in sentences), "")


def _caption(data: EpisodeSource, i: int, stage: str | None) -> str:
    meta = data.episodes[i]
    outcome = {True: "success", False: stage or "failure", None: ""}[meta.success]
    parts = [f"Episode {i}", outcome, f"{meta.length} steps"]
    if "rewards" in data.keys(i):
        parts.append(f"return {float(np.sum(data.read(i, 'rewards'), dtype=np.float64)):.3g}")
    said = f" “{meta.language}”" if meta.language else ""
    return printable(", ".join(part for part in parts if part) + said)


def _common_instructions(data: EpisodeSource, chosen: Sequence[int]) -> list[str]:
    said = [data.episodes[i].language for i in chosen if data.episodes[i].language]
    return sorted(set(said), key=lambda text: (-said.count(text), text))[:_INSTRUCTIONS]


def _stages(data: EpisodeSource, chosen: Sequence[int]) -> dict[int, str]:
    """Return {failed episode: the stage at which it ended}, as far as the task can tell."""
    failed = [i for i in chosen if data.episodes[i].success is False]
    try:
        with closing(SubtaskFinder(data)) as finder:
            return {i: finder.stage(i).replace("_", " ") for i in failed}
    except UserError:  # of another tool, or a task with one stage
        return {}


def _all_frames(data: EpisodeSource, chosen: Sequence[int]) -> Iterator[Frames | None]:
    """Yield the frames of each episode, of those that are shown; None where there is nothing to draw."""
    key = _image_key(data, chosen[0])
    if key is not None:
        for i in chosen:
            images = data.read(i, key) if key in data.keys(i) else None
            yield None if images is None else images[_shown(len(images))]
        return
    renderer = _renderer(data)
    if renderer is None:
        yield from [None] * len(chosen)
        return
    with closing(renderer):
        for i in chosen:
            yield _drawn(renderer, data, i)


def _image_key(data: EpisodeSource, i: int) -> str | None:
    """Return the key of a recorded camera, if possible one that does not move with the hand."""
    keys = [k for k in data.keys(i) if k.startswith(OBS)]
    images = [
        k for k in keys if is_image(k.removeprefix(OBS), data.shape(i, k)[1:], data.dtype(i, k))
    ]
    colors = [k for k in images if data.dtype(i, k) == np.uint8 and data.shape(i, k)[-1] == 3]
    return min(
        colors, key=lambda k: ("wrist" in k or "hand" in k, k == f"{OBS}image", k), default=None
    )


def _renderer(data: EpisodeSource) -> EpisodeRenderer | None:
    """Return what draws states of the dataset's scene; None if it says no scene, or nothing can draw here."""
    contract: EnvContract | None = data.contract
    if contract is None:
        return None
    try:
        with closing(
            make_vec_env(contract.env_name, 1, **{**contract.env_config, "cameras": []})
        ) as env:
            camera = view_of(env.model, None, (SIZE, SIZE))
        return EpisodeRenderer(contract, {"cameras": [camera]}, None, 0)
    except UserError:
        return None


def _drawn(renderer: EpisodeRenderer, data: EpisodeSource, i: int) -> Frames | None:
    if "states" not in data.keys(i):
        return None
    states = data.read(i, "states")
    states = states[_shown(len(states))]
    recorded = json.loads(data.episode_attribute(i, "randomization", "{}"))
    try:
        frames: Frames = renderer.draw(states, [recorded] * len(states))["image"]
    except UserError:  # no render engine works here; the page has the numbers all the same
        return None
    return frames


def _shown(length: int) -> slice:
    return slice(None, None, math.ceil(length / _MOST_FRAMES))


def _jpeg(image: NDArray[np.uint8]) -> str:
    import imageio.v3 as iio

    buffer = io.BytesIO()
    iio.imwrite(buffer, image, extension=".jpg", quality=80)
    return data_uri(buffer.getvalue(), "image/jpeg")


def _mp4(frames: Frames, fps: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.mp4"
        write_video(path, iter(frames), fps)
        return path.read_bytes()


def _title(data: EpisodeSource, chosen: Sequence[int]) -> str:
    total = len(data.split("all"))
    return "Episodes" if len(chosen) == total else f"Episodes ({len(chosen)} of {total:,})"


def _note(cards: Sequence[Card]) -> str:
    silent = sum(not card.source for card in cards)
    if not silent:
        return "Click an episode to play it."
    if not any(card.poster for card in cards):
        return (
            "Nothing here can be drawn: the dataset has neither images nor states of a known scene."
        )
    return f"Click an episode to play it; {silent} more videos would make this page too large."


def _summary(data: EpisodeSource) -> tuple[VerdictBox, str]:
    chosen = [data.episodes[i] for i in data.split("all")]
    steps = sum(meta.length for meta in chosen)
    known = [bool(meta.success) for meta in chosen if meta.success is not None]
    rate = f"{100 * np.mean(known):.1f} % successful" if known else "success is not recorded"
    policies = {
        str(data.episode_attribute(i, "policy", "")) for i in data.split("all")[:MOST_EPISODES]
    }
    by = ", ".join(sorted(filter(None, policies)))
    detail = f"{steps:,} steps, {steps / len(chosen):.1f} per episode." + (
        f" Policy: {by}." if by else ""
    )
    box = VerdictBox("neutral", f"{len(chosen):,} episodes, {rate}", printable(detail))
    return box, printable(str(data.path))
