"""Stress a policy: one thing at a time is other than in training, in levels, with a matched control.

    report = stress_policy("runs/a/final.pt", StressSettings(axes=["friction", "camera"]))
    report.axes[0].arms[-1].difference          # change of the success rate at the highest level

Each axis has arms: the control, at level 0, and one for each level. All arms run the same episodes of the
suite, through the same code, so that an arm differs from its control in nothing but the level, and each
episode is its own control. The control agrees with the plain evaluation of the same seed.

Trap: the p-values of a report are those of single arms. Of 30 arms that change nothing, one or two fall below
5 %; look at the curve over levels, or divide by the number of arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.evaluation.comparison import SuccessRate
from simscaleai.evaluation.episode_log import SUFFIX, EpisodeLog
from simscaleai.evaluation.following import Fraction, measure_following
from simscaleai.evaluation.policy_runner import EvalSpec, PolicyRunner
from simscaleai.evaluation.progress_track import tracked
from simscaleai.evaluation.report_folder import ReportFolder, short_names
from simscaleai.evaluation.statistics import Pairs, mcnemar_p_value, newcombe_interval
from simscaleai.evaluation.stress_axes import Axis, find_axes
from simscaleai.evaluation.stress_core import perturb
from simscaleai.evaluation.suite import MAX_ENVS, suite
from simscaleai.evaluation.summary import Metrics, summarize
from simscaleai.json_types import JsonDict
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.rollout.policy_source import PolicySource, find_policy_source
from simscaleai.sim.factory import make_vec_env
from simscaleai.storage.find_checkpoint import RUNS

REPORT = "stress.json"


@dataclass
class StressSettings(Converted):
    """How `stress_policy` runs.

    Attributes:
      axes: names of `stress_axes.AXES`; all that concern the policy by default.
      levels: of the axis, if it is a single one; each has its own by default.
      n_episodes: number of episodes of each arm.
      seed, env_name, randomize, phrasings, robot, env_kwargs: see `EvalSpec`.
      num_envs: number of episodes that run at once; by default at most `suite.MAX_ENVS`.
      output_dir: where the results go; by default a folder of `runs/stress`.
      device: where a checkpoint's model runs.
      show_progress: whether to draw a progress bar on stderr.
    """

    axes: list[str] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    n_episodes: int = 100
    seed: int = 0
    env_name: str | None = None
    randomize: str | None = None
    phrasings: str = "train"
    robot: str | None = None
    env_kwargs: JsonDict = field(default_factory=dict)
    num_envs: int | None = None
    output_dir: str | None = None
    device: str = "auto"
    show_progress: bool = True


@dataclass(frozen=True)
class StressArm:
    """The episodes of one level.

    Attributes:
      level: 0 for the control.
      success: success rate.
      difference: of success rates, this arm minus control; 0 for the control.
      interval: of the difference, 95 % (Newcombe, paired).
      p_value: of equal success rates (McNemar, exact).
      pairs: episodes by who succeeded, `only_first` the control and `only_second` this arm.
      mean_length: control steps.
      failure_stages: {stage: number of episodes}.
      following: which object was approached first, see `measure_following`; {} without such a choice.
      episodes: in the order of the suite.
    """

    level: float
    success: SuccessRate
    difference: float
    interval: tuple[float, float]
    p_value: float
    pairs: Pairs
    mean_length: float
    failure_stages: dict[str, int]
    following: dict[str, Fraction]
    episodes: list[EpisodeResult] = field(repr=False)


@dataclass(frozen=True)
class StressedAxis:
    """One axis.

    Attributes:
      name, unit, description: see `Axis`.
      arms: the control first, then by level; none where the axis is excluded.
      excluded: why the axis means nothing for the policy; "" where it does.
      strict: of "counterfactual", shares of scenes with the right object approached first, and with success,
        for every instruction; {} of others.
    """

    name: str
    unit: str
    description: str
    arms: tuple[StressArm, ...]
    excluded: str = ""
    strict: dict[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True)
class StressReport:
    """What `stress_policy` found.

    Attributes:
      policy: its name in full.
      env_name: the environment.
      settings: how it was run.
      axes: in the order in which they were asked for.
      output_dir: where the files are.
    """

    policy: str
    env_name: str
    settings: StressSettings
    axes: tuple[StressedAxis, ...]
    output_dir: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the attributes by name, as plain values."""
        return asdict(self)


