"""The processes that work on one run, as `torchrun` starts them.

    torchrun --nproc-per-node 4 --no-python simscale train --dataset-path data/reach.h5

    processes = Processes.from_environment()
    device = processes.join("auto")
    mean = processes.mean(values)     # a tensor; every process calls it, at the same place in its program

Without `torchrun` there is one process, and nothing here does anything. Whatever is called on one process
has to be called on all, or those that called wait until they are ended.
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
from typing import Any

import torch
import torch.distributed as dist

from simscaleai.errors import UserError

# The others wait this long for one that evaluates or writes alone; torchrun ends them sooner if it dies.
PATIENCE = timedelta(hours=1)
COMMAND = "torchrun --nproc-per-node 2 --no-python simscale train ..."


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is.

    Attributes:
      rank, size: this one, and how many there are on all machines.
      local_rank: this one on its machine.
      launched: by `torchrun`, be it with a single process.
      restarts: how often `torchrun` has started all of them again after one had failed.
      job: tells one call of `torchrun` from another; "" without it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launched: bool = False
    restarts: int = 0
    job: str = ""

    @classmethod
    def from_environment(cls) -> Processes:
        """What `torchrun` has told this process; nothing is started."""
        told = os.environ
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= told.keys():
            return cls()
        job = told.get("TORCHELASTIC_RUN_ID", "none")
        if job == "none":  # it was given no name; the launcher is the parent of its processes
            job = f"{socket.gethostname()}:{os.getppid()}"
        return cls(
            rank=int(told["RANK"]),
            size=int(told["WORLD_SIZE"]),
            local_rank=int(told.get("LOCAL_RANK", 0)),
            launched=True,
            restarts=int(told.get("TORCHELASTIC_RESTART_COUNT", 0)),
            job=job,
        )

    @property
    def main(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def join(self, device: str, backend: str = "nccl") -> torch.device:
        """Meet the other processes, once; return the device of this one.

        Args:
          device: resolved name; of "cuda", each process gets the one of its number on its machine.
          backend: "nccl" or "gloo"; on a CPU it is always gloo.

        Raises:
          UserError: there are more processes than GPUs, or this kind of device cannot be shared.
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
                # gloo is there in any case: numbers and texts in CPU memory go that way.
                "cpu:gloo,cuda:nccl" if nccl else "gloo",
                # torchrun may use one store for all its restarts; in it are the addresses of processes
                # that are no more, and who reads those does not meet anybody.
                store=dist.PrefixStore(f"start-{self.restarts}", store),
                rank=self.rank,
                world_size=self.size,
                timeout=PATIENCE,
            )
            atexit.register(_leave)
        return own

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over all processes, in place."""
        return self.sum(values).div_(self.size) if self.size > 1 else values

    def share(self, value: Any) -> Any:
        """What the main process has as `value`."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """What each process has as `value`, by rank; known to all of them."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when all have come here."""
        self.gather(None)


def _leave() -> None:
    """Leave the others, and wait until gloo's threads have ended.

    They let go of the tensors that were sent, for which they want the interpreter; if that is being torn
    down by then, they abort the program. It is the destructor of the group that waits for them, so whatever
    still holds the group has to let go of it first.
    """
    if not dist.is_initialized():
        return
    group = dist.group.WORLD
    dist.destroy_process_group()
    _release(group)
    del group  # the last reference: its destructor waits, and leaves the interpreter to the threads


def _release(group: Any) -> None:
    """Take the group away from models of DDP and FSDP2, from frames of errors and from functions.

    A module of torch that is imported after the processes have met has the group as the default of
    arguments; meshes are kept in a cache for good.
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
            for name in ("reducer", "logger"):  # these hold it where Python does not see it
                vars(thing).pop(name, None)
        elif issubclass(type(thing), mesh):
            getattr(thing, "_pg_registry", {}).clear()
    for holder in gc.get_referrers(group):
        if isinstance(holder, FrameType):
            with suppress(RuntimeError):  # of a frame that is running
                holder.clear()
            continue
        attributes = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        for name in [name for name, value in attributes.items() if value is group]:
            del attributes[name]
