"""Evaluate a policy by name: a checkpoint, "scripted", "random" or "module:function".

    results = evaluate_source("runs/a/final.pt", SourceEvaluation(n_episodes=1000, videos="failures"))

Every episode is recorded as it ends: an evaluation that was killed goes on where it was when it is started
again with the same settings, and gives the same results as one that was not.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from simscaleai.convert import Converted
from simscaleai.errors import UnsavedResults, UserError, printable, unknown_name
from simscaleai.evaluation.episode_log import EpisodeLog
from simscaleai.evaluation.episode_videos import film_episodes
from simscaleai.evaluation.eval_files import EvalFiles
from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.evaluation.progress_track import tracked
from simscaleai.evaluation.spread_episodes import EpisodeTask, spread
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.evaluation.suite import MAX_ENVS, suite
from simscaleai.evaluation.summary import Metrics, summarize
from simscaleai.executors import Executor, choose_executor
from simscaleai.executors.main_module import end_if_imported_by_worker
from simscaleai.json_types import JsonDict
from simscaleai.rollout.loop import Recorder
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policies import NAMES, is_function
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.rollout.served_policy import is_server

logger = logging.getLogger(__name__)

VIDEOS = ("failures", "all")


@dataclass
class SourceEvaluation(Converted):
    """How `evaluate_source` runs.

    Attributes:
      n_episodes: how many episodes, or with `until_interval` at most; of scenes with `every_instruction`.
      seed, env_name, randomize, phrasings, every_instruction, robot, env_kwargs, instruction: see
        `EvalSpec`.
      num_envs: how many episodes run at once; by default at most `suite.MAX_ENVS`.
      until_interval: stop once the 95 % interval of the success rate is this narrow (high minus low).
      output_dir: where the results go; by default beside the checkpoint, and nowhere for other policies.
      device: where a checkpoint's model runs.
      show_progress: whether to draw a progress bar on stderr.
      resume: take the results of the same evaluation from their file if it was finished before.
      videos: "failures" or "all", to film the first `max_videos` of them.
      max_videos: how many.
      workers: processes, or tasks of the executor that run at once; 1 runs in this process.
      executor: what runs the episodes: "processes", "slurm" or "ray", with options as in "ray:num_cpus=2", or
        an `executors.Executor`. The results are the same; `recorders` see no episode.
    """

    n_episodes: int = 100
    seed: int = 0
    env_name: str | None = None
    randomize: str | None = None
    phrasings: str = "train"
    every_instruction: bool = False
    num_envs: int | None = None
    until_interval: float | None = None
    output_dir: str | None = None
    device: str = "auto"
    show_progress: bool = True
    resume: bool = False
    videos: str | None = None
    max_videos: int = 5
    robot: str | None = None
    env_kwargs: JsonDict = field(default_factory=dict)
    instruction: str | None = None
    workers: int = 1
    executor: str | Executor | None = None

    @property
    def spec(self) -> EvalSpec:
        """The episodes that are meant, however many."""
        return EvalSpec.of(self)


def evaluate_source(
    policy: str,
    settings: SourceEvaluation | None = None,
    recorders: Sequence[Recorder] = (),
) -> Metrics:
    """Evaluate a policy by name.

    Args:
      policy: as of `find_policy_source`.
      settings: which episodes, and what is written.
      recorders: observe the episodes that are run now, and not those of an interrupted evaluation's log.

    Returns:
      What `evaluate_checkpoint` does; "checkpoint" is the policy's name in full, and "stages" lists the
      failure stages of the task in their order. With videos also "videos", a list of their paths.

    Raises:
      UserError: there is no such policy, it does not fit the environment, or a setting is out of range.
      UnsavedResults: the files could not be written in the end; the error has the results.
    """
    end_if_imported_by_worker()
    settings = settings or SourceEvaluation()
    _check(settings)
    spec = settings.spec
    source = find_policy_source(policy, *spec.source_arguments(settings.device))
    num_envs = settings.num_envs or min(settings.n_episodes, MAX_ENVS)
    with PolicyRunner(source, spec, num_envs) as runner:
        about = _about(runner, settings)
        files = _files(settings, about)
        # the same checkpoint in the same episodes can only give the same results
        found = files.finished() if files is not None and settings.resume else None
        if found is not None:
            return found
        with _log(files) as log:
            ended: list[EpisodeResult] = []  # so far
            try:
                episodes = _episodes(runner, settings, about["n_episodes"], log, recorders, ended)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(_stopped(ended, about["n_episodes"], log)) from None
            results = {**about, **summarize(episodes)}
            results["output_path"] = str(files.path) if files is not None else None
            if files is not None:
                _write(files, results)
            if log is not None:
                log.delete()  # what it holds is in the results now
        # last, so that nothing that goes wrong with a video costs the results
        if settings.videos is not None:
            folder = files.video_dir if files is not None else Path("eval_videos")
            results["videos"] = _film(runner, settings, episodes, folder)
            if files is not None:
                _write(files, results)
    return results


def _check(settings: SourceEvaluation) -> None:
    suite(settings.seed, settings.n_episodes)
    if settings.workers < 1:
        raise UserError(f"workers is {settings.workers}; it must be at least 1.")
    if settings.videos is not None and settings.videos not in VIDEOS:
        raise unknown_name("choice of videos", settings.videos, VIDEOS)
    if settings.instruction is not None and (
        settings.every_instruction or settings.phrasings != "train"
    ):
        raise UserError(
            "instruction is one sentence for all episodes; leave out every_instruction and phrasings."
        )
    width = settings.until_interval
    if width is not None and not 0 < width < 1:
        raise UserError(f"until_interval is {width}; it must be between 0 and 1, such as 0.02.")
    if width is not None and settings.every_instruction:
        raise UserError(
            "until_interval is for one episode of each scene; leave out every_instruction."
        )


def _about(runner: PolicyRunner, settings: SourceEvaluation) -> Metrics:
    """Return what the results say of themselves, and what `EvalFiles` tells them apart by."""
    contract, identity = runner.source.contract, runner.identity()
    about: Metrics = {
        "checkpoint": runner.source.name,
        "checkpoint_sha256": identity["checkpoint_sha256"],
        "env_name": identity["env_name"],
        "trained_on": contract.env_name if contract is not None else None,
        "n_episodes": settings.n_episodes * runner.episodes_per_scene,
        "seed": settings.seed,
        "randomize": settings.randomize,
        "phrasings": settings.phrasings,
        "stages": list(runner.stages),
    }
    if settings.robot is not None:
        about["robot"] = settings.robot
    if settings.env_kwargs:
        about["env_kwargs"] = settings.env_kwargs
    if settings.instruction is not None:
        about["instruction"] = settings.instruction
    if settings.every_instruction:
        about |= {"n_scenes": settings.n_episodes, "every_instruction": True}
    if settings.until_interval is not None:
        about |= {"until_interval": settings.until_interval, "max_episodes": settings.n_episodes}
    return about


def _files(settings: SourceEvaluation, about: Metrics) -> EvalFiles | None:
    """Return where the results go; None if they go nowhere."""
    name = about["checkpoint"]
    if settings.output_dir is not None:  # a place that was asked for is not silently left out
        return EvalFiles(Path(settings.output_dir), about)
    if name in NAMES or is_function(name) or is_server(name):
        return None
    try:
        return EvalFiles(Path(name).parent, about)
    except UserError as error:  # a policy in a read-only folder is still worth evaluating
        logger.warning(printable(f"The results will not be saved: {error}"))
        return None


def _log(files: EvalFiles | None) -> AbstractContextManager[EpisodeLog | None]:
    """Return the log of an evaluation that is saved; of another one, none."""
    return nullcontext() if files is None else EpisodeLog(files.log_path, files.log_identity)


def _episodes(
    runner: PolicyRunner,
    settings: SourceEvaluation,
    n: int,
    log: EpisodeLog | None,
    recorders: Sequence[Recorder],
    ended: list[EpisodeResult],
) -> list[EpisodeResult]:
    """Return all episodes of the evaluation: those of the log, and the others, which are run now.

    `ended` gets each of them as it ends.
    """
    # a copy, as the log grows while episodes are run; of other numbers there are none in a log of ours
    logged = dict(log.finished) if log is not None else {}
    recorded = {i: result for i, result in logged.items() if 0 <= i < n}
    if recorded:
        logger.warning("Resuming the evaluation: %d of %d episodes are recorded.", len(recorded), n)
    # lazy: with `until_interval` most of them are never begun
    missing = (i for i in range(n) if i not in recorded)
    if settings.executor is None and settings.workers == 1:
        results = runner.run(missing, recorders)
    else:
        place = log.path.parent if log is not None else Path()
        results = _spread(runner, settings, list(missing), place)
    running = _noted(itertools.chain(recorded.values(), _logged(results, log)), ended)
    # the bar counts recorded episodes as well, and so starts where the last run ended
    shown = tracked(running, "Evaluating", n, settings.show_progress)
    if settings.until_interval is None:
        return list(shown)
    return until_narrow(shown, settings.until_interval)


def _spread(
    runner: PolicyRunner, settings: SourceEvaluation, missing: Sequence[int], place: Path
) -> Iterator[EpisodeResult]:
    """Run episodes on the executor of the settings; logs of a cluster go into the folder `place`."""
    size = settings.num_envs or max(1, min(-(-len(missing) // settings.workers), MAX_ENVS))
    task = EpisodeTask.of(runner.source, runner.spec, settings.device, size, missing)
    count, folder = len(task.chunks), place.absolute() / "eval"
    executor = choose_executor(
        settings.executor, settings.workers, count, folder, needs_main=task.registered.needs_main
    )
    return spread(task, executor)


def _logged(results: Iterable[EpisodeResult], log: EpisodeLog | None) -> Iterator[EpisodeResult]:
    for result in results:
        if log is not None:
            log.append(result)
        yield result


def _noted(results: Iterable[EpisodeResult], ended: list[EpisodeResult]) -> Iterator[EpisodeResult]:
    for result in results:
        ended.append(result)
        yield result


def _stopped(ended: Sequence[EpisodeResult], n: int, log: EpisodeLog | None) -> str:
    """Return what Ctrl-C leaves of an evaluation: what was counted, and how it resumes."""
    sentence = f"Stopped after {len(ended)} of {n} episodes"
    if any(episode.success is not None for episode in ended):
        found = summarize(ended)
        low, high = found["success_ci"]
        sentence += (
            f": {100 * found['success_rate']:.1f} % success (95 % interval {100 * low:.1f} to"
            f" {100 * high:.1f} %; episodes that end early count first)"
        )
    if log is None:
        return f"{sentence}. They are not kept: give --output to keep them."
    return f"{sentence}. They are kept; run the same command again to resume."


def until_narrow(results: Iterable[EpisodeResult], width: float) -> list[EpisodeResult]:
    """Return the first episodes of a suite whose Wilson interval is at most `width` wide, or all.

    Args:
      results: in any order. They count in the order of the suite: as they end, successes would come first.
      width: high minus low.
    """
    waiting: dict[int, EpisodeResult] = {}
    taken: list[EpisodeResult] = []
    successes = 0
    for result in results:
        waiting[result.index] = result
        while (following := waiting.pop(len(taken), None)) is not None:
            taken.append(following)
            successes += bool(following.success)
            low, high = wilson_interval(successes, len(taken))
            if high - low <= width:
                return taken
    return taken


def _film(
    runner: PolicyRunner,
    settings: SourceEvaluation,
    episodes: Iterable[EpisodeResult],
    folder: Path,
) -> list[str]:
    # by number, so that the same failures are filmed whatever ended first
    in_order = sorted(episodes, key=lambda episode: episode.index)
    wanted = [e for e in in_order if settings.videos == "all" or not e.success]
    chosen = wanted[: settings.max_videos]
    return [str(path) for path in film_episodes(runner.source, runner.spec, chosen, folder)]


def _write(files: EvalFiles, results: Metrics) -> None:
    """Write results; where that fails, raise them, so that the episodes were not run for nothing."""
    try:
        # whole or not at all: an older file of the same evaluation survives a full disk
        files.write(results)
    except OSError as error:
        raise UnsavedResults(
            f"The results are not saved: {files.path}: {error.strerror}.", results
        ) from error
