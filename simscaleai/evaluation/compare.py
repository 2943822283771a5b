"""Compare policies on the same starts, episode by episode, until the answer is safe.

    report = compare_policies(["runs/old/final.pt", "runs/new/final.pt"])
    report.comparisons[0].verdict               # "improved", "regressed", "same" or "undecided"

The first policy is the baseline, and each other one a candidate. All run the episodes of one suite in waves.
After every episode `SequentialComparison` looks whether the success rates are known to differ, or known to be
the same up to `min_difference`, and no more episodes are run once all candidates have a verdict.

Promise: with probability 1 - alpha no verdict is wrong, over all candidates and however early it came.

Trap: `changes`, McNemar's p-value and Newcombe's interval are for a number of episodes that was chosen
beforehand. They describe the episodes that were run; the verdict does not rest on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace

from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.evaluation.compare_files import CompareFiles
from simscaleai.evaluation.comparison import Comparison, sum_up
from simscaleai.evaluation.confidence_sequence import SequentialComparison, Verdict
from simscaleai.evaluation.episode_log import EpisodeLog
from simscaleai.evaluation.episode_videos import film_side_by_side
from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.evaluation.progress_track import tracked
from simscaleai.evaluation.suite import suite
from simscaleai.json_types import JsonDict
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_source import PolicySource, find_policy_source
from simscaleai.sim.base_env import SimConfig

WAVE = 32
"""Episodes that run at once; up to as many are run beyond the verdict."""

# fields of a `SimConfig` that change neither where episodes start nor what actions do
_UNPHYSICAL = {"cameras", "observe_depth", "observe_segmentation", "render_engine", "seed"}


@dataclass
class CompareSettings(Converted):
    """How `compare_policies` runs.

    Attributes:
      min_difference: differences of success rates below this do not matter; in (0, 1).
      max_episodes: pairs of episodes after which a comparison ends undecided.
      alpha: probability of a wrong verdict, at most; divided among the candidates.
      seed, env_name, randomize, phrasings, robot, env_kwargs: see `EvalSpec`.
      num_envs: number of episodes that run at once.
      output_dir: where the results go; by default a folder of `runs/compare`.
      videos: how many of the episodes that differ are filmed, side by side.
      device: where checkpoints' models run.
      show_progress: whether to draw a progress bar on stderr.
    """

    min_difference: float = 0.05
    max_episodes: int = 1000
    alpha: float = 0.05
    seed: int = 0
    env_name: str | None = None
    randomize: str | None = None
    phrasings: str = "train"
    robot: str | None = None
    env_kwargs: JsonDict = field(default_factory=dict)
    num_envs: int = WAVE
    output_dir: str | None = None
    videos: int = 0
    device: str = "auto"
    show_progress: bool = True


@dataclass(frozen=True)
class CompareReport:
    """What `compare_policies` found.

    Attributes:
      env_name: the environment.
      settings: how it was run.
      comparisons: one for each candidate.
      stages: failure stages of the task, in their order.
      episodes: {policy: its episodes in the order of the suite}; some may lie beyond the verdict.
      output_dir: where the files are.
    """

    env_name: str
    settings: CompareSettings
    comparisons: tuple[Comparison, ...]
    stages: tuple[str, ...]
    episodes: dict[str, list[EpisodeResult]] = field(repr=False)
    output_dir: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the attributes by name, as plain values."""
        return asdict(self)


def compare_policies(
    policies: Sequence[str], settings: CompareSettings | None = None
) -> CompareReport:
    """Compare policies on the same starts and write what was found.

    Args:
      policies: the baseline and at least one candidate; as of `find_policy_source`.
      settings: which episodes, and how sure the verdict has to be.

    Raises:
      UserError: a policy cannot be used, the policies' environments differ, a setting is out of range, or the
        results cannot be written.
    """
    settings = settings or CompareSettings()
    _check(policies, settings)
    spec = EvalSpec.of(settings)
    arguments = spec.source_arguments(settings.device)
    sources = same_environment([find_policy_source(name, *arguments) for name in policies])
    with ExitStack() as stack:
        num_envs = min(settings.num_envs, settings.max_episodes)
        runners = [stack.enter_context(PolicyRunner(source, spec, num_envs)) for source in sources]
        files = _files(runners, settings)
        # one log for each policy, so that an interrupted comparison resumes where it was
        logs = [
            stack.enter_context(EpisodeLog(files.log_path(k), runner.identity()))
            for k, runner in enumerate(runners)
        ]
        tests, episodes = _run(runners, logs, settings)
        report = _report(runners, tests, episodes, files, settings)
        files.write(report.to_dict(), report.episodes)
        for log in logs:
            log.delete()  # what they hold is in the report now
    if settings.videos:
        report = _filmed(report, sources, spec, episodes, files)
    return report


def _files(runners: Sequence[PolicyRunner], settings: CompareSettings) -> CompareFiles:
    """Return the files of this comparison, and of no other one."""
    identity = {
        "policies": [runner.identity() for runner in runners],
        "min_difference": settings.min_difference,
        "max_episodes": settings.max_episodes,
        "alpha": settings.alpha,
    }
    return CompareFiles(settings.output_dir, [runner.source.name for runner in runners], identity)


