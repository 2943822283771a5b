"""One model trained by several processes: replicated (DDP) or sharded (FSDP2).

DDP keeps the whole model and optimizer state in every process and averages gradients. FSDP2 shards both:
parameters are DTensors, of which each process holds a slice, and one block of them at a time is all-gathered
while it is used. The blocks are the entries of every `nn.ModuleList`, which is where networks keep their
layers; parameters outside of them stay gathered until the end of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn

from simscaleai.distributed import Processes
from simscaleai.tensor_types import StateDict, Tensors
from simscaleai.training.component_settings import HardwareSettings

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel


class ParallelModel:
    """`model` on its device, wrapped for training by all processes.

    Calling this calls the wrapped model. `model` itself is the same module with the same parameters; under
    FSDP2 its parameters become DTensors in place.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: HardwareSettings,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.model = model.to(device)
        self.sharded = processes.launched and settings.strategy == "fsdp2"
        self._whole: nn.Module | None = None  # a copy on the main process; see `on_main`
        self._fsdp: FSDPModule | None = None
        self._ddp: DistributedDataParallel | None = None
        wrapped = model
        # The wrappers are imported only where they are used: most runs have one process.
        if self.sharded:
            if processes.is_main:
                self._whole = deepcopy(model).cpu()
            self._fsdp = _shard(model, settings)
        elif processes.launched:
            from torch.nn.parallel import DistributedDataParallel

            devices = [device] if device.type == "cuda" else None
            # Gradients are views of the buffers that are reduced, which saves a copy of them.
            wrapped = DistributedDataParallel(model, devices, gradient_as_bucket_view=True)
            self._ddp = wrapped
        self._call: Callable[[object], Tensors] = (
            torch.compile(wrapped) if settings.compile else wrapped
        )

    def __call__(self, batch: object) -> Tensors:
        return self._call(batch)

    def micro_batch(self, last: bool) -> AbstractContextManager[None]:
        """Return a context for forward and backward of a micro-batch; only the last one reduces gradients."""
        if self._fsdp is not None:
            self._fsdp.set_requires_gradient_sync(last)
        elif self._ddp is not None and not last:
            return self._ddp.no_sync()
        return nullcontext()

    def reshard(self) -> None:
        """Free the gathered parameters, so that the next forward pass gathers their present values."""
        if self.sharded:
            from torch.distributed.fsdp import FSDPModule

            for module in self.model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    @contextmanager
    def on_main(self, processes: Processes) -> Iterator[nn.Module | None]:
        """Yield a model that the main process can call without the other processes; None on the others."""
        if not self.sharded:
            yield self.model if processes.is_main else None
            return
        # Every process takes part in gathering; only the main one keeps the result.
        weights = full_state_dict(self.model.state_dict(), processes.is_main)
        if self._whole is None:
            yield None
            return
        self._whole.load_state_dict(weights)
        self._whole.train(self.model.training)
        device = next(local(p) for p in self.model.parameters()).device
        try:
            yield self._whole.to(device)
        finally:
            self._whole.cpu()  # a whole model beside the shards may not fit on the GPU while training


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the shard of a tensor in this process: all of it, unless it is a DTensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def full_state_dict(tree: Mapping[str, object], keep: bool) -> StateDict:
    """Return nested dicts with every DTensor gathered to CPU memory; empty dicts without `keep`.

    Gathering is a collective operation: every process calls this, and those that need no result pass
    keep=False.
    """
    result: StateDict = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            result[key] = full_state_dict(value, keep)
            continue
        if hasattr(value, "full_tensor"):
            value = value.full_tensor()
            value = value.cpu() if keep else None  # one tensor at a time is whole on the GPU
        if keep:
            result[key] = value
    return result


def shard_like(value: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor sharded as `own` is; a tensor that is sharded already as it is.

    The whole tensor is the same in every process, so that nothing has to be sent.
    """
    if not hasattr(own, "device_mesh") or hasattr(value, "device_mesh"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(own, DTensor)
    on_device = value.to(own.device, own.dtype)
    return distribute_tensor(on_device, own.device_mesh, own.placements, src_data_rank=None)


def _shard(model: nn.Module, settings: HardwareSettings) -> FSDPModule:
    """Apply FSDP2 in place, starting from the weights of the main process."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # All shards have to come from the same initial weights.
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, 0)
    half = settings.amp_torch_dtype if settings.uses_amp else None
    # Autocast would make these weights half precision anyway: all-gather them so, at half the bytes.
    # Gradients are reduced in float32.
    policy = MixedPrecisionPolicy(half, torch.float32, cast_forward_inputs=False)
    blocks = [b for m in model.modules() if isinstance(m, nn.ModuleList) for b in m]
    for block in reversed(blocks):  # inner ones first
        has_parameters = next(block.parameters(), None) is not None
        if has_parameters and not isinstance(block, nn.ModuleList | nn.ModuleDict):
            fully_shard(block, mp_policy=policy)
    return fully_shard(model)
