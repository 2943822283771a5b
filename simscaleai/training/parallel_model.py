"""One model in several processes: replicated (DDP) or sharded (FSDP2).

DDP keeps the whole model and optimizer state in every process and averages gradients. FSDP2 shards both:
parameters are DTensors, of which a process holds a slice, and are all-gathered a block at a time while they
are used. Blocks are the entries of every `nn.ModuleList`, which is where networks keep their layers;
parameters outside of them stay gathered until the step is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from simscaleai.distributed import Processes
from simscaleai.training.settings import HardwareSettings


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
        self._replicated = processes.launched and not self.sharded
        self._whole: nn.Module | None = None
        call: Any = model
        if self.sharded:
            if processes.is_main:
                self._whole = deepcopy(model).cpu()
            _shard(model, settings)
        elif self._replicated:
            from torch.nn.parallel import DistributedDataParallel

            devices = [device] if device.type == "cuda" else None
            call = DistributedDataParallel(model, devices, gradient_as_bucket_view=True)
        self._wrapped = call
        self._call = torch.compile(call) if settings.compile else call

    def __call__(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return self._call(batch)

    def micro_batch(self, last: bool) -> AbstractContextManager[None]:
        """Return a context for forward and backward of a micro-batch; the last one reduces gradients."""
        if self.sharded:
            self._wrapped.set_requires_gradient_sync(last)
        elif self._replicated and not last:
            return self._wrapped.no_sync()
        return nullcontext()

    def reshard(self) -> None:
        """Free the gathered parameters, so that the next forward gathers those that were changed."""
        if self.sharded:
            from torch.distributed.fsdp import FSDPModule

            for module in self.model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    @contextmanager
    def on_main(self, processes: Processes) -> Iterator[nn.Module | None]:
        """Yield the model as one that the main process can call alone; None on the others."""
        if not self.sharded:
            yield self.model if processes.is_main else None
            return
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
            self._whole.cpu()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the shard of a tensor in this process: all of it, unless it is a DTensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def full_state_dict(tree: dict[str, Any], keep: bool) -> dict[str, Any]:
    """Return nested dicts with every DTensor gathered to CPU memory; empty dicts without `keep`."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            result[key] = full_state_dict(value, keep)
            continue
        if hasattr(value, "full_tensor"):
            value = value.full_tensor()
            value = value.cpu() if keep else None
        if keep:
            result[key] = value
    return result


def like(value: torch.Tensor, own: Any) -> torch.Tensor:
    """Return `value` sharded as `own` is; a whole value, the same in every process, needs no sending."""
    if not hasattr(own, "device_mesh") or hasattr(value, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    on_device = value.to(own.device, own.dtype)
    return distribute_tensor(on_device, own.device_mesh, own.placements, src_data_rank=None)


def _shard(model: nn.Module, settings: HardwareSettings) -> None:
    """Apply FSDP2, starting from the weights of the main process."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

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
    fully_shard(model)