def _report(
    runners: Sequence[PolicyRunner],
    tests: Sequence[SequentialComparison],
    episodes: Sequence[list[EpisodeResult]],
    files: CompareFiles,
    settings: CompareSettings,
) -> CompareReport:
    """Sum up each candidate against the baseline, the first of `runners`."""
    baseline, stages = runners[0], runners[0].stages
    comparisons = [
        # each rests on the episodes until its own verdict, which others may outlast
        sum_up((baseline.source.name, runner.source.name), test, episodes[0], candidate, stages)
        for runner, test, candidate in zip(runners[1:], tests, episodes[1:], strict=True)
    ]
    return CompareReport(
        env_name=baseline.env.contract.env_name,
        settings=settings,
        comparisons=tuple(comparisons),
        stages=stages,
        episodes=dict(zip(files.names, episodes, strict=True)),
        output_dir=str(files.folder),
    )


def _check(policies: Sequence[str], settings: CompareSettings) -> None:
    if len(policies) < 2:
        raise UserError("A comparison needs at least two policies: a baseline and a candidate.")
    for name in ("min_difference", "alpha"):
        value = getattr(settings, name)
        if not 0 < value < 1:
            raise UserError(f"{name} is {value}; it must be between 0 and 1, such as 0.05.")
    # settings of episodes are checked before the first policy is loaded
    suite(settings.seed, settings.max_episodes)


def same_environment(sources: Sequence[PolicySource]) -> list[PolicySource]:
    """Return the sources with environments in which the same seeds give the same starts.

    Policies that have no environment of their own get that of the first one that has.

    Raises:
      UserError: two policies were made for environments that differ in more than cameras.
    """
    # checkpoints know the environment of their data; the expert and functions go wherever they are put
    first = next((source for source in sources if source.has_environment), sources[0])
    without_cameras = replace(
        first.config, cameras=[], observe_depth=False, observe_segmentation=False
    )
    # each keeps its own cameras: what a policy sees is its own affair
    fitted = []
    for source in sources:
        if not source.has_environment:
            source = replace(source, env_name=first.env_name, config=without_cameras)
        found = _differences(first, source)
        if found:
            raise UserError(
                f"{first.name} and {source.name} act in environments that differ: {'; '.join(found)}."
                " Compare policies that were trained in the same one, or say what holds for both:"
                " --env-name NAME, --env SETTING=VALUE."
            )
        fitted.append(source)
    return fitted


def _differences(first: PolicySource, second: PolicySource) -> list[str]:
    """Return what decides on starts and dynamics and is not the same, one clause each."""
    pairs = [("environment", first.env_name, second.env_name)]
    for setting in fields(SimConfig):
        if setting.name not in _UNPHYSICAL:
            values = (getattr(source.config, setting.name) for source in (first, second))
            pairs.append((setting.name, *values))
    return [f"{name} {a!r} and {b!r}" for name, a, b in pairs if a != b]


def _run(
    runners: Sequence[PolicyRunner], logs: Sequence[EpisodeLog], settings: CompareSettings
) -> tuple[list[SequentialComparison], list[list[EpisodeResult]]]:
    """Run waves of episodes until all candidates have a verdict."""
    # Bonferroni: the probability that any verdict is wrong is at most the sum over candidates
    alpha = settings.alpha / (len(runners) - 1)
    tests = [SequentialComparison(settings.min_difference, alpha) for _ in runners[1:]]
    episodes: list[list[EpisodeResult]] = [[] for _ in runners]
    waves = list(_waves(settings.max_episodes, settings.num_envs))
    for wave in tracked(waves, "Comparing", len(waves), settings.show_progress):
        # a candidate with a verdict needs no more episodes; the baseline does, for the others
        for k, (runner, log) in enumerate(zip(runners, logs, strict=True)):
            if k == 0 or tests[k - 1].verdict is Verdict.UNDECIDED:
                episodes[k] += _recorded(runner, log, wave)
        for k, test in enumerate(tests, start=1):
            for i in wave:  # in the order of the suite, see the trap of `confidence_sequence`
                if test.verdict is Verdict.UNDECIDED:
                    test.add(_succeeded(episodes[0][i]), _succeeded(episodes[k][i]))
        if all(test.verdict is not Verdict.UNDECIDED for test in tests):
            break
    return tests, episodes


def _waves(n: int, size: int) -> Iterator[range]:
    for start in range(0, n, size):
        yield range(start, min(start + size, n))


def _recorded(runner: PolicyRunner, log: EpisodeLog, indices: Iterable[int]) -> list[EpisodeResult]:
    """Return these episodes in order, those of an interrupted comparison from its log."""
    wanted = list(indices)
    for result in runner.run([i for i in wanted if i not in log.finished]):
        log.append(result)
    return [log.finished[i] for i in wanted]


def _succeeded(episode: EpisodeResult) -> bool:
    if episode.success is None:
        raise UserError(
            "The environment never said whether an episode succeeded, and so nothing can be compared."
        )
    return episode.success


def _filmed(
    report: CompareReport,
    sources: Sequence[PolicySource],
    spec: EvalSpec,
    episodes: Sequence[list[EpisodeResult]],
    files: CompareFiles,
) -> CompareReport:
    """Film the first episodes that differ, for each candidate; write their paths into the report."""
    comparisons = []
    for k, comparison in enumerate(report.comparisons, start=1):
        chosen = [e.index for e in comparison.differing[: report.settings.videos]]
        both = [[episodes[0][i], episodes[k][i]] for i in chosen]
        folder = files.folder / "videos" / files.names[k]
        paths = film_side_by_side([sources[0], sources[k]], spec, both, folder)
        comparisons.append(replace(comparison, videos=tuple(map(str, paths))))
    report = replace(report, comparisons=tuple(comparisons))
    files.write(report.to_dict(), report.episodes)
    return report
