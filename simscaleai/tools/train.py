"""Training runs as the commands start them: with closed-loop evaluation if it is requested."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from simscaleai.contract import EnvContract
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.evaluation.suite import MAX_ENVS, episode_seeds, run_suite
from simscaleai.evaluation.summary import summarize
from simscaleai.models.policy import ModelPolicy
from simscaleai.rollout.policy_environment import policy_environment
from simscaleai.sim.factory import make_vec_env
from simscaleai.storage.episodes import EpisodeSource
from simscaleai.storage.lerobot.layout import is_lerobot
from simscaleai.tools.app import echo
from simscaleai.training.component_settings import EvalSettings
from simscaleai.training.data.drawn_frames import Drawer
from simscaleai.training.run_config import RunConfig
from simscaleai.training.train_config import TrainConfig
from simscaleai.training.training_run import build_trainer, run_trainer

EvalFunction = Callable[[ModelPolicy], dict[str, float]]


def train_run(run: RunConfig) -> dict[str, float]:
    """Train with the settings `run`; return the last metrics.

    The dataset may be a LeRobot folder, which is imported once; see `datagen.imported_dataset`.

    Raises:
      UserError: settings, model, dataset and environment are incompatible; raised before the first step.
    """
    config = run.train_config()
    if is_lerobot(config.dataset_path):
        config.dataset_path = _imported(config)
    trainer = build_trainer(config, draw=_draw)
    # given from here, because the layer of training does not import the simulator
    if run.eval.env_episodes:
        trainer.eval_fn = closed_loop(run.eval, trainer.model)
    return run_trainer(trainer, run)


def check_data(run: RunConfig, dummy: bool, trial: bool) -> None:
    """Check that a run has a dataset, or that the user wants to train on random numbers.

    Args:
      run: settings of the run.
      dummy: whether random numbers were requested.
      trial: whether a number of steps was given, which also requests random numbers without a dataset.

    Raises:
      UserError: there is neither a dataset nor such a request; or there are a dataset and `dummy`.
    """
    if dummy and run.data.path:
        raise UserError(
            f"--dummy trains on random numbers, and {run.data.path} is given; choose one."
        )
    if not (run.data.path or dummy or trial):
        raise UserError(
            "There is no data to train on: run `simscale datagen --env-name reach --output data/reach.h5`"
            " and then `simscale train --dataset data/reach.h5`, or add --dummy to try the model on random"
            " numbers."
        )


def _imported(config: TrainConfig) -> str:
    """Return the file that the LeRobot folder of a run is imported to."""
    from simscaleai.datagen.imported_dataset import imported_dataset

    # one process of each machine: machines need not share the cache
    first = Processes.from_environment().local_rank == 0
    path, new = imported_dataset(
        config.dataset_path, imports=first, show_progress=config.show_progress
    )
    if new:
        echo(f"Imported {config.dataset_path} to {path}, which may be deleted later.", err=True)
    return str(path)


def _draw(data: EpisodeSource, cameras: Sequence[str], image_size: int) -> Drawer:
    """Draw images of recorded states; the renderer is loaded only where that is asked for."""
    from simscaleai.datagen import draw_images

    return draw_images(data, cameras, image_size)


def closed_loop(settings: EvalSettings, policy: nn.Module) -> EvalFunction:
    """Return a function that evaluates a policy in the environment of its dataset.

    Args:
      settings: number and seed of the episodes, which are the same at every call.
      policy: a `ModelPolicy`, for the contract of its environment.

    Returns:
      A function of the policy that returns {"eval_success_rate", "eval_success_at_end", "eval_mean_reward",
      "eval_mean_length", "eval_diverged" (number of episodes)}; for a task whose instruction chooses among
      objects also "eval_approached_right", "eval_approached_wrong" and "eval_approached_none" (rates).

    Raises:
      UserError: the policy's dataset names no environment, or an incompatible one.
    """
    if settings.env_episodes < 1:
        raise UserError(f"eval.env_episodes is {settings.env_episodes}; it is 0 for none, or more.")
    contract: EnvContract | None = getattr(policy, "contract", None)
    if contract is None:
        raise UserError(
            "eval.env_episodes needs a dataset that says which environment made it; leave it 0 and use"
            " `simscale eval --env-name` afterwards."
        )
    name, config = policy_environment(contract, randomize=settings.randomize)
    # made once: compiling a scene takes longer than a short evaluation
    num_envs = settings.num_envs or min(settings.env_episodes, MAX_ENVS)
    env = make_vec_env(name, num_envs, autoreset_mode="disabled", config=config)
    contract.require(env.contract)
    seeds = episode_seeds(settings.seed, settings.env_episodes, "eval.env_episodes")

    def evaluate(policy: ModelPolicy) -> dict[str, float]:
        found = summarize(run_suite(env, policy, seeds))
        wanted = ("success_rate", "success_at_end", "mean_reward", "mean_length", "diverged")
        numbers = {f"eval_{key}": found[key] for key in wanted}
        # of a task whose instruction chooses among objects: whether the right one is approached
        following = {k: v["rate"] for k, v in found.get("following", {}).items()}
        return numbers | {f"eval_{name}": rate for name, rate in following.items()}

    return evaluate
