"""Sections that several kinds of reports have."""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.evaluation.comparison import SuccessRate, outcome
from simscaleai.evaluation.episode_videos import film_episodes
from simscaleai.evaluation.policy_runner import EvalSpec
from simscaleai.rollout.outcomes import DIVERGED, EpisodeResult
from simscaleai.rollout.policy_source import PolicySource
from simscaleai.tools.console import text
from simscaleai.tools.report.report_figures import run_folder, training_curves
from simscaleai.tools.report.report_page import (
    Figures,
    Funnel,
    FunnelStep,
    Gallery,
    Medium,
    Preformatted,
    Section,
    Table,
    data_uri,
)
from simscaleai.tracking.run_info import CONFIG_FILE, versions

MOST_EPISODES = 500  # rows of the table of episodes
VIDEO_BYTES = 2_500_000  # of all videos; base64 makes 3.3 MB of them
_LARGEST_CONFIG = 50_000  # characters; one file of untrusted size must not fill the page
# fields of settings that are no flag of the command, or change no result
_NO_FLAGS = {"device", "show_progress", "resume"}


def rate_of(episodes: Sequence[EpisodeResult]) -> SuccessRate:
    """Return the success rate of at least one episode."""
    return SuccessRate.of(sum(bool(e.success) for e in episodes), len(episodes))


def funnel(title: str, episodes: Sequence[EpisodeResult], stages: Sequence[str]) -> Funnel:
    """Return where episodes ended, stage by stage.

    Args:
      title: heading.
      episodes: of one policy.
      stages: failure stages of the task, in their order; others that occurred follow.
    """
    ended = Counter(e.stage for e in episodes if not e.success and e.stage is not None)
    # unstable physics first: it may end an episode before any stage
    order = [DIVERGED] if ended[DIVERGED] else []
    order += [stage for stage in stages if stage not in order]
    # of a task that has changed since, or of another package
    order += sorted(stage for stage in ended if stage not in order)
    left, steps = len(episodes), []
    for stage in order:
        left -= ended[stage]
        steps.append(FunnelStep(stage.replace("_", " "), ended[stage], left))
    note = "From the first stage that an episode can miss to the last. Orange: episodes that ended there."
    return Funnel(title, len(episodes), tuple(steps), note)


def episode_table(episodes: Sequence[EpisodeResult]) -> Table:
    """Return a folded table of the episodes, the failures first."""
    shown = sorted(episodes, key=lambda e: (bool(e.success), e.index))[:MOST_EPISODES]
    rows = [
        (str(e.index), outcome(e), str(e.length), f"{e.reward:.3g}", e.instruction, str(e.seed))
        for e in shown
    ]
    columns = ("episode", "outcome", "steps", "return", "instruction", "seed")
    more = "" if len(shown) == len(episodes) else f" (the first {len(shown)} of {len(episodes)})"
    return Table(f"Episodes{more}", columns, tuple(rows), folded=True)


def command_line(command: str, arguments: Sequence[str], settings: Converted, *more: str) -> str:
    """Return the command that repeats a call: flags for the settings that differ from their defaults."""
    words, defaults = ["simscale", command, *arguments], type(settings)()
    for each in fields(settings):  # type: ignore[arg-type]  # a dataclass by contract
        value = getattr(settings, each.name)
        if each.name in _NO_FLAGS or value == getattr(defaults, each.name):
            continue
        # flags are named as settings, but for this one
        name = {"output_dir": "output"}.get(each.name, each.name)
        words.append("--" + name.replace("_", "-"))
        if isinstance(value, list):
            words.append(",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value))
        elif value is not True:  # a switch has no value
            words.append(str(value))
    return shlex.join([*words, *more])


def origin(command: str, settings: Converted | Mapping[str, object]) -> list[Section]:
    """Return the sections on how a report was made."""
    values = settings if isinstance(settings, Mapping) else asdict(settings)  # type: ignore[call-overload]
    used = tuple((name.replace("_", " "), _plain(value)) for name, value in values.items())
    return [
        Preformatted("Made by", command),
        Table("Settings", ("setting", "value"), used, folded=True),
        Table("Versions", ("what", "version"), tuple(versions().items()), folded=True),
    ]


def training_sections(policies: Mapping[str, str]) -> list[Section]:
    """Return curves and settings of the runs of {title: policy}, as far as there are records."""
    sections: list[Section] = []
    for title, policy in policies.items():
        of = f" of {title}" if len(policies) > 1 else ""
        sections.append(Figures(f"Training{of}", training_curves(policy)))
        folder = run_folder(policy)
        config = folder / CONFIG_FILE if folder is not None else None
        if config is not None and config.is_file():
            with config.open(encoding="utf-8", errors="replace") as file:
                written = file.read(_LARGEST_CONFIG)
            sections.append(Preformatted(f"Training settings{of}", written, folded=True))
    return sections


def gallery(title: str, videos: Sequence[tuple[Path, str]], note: str = "") -> Gallery:
    """Return videos (file, caption) that play in the page, as many as fit into `VIDEO_BYTES`."""
    media, used = [], 0
    for path, caption in videos:
        # a file that has been removed since counts as too large, and is not an error
        size = path.stat().st_size if path.is_file() else VIDEO_BYTES + 1
        if used + size <= VIDEO_BYTES:
            used += size
            media.append(Medium(data_uri(path.read_bytes(), "video/mp4"), caption))
    # a small video after one that did not fit is still taken
    missing = len(videos) - len(media)
    if missing:
        note = f"{note} {missing} more would make this page too large.".strip()
    return Gallery(title, tuple(media), note)


def failures(source: PolicySource, spec: EvalSpec, episodes: Sequence[EpisodeResult]) -> Gallery:
    """Return a gallery of these episodes, which are filmed now; without videos where nothing can render."""
    title = "Failures"
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = film_episodes(source, spec, episodes, Path(folder))
        except UserError as error:  # the numbers of a report do not depend on its videos
            return Gallery(title, (), f"No videos: {error}")
        captions = [caption_of(episode) for episode in episodes]
        return gallery(title, list(zip(paths, captions, strict=True)))


def caption_of(episode: EpisodeResult) -> str:
    """Return the number and the outcome of an episode, and what was asked."""
    asked = f" “{episode.instruction}”" if episode.instruction else ""
    return f"Episode {episode.index}: {outcome(episode).replace('_', ' ')}.{asked}"


def most_frequent(episodes: Sequence[EpisodeResult]) -> str:
    """Return a sentence on the stages at which most episodes failed; "" without failures."""
    ended = Counter(outcome(e).replace("_", " ") for e in episodes if not e.success)
    if not ended:
        return ""
    listed = ", ".join(f"{stage} ({count})" for stage, count in ended.most_common(3))
    return f"Failures by stage: {listed}."


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else text("", value) or str(value)
