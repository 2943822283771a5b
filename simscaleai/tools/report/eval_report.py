"""The report of evaluations of one or several policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from simscaleai.errors import UserError
from simscaleai.evaluation.comparison import SuccessRate
from simscaleai.evaluation.evaluate_source import SourceEvaluation
from simscaleai.evaluation.following import LABELS
from simscaleai.evaluation.path_recorder import HandPath, PathRecorder
from simscaleai.evaluation.report_folder import short_names
from simscaleai.evaluation.summary import Metrics
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tools.report.report_figures import (
    MOST_PATHS,
    can_draw,
    medium,
    plot_paths,
    plot_success_over_time,
)
from simscaleai.tools.report.report_page import (
    REPORT,
    Figures,
    Gallery,
    Medium,
    Rates,
    Report,
    Section,
    VerdictBox,
    write_report,
)
from simscaleai.tools.report.report_parts import (
    command_line,
    episode_table,
    failures,
    funnel,
    gallery,
    most_frequent,
    origin,
    rate_of,
    training_sections,
)

FILMED = 6
"""Failures of each policy that are filmed."""


def report_path(results: Metrics, settings: SourceEvaluation) -> Path:
    """Return where the report of an evaluation goes: beside its results."""
    if settings.output_dir is not None:
        return Path(settings.output_dir) / REPORT
    # `output_path` is None where the results could not be saved
    if results.get("output_path"):
        return Path(results["output_path"]).parent / REPORT
    return RUNS / "reports" / short_names([results["checkpoint"]])[0] / REPORT


def write_eval_report(
    path: Path,
    found: Sequence[Metrics],
    settings: SourceEvaluation,
    recorders: Sequence[PathRecorder] = (),
    command: str | None = None,
) -> None:
    """Write the report of evaluations with the same settings.

    Args:
      path: the file.
      found: results of `evaluate_source`, of one policy each.
      settings: those of the evaluations.
      recorders: paths of the gripper, one for each policy; none where they were not recorded.
      command: what repeats it; `simscale eval` with these settings by default.
    """
    policies = [str(results["checkpoint"]) for results in found]
    names = short_names(policies)
    episodes = {
        name: [EpisodeResult(**e) for e in results["episodes"]]
        for name, results in zip(names, found, strict=True)
    }
    several = len(found) > 1  # then headings name the policy
    sections: list[Section] = []
    if several:
        rows = tuple((name, rate_of(of)) for name, of in episodes.items())
        sections.append(Rates("Success of each policy", rows))
        sections.append(Figures("When episodes succeed", _over_time(episodes)))
    for k, (name, results) in enumerate(zip(names, found, strict=True)):
        paths = recorders[k].paths if k < len(recorders) else {}
        sections += _of_policy(name if several else "", results, episodes[name], settings, paths)
    sections += training_sections(dict(zip(names, policies, strict=True)))
    # `demo` and others give their own command, which has made more than the report
    command = command or command_line("eval", policies, settings, "--report")
    sections += origin(command, settings)
    envs = ", ".join(dict.fromkeys(str(results["env_name"]) for results in found))
    randomized = f", randomization {settings.randomize}" if settings.randomize else ""
    subtitle = f"{found[0]['n_episodes']} episodes of suite {settings.seed} in {envs}{randomized}"
    verdicts = tuple(_verdict(n, episodes[n], several) for n in names)
    write_report(path, Report(f"Evaluation of {', '.join(names)}", subtitle, verdicts, sections))


def _verdict(name: str, episodes: Sequence[EpisodeResult], several: bool) -> VerdictBox:
    success = rate_of(episodes)
    low, high = success.interval
    headline = f"{100 * success.rate:.1f} % success"
    # an environment of another package may not say it; 0 % would be wrong
    if all(e.success is None for e in episodes):
        headline = "Success was not reported"
    detail = (
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %, {success.successes} of {success.n} episodes."
        f" {most_frequent(episodes)}"
    )
    return VerdictBox("neutral", f"{name}: {headline}" if several else headline, detail)


def _of_policy(
    name: str,
    results: Metrics,
    episodes: Sequence[EpisodeResult],
    settings: SourceEvaluation,
    paths: Mapping[tuple[int, str], HandPath],
) -> list[Section]:
    """Return the sections on one policy; its name is "" where there is no other."""

    def title(text: str) -> str:
        return f"{name}: {text[0].lower()}{text[1:]}" if name else text

    rows: list[tuple[str, SuccessRate]] = [("all episodes", rate_of(episodes))]
    for category in results.get("categories", {}):
        rows.append((category, rate_of([e for e in episodes if e.category == category])))
    sections: list[Section] = [Rates(title("Success"), tuple(rows))]
    following = results.get("following", {})
    shares = tuple(
        (LABELS.get(key, key), SuccessRate.of(share["count"], share["n"]))
        for key, share in following.items()
        if share["n"]  # no episode of this kind, as without several objects
    )
    sections.append(Rates(title("Following the instruction"), shares))
    sections.append(funnel(title("Where episodes fail"), episodes, results.get("stages", ())))
    sections.append(_failed(results, episodes, settings, title("Failures")))
    # of several policies, one figure on top shows all
    over_time = () if name else _over_time({"": episodes})
    sections.append(
        Figures(title("Over time, and over the table"), (*over_time, *_paths(episodes, paths)))
    )
    return [*sections, episode_table(episodes)]


def _failed(
    results: Metrics, episodes: Sequence[EpisodeResult], settings: SourceEvaluation, title: str
) -> Gallery:
    """Return the first failures, from the videos of the evaluation if it has some."""
    failed = [e for e in episodes if not e.success][:FILMED]
    if "videos" in results:
        files = [Path(path) for path in results["videos"]]
        return gallery(title, [(file, file.stem.replace("_", " ")) for file in files])
    if not failed:
        return Gallery(title, (), "No episode failed.")
    # the policy acts again, on the same seeds: without a display or a codec the numbers stay
    try:
        arguments = settings.spec.source_arguments(settings.device)
        source = find_policy_source(str(results["checkpoint"]), *arguments)
    except UserError as error:
        return Gallery(title, (), f"No videos: {error}")
    filmed = failures(source, settings.spec, failed)
    return Gallery(title, filmed.media, filmed.note)


def _over_time(episodes: Mapping[str, Sequence[EpisodeResult]]) -> tuple[Medium, ...]:
    if not can_draw():
        return ()
    return (medium(plot_success_over_time(episodes), "Episodes that have succeeded by each step"),)


def _paths(
    episodes: Sequence[EpisodeResult], paths: Mapping[tuple[int, str], HandPath]
) -> tuple[Medium, ...]:
    # episodes of a resumed evaluation were recorded by no one
    recorded = [
        (paths[e.seed, e.instruction], bool(e.success))
        for e in episodes
        if (e.seed, e.instruction) in paths
    ][:MOST_PATHS]
    if not recorded or not can_draw():
        return ()
    caption = f"Paths of the gripper in {len(recorded)} episodes, seen from above"
    return (medium(plot_paths(recorded), caption),)