def stress_policy(policy: str, settings: StressSettings | None = None) -> StressReport:
    """Run a policy in each level of each axis, and write what was found.

    Args:
      policy: as of `find_policy_source`.
      settings: which axes, levels and episodes.

    Raises:
      UserError: the policy cannot be used, an axis is unknown or means nothing for it although it was named,
        a level is out of range, or the results cannot be written.
    """
    settings = settings or StressSettings()
    suite(settings.seed, settings.n_episodes)
    spec = EvalSpec.of(settings)
    source = find_policy_source(policy, *spec.source_arguments(settings.device))
    planned = plan(source, settings)
    identity = _identity(source, spec, settings, planned)
    default = RUNS / "stress" / short_names([source.name])[0]
    # every arm has a log, which names its identity by that of the report
    folder = ReportFolder(settings.output_dir, default, REPORT, identity, [identity])
    logs: list[EpisodeLog] = []
    arms = [(axis, level) for axis, levels, _ in planned for level in levels]
    results: dict[tuple[str, float], list[EpisodeResult]] = {}
    for axis, level in tracked(arms, "Stressing", len(arms), settings.show_progress):
        log = EpisodeLog(folder.path / f"{axis.name}_{level:g}{SUFFIX}", identity)
        logs.append(log)
        with log:
            results[axis.name, level] = _run(source, spec, axis, level, settings, log)
    report = StressReport(
        policy=source.name,
        env_name=source.env_name,
        settings=settings,
        axes=tuple(
            _sum_up(axis, [(level, results[axis.name, level]) for level in levels], excluded)
            for axis, levels, excluded in planned
        ),
        output_dir=str(folder.path),
    )
    folder.write(report.to_dict())
    for log in logs:
        log.delete()  # what they hold is in the report now
    return report


def plan(
    source: PolicySource, settings: StressSettings
) -> list[tuple[Axis, tuple[float, ...], str]]:
    """Return the axes with their levels, 0 first, and why they are excluded ("" if they are not)."""
    axes = find_axes(settings.axes)
    # a level of 2 is two halvings of friction and two steps of delay: levels have the unit of their axis
    if settings.levels and len(settings.axes) != 1:
        raise UserError(
            "Levels are those of one axis; name it with --axes, such as --axes friction."
        )
    # what an axis means depends on the task and the scene, which an environment knows
    env = make_vec_env(source.env_name, 1, config=source.config)
    if env.task is None:
        raise UserError(
            f"The environment {source.env_name!r} has no Task, in which stress could change anything; use"
            " one that is made from a Task."
        )
    planned = []
    for axis in axes:
        excluded = axis.excluded(source, env.core)
        # one that was asked for is not silently left out
        if excluded and settings.axes:
            raise UserError(f"The axis {axis.name!r} means nothing here: {excluded}.")
        # as many as the task has requests, where the axis does not say
        own = axis.levels or tuple(float(k + 1) for k in range(len(env.task.requests)))
        levels = axis.check_levels(tuple(settings.levels) or own)
        planned.append((axis, () if excluded else (0.0, *levels), excluded))
    env.close()
    return planned


def _identity(
    source: PolicySource,
    spec: EvalSpec,
    settings: StressSettings,
    planned: Sequence[tuple[Axis, tuple[float, ...], str]],
) -> Metrics:
    """Return what the report depends on."""
    with PolicyRunner(source, spec, 1) as runner:
        return {
            **runner.identity(),
            "n_episodes": settings.n_episodes,
            "axes": {axis.name: levels for axis, levels, _ in planned},
        }


def _run(
    source: PolicySource,
    spec: EvalSpec,
    axis: Axis,
    level: float,
    settings: StressSettings,
    log: EpisodeLog,
) -> list[EpisodeResult]:
    """Return the episodes of one arm in order, those of an interrupted run from its log."""
    n = settings.n_episodes
    # an environment is only made if something is left to do
    missing = [i for i in range(n) if i not in log.finished]
    if missing:
        num_envs = settings.num_envs or min(n, MAX_ENVS)
        perturbation = axis.perturbation(level)
        with PolicyRunner(source, spec, num_envs, lambda env: perturb(env, perturbation)) as runner:
            for result in runner.run(missing):
                log.append(result)
    return [log.finished[i] for i in range(n)]


def _sum_up(
    axis: Axis, arms: Sequence[tuple[float, list[EpisodeResult]]], excluded: str
) -> StressedAxis:
    """Compare each arm with the control, the first one."""
    strict: dict[str, Fraction] = {}
    if axis.name == "counterfactual":
        # the control repeats one of the requests
        asked = [episode for _, episodes in arms[1:] for episode in episodes]
        found = measure_following(asked)
        strict = {name: found[name] for name in ("strict", "strict_success") if name in found}
    return StressedAxis(
        name=axis.name,
        unit=axis.unit,
        description=axis.description,
        arms=tuple(_arm(level, episodes, arms[0][1]) for level, episodes in arms),
        excluded=excluded,
        strict=strict,
    )


def _arm(level: float, episodes: list[EpisodeResult], control: list[EpisodeResult]) -> StressArm:
    # the same starts in both: each episode is its own control
    pairs = Pairs()
    for before, after in zip(control, episodes, strict=True):
        pairs.add(bool(before.success), bool(after.success))
    metrics = summarize(episodes)
    return StressArm(
        level=level,
        success=SuccessRate.of(pairs.successes[1], pairs.n_episodes),
        difference=pairs.difference,
        interval=newcombe_interval(pairs),
        p_value=mcnemar_p_value(pairs),
        pairs=pairs,
        mean_length=metrics["mean_length"],
        failure_stages=metrics["failure_stages"],
        following=measure_following(episodes),
        episodes=episodes,
    )
