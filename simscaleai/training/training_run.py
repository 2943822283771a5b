"""Training runs from settings alone, as `simscale train` starts them.

train_policy(TrainConfig(dataset_path="data/reach.h5", max_steps=1000))
policy = ModelPolicy.from_checkpoint("checkpoints/final.pt")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn
from torch.utils.data import DataLoader

from simscaleai.distributed import Processes
from simscaleai.models.declarations import describe_model, uses_language
from simscaleai.models.policy import ModelPolicy
from simscaleai.tensor_types import Batch
from simscaleai.tracking import write_run_info
from simscaleai.training.data.dataset import (
    TrajectoryDataset,
)
from simscaleai.training.data.drawn_frames import Draw
from simscaleai.training.data.loader import make_loader
from simscaleai.training.fit_model import AnyDataset, make_normalizer, model_and_data
from simscaleai.training.instruction_check import InstructionCheck
from simscaleai.training.run_config import RunConfig, replayable
from simscaleai.training.train_config import TrainConfig
from simscaleai.training.trainer import Trainer


def train_policy(
    config: TrainConfig,
    eval_fn: Callable[[ModelPolicy], object] | None = None,
    draw: Draw | None = None,
) -> dict[str, float]:
    """Train the configured model on the configured dataset; return the last metrics.

    The policy is written to `<checkpoint_dir>/final.pt`, from which `ModelPolicy.from_checkpoint` builds it.

    Args:
      config: the settings.
      eval_fn: called with the policy every `eval_every` steps, for closed-loop evaluation; returns a
        number or a dict of numbers.
      draw: draws the images of `config.render_cameras`, such as `simscaleai.datagen.draw_images`.

    Raises:
      UserError: settings, model and dataset do not fit together.
    """
    return run_trainer(build_trainer(config, eval_fn, draw), RunConfig.of(config))


def run_trainer(trainer: Trainer, run: RunConfig) -> dict[str, float]:
    """Train, with the settings recorded in the run's folder; return the last metrics.

    Args:
      trainer: made by `build_trainer` from `run.train_config()`.
      run: the settings that are written to `config.yaml`, those of evaluation included.
    """
    # The arguments that the model was made with, those from the dataset and from a preset included.
    assert isinstance(trainer.model, ModelPolicy)
    about = describe_model(trainer.model.model)
    name, arguments = about["model_name"], about["model_kwargs"]
    resolved = replace(run, model={"name": name, **arguments})
    processes = Processes.from_environment()
    with trainer.run.at_work():
        trainer.run.archive_earlier(trainer.step)
        if processes.is_main:
            text, device = replayable(resolved), str(trainer.device)
            write_run_info(trainer.folder, text, trainer.step, device, processes.size)
        return trainer.train()


def build_trainer(
    config: TrainConfig,
    eval_fn: Callable[[ModelPolicy], object] | None = None,
    draw: Draw | None = None,
) -> Trainer:
    """Return the trainer of `train_policy`, before its first step."""
    config.check()  # before the dataset is read
    processes = Processes.from_environment()
    model, train, valid = model_and_data(config, draw)
    actions = train.action_range
    policy = ModelPolicy(
        model,
        train.spec.obs,
        make_normalizer(model, train, config),
        train.contract,
        config.relative_positions,
        actions,
    )

    def loader(data: AnyDataset, batch_size: int, shuffle: bool) -> DataLoader[Batch]:
        return make_loader(
            data,
            batch_size,
            config.seed,
            num_workers=config.num_workers,
            shuffle=shuffle,
            pin_memory=config.resolved_device.startswith("cuda"),
            rank=processes.rank,
            world_size=processes.size,
        )

    local_batch_size = max(config.batch_size // processes.size, 1)
    batches = loader(train, local_batch_size, True)
    # Samples without images are small, and larger batches of them are evaluated faster.
    valid_size = local_batch_size if train.spec.obs.image_keys else max(local_batch_size, 1024)
    valid_batches = loader(valid, valid_size, False) if valid is not None and len(valid) else None
    trainer = Trainer(policy, batches, config, valid_batches, eval_fn)
    if check := _instruction_check(model, train, valid):
        trainer.checks.append(check)
    if actions is not None:
        trainer.announce(
            f"Actions leave [-1, 1]: they are normalized, and the policy acts within {actions}."
        )
    return trainer


def _instruction_check(
    model: nn.Module, train: AnyDataset, valid: AnyDataset | None
) -> InstructionCheck | None:
    """Return the check whether the policy listens, on unseen episodes if there are enough of them."""
    if not uses_language(model):
        return None
    for data in (valid, train):
        if isinstance(data, TrajectoryDataset) and (check := InstructionCheck.of(data)):
            return check
    return None
