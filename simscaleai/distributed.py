"""Processes that train one model together, as `torchrun` starts them.

    torchrun --nproc-per-node 4 --no-python simscale train --dataset-path data/reach.h5

    processes = Processes.from_environment()
    device = processes.join("auto")
    mean = processes.all_reduce_mean(values)   # a tensor

`broadcast`, `barrier`, `all_gather` and `all_reduce` are collective operations: every process has to call
them in the same order, or those that did wait until `PATIENCE` ends them.

Without `torchrun` there is one process, and the collective operations return at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType, FunctionType
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from simscaleai.errors import UserError

# Timeout of collective operations. It is long since the main process evaluates and writes alone while the
# others wait; if it dies, torchrun ends them sooner.
PATIENCE = timedelta(hours=1)
T = TypeVar("T")

COMMAND = "torchrun --nproc-per-node 2 --no-python simscale train ..."


@dataclass(frozen=True)
class Processes:
    """The number of this process among all processes of the run.

    Attributes:
      rank, size: number of this process, and how many there are on all machines.
      local_rank: number of this process on its machine.
      launched: whether `torchrun` started it, alone or with others.
      restarts: how often `torchrun` has restarted all processes after one had failed.
      job: identifies the call of `torchrun`; "" without it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launched: bool = False
    restarts: int = 0
    job: str = ""

    @classmethod
    def from_environment(cls) -> Processes:
        """Read the environment variables that `torchrun` sets; no process group is started."""
        environ = os.environ
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environ.keys():
            return cls()
        job = environ.get("TORCHELASTIC_RUN_ID", "none")
        if job == "none":  # it was given no name; the launcher is the parent of its processes
            job = f"{socket.gethostname()}:{os.getppid()}"
        return cls(
            rank=int(environ["RANK"]),
            size=int(environ["WORLD_SIZE"]),
            local_rank=int(environ.get("LOCAL_RANK", 0)),
            launched=True,
            restarts=int(environ.get("TORCHELASTIC_RESTART_COUNT", 0)),
            job=job,
        )

    @property
    def is_main(self) -> bool:
        """Whether this is the process of rank 0, which writes files and shows progress."""
        return self.rank == 0

    def join(self, device: str, backend: str = "nccl") -> torch.device:
        """Start the process group, unless it is running; return the device of this process.

        Args:
          device: resolved name; for "cuda", each process gets the GPU with its local rank.
          backend: "nccl" or "gloo"; on a CPU it is always gloo.

        Raises:
          UserError: there are more processes than GPUs, or the device cannot be used by several processes.
        """
        own = torch.device(device)
        if not self.launched:
            return own
        if own.type == "mps":
            raise UserError("Several processes cannot train on mps; use device cpu.")
        if own.type == "cuda":
            here = torch.cuda.device_count()
            if self.local_rank >= here:
                raise UserError(
                    f"This machine has {here} GPUs and torchrun started a process for GPU"
                    f" {self.local_rank + 1}; start it with --nproc-per-node {here}, or use device cpu."
                )
            own = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(own)
        if not dist.is_initialized():
            nccl = own.type == "cuda" and backend == "nccl"
            store, _, _ = next(dist.rendezvous("env://"))
            dist.init_process_group(
                # gloo in any case: `broadcast` and `all_gather` send objects through CPU memory.
                "cpu:gloo,cuda:nccl" if nccl else "gloo",
                # torchrun may keep one store over its restarts. It still has the addresses of the processes
                # that ended, so that each start uses keys of its own.
                store=dist.PrefixStore(f"start-{self.restarts}", store),
                rank=self.rank,
                world_size=self.size,
                timeout=PATIENCE,
            )
            atexit.register(_leave)
        return own

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """Sum `values` over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all_reduce_mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average `values` over all processes, in place."""
        return self.all_reduce(values).div_(self.size) if self.size > 1 else values

    def broadcast(self, value: T) -> T:
        """Return the `value` of the main process, in all processes; any object that pickle takes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def all_gather(self, value: T) -> list[T]:
        """Return the `value` of each process by rank, in all processes."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return cast("list[T]", values)  # filled with one value of each process

    def barrier(self) -> None:
        """Return when every process has called this."""
        self.all_gather(None)


def all_reduce_gradients(module: torch.nn.Module, processes: Processes) -> None:
    """Replace the gradients of a module by their means over the processes, in one all-reduce.

    It serves models that are too small for DDP, whose hooks would cost more than the message.
    """
    if processes.size == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = processes.all_reduce_mean(torch.cat([g.flatten() for g in gradients]))  # (parameters,)
    means = flat.split([g.numel() for g in gradients])  # views of `flat`
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def _leave() -> None:
    """Destroy the process group and wait until gloo's threads have ended.

    The threads release the tensors that were sent, for which they need the GIL; if the interpreter is
    shutting down by then, they abort the program. The destructor of the group joins them, so that every other
    reference to the group has to be dropped first.
    """
    if not dist.is_initialized():
        return
    group = dist.group.WORLD
    dist.destroy_process_group()
    _release(group)
    del group  # the last reference: the destructor releases the GIL and joins the threads


def _release(group: object) -> None:
    """Drop the references to the group in DDP and FSDP2 models, in tracebacks and in default arguments.

    Modules of torch that are imported after the group was started have it as the default of arguments; device
    meshes stay in a cache until the program ends.
    """
    ddp = torch.nn.parallel.DistributedDataParallel
    mesh = dist.device_mesh.DeviceMesh
    for thing in gc.get_objects():
        if type(thing) is FunctionType and any(
            value is group for value in thing.__defaults__ or ()
        ):
            kept = (None if value is group else value for value in thing.__defaults__ or ())
            thing.__defaults__ = tuple(kept)
        elif issubclass(type(thing), ddp):
            for name in ("reducer", "logger"):  # C++ objects, whose references gc does not see
                vars(thing).pop(name, None)
        elif issubclass(type(thing), mesh):
            getattr(thing, "_pg_registry", {}).clear()
    for holder in gc.get_referrers(group):
        if isinstance(holder, FrameType):
            with suppress(RuntimeError):  # a frame that is running cannot be cleared
                holder.clear()
            continue
        attributes = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        for name in [name for name, value in attributes.items() if value is group]:
            del attributes[name]
