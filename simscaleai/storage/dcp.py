"""Write and read `storage.sharded_checkpoint` folders through `torch.distributed.checkpoint`.

This is a separate module because `torch.distributed.checkpoint` takes most of a second to import, and runs
of a single process do not need it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
    LoadPlan,
    LoadPlanner,
    Metadata,
    SavePlan,
    SavePlanner,
    StorageReader,
    StorageWriter,
)
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from simscaleai.storage.atomic import replace_folder, sync, temporary_for
from simscaleai.storage.disk import name_disk_errors
from simscaleai.storage.sharded_checkpoint import (
    ALIGNMENT,
    Entry,
    ShardedCheckpoint,
    TensorShard,
    write_index,
)


def write_folder(
    path: Path, tensors: Mapping[str, torch.Tensor], write_plain: Callable[[Path], None]
) -> None:
    """Write a checkpoint folder, to which every process adds its shards; it appears complete or not at all.

    Args:
      path: the folder, on a file system of all processes.
      tensors: tensors with the same names in all processes. A DTensor is written in shards, any other
        tensor by one process.
      write_plain: called in the main process with the temporary folder; writes all other files into it.
    """
    # `flatten` has done it, by names that the index can record
    planner = DefaultSavePlanner(flatten_state_dict=False)
    writer = _Writer(path, write_plain)
    try:
        with name_disk_errors(path), _own_errors():
            dcp.save(dict(tensors), storage_writer=writer, planner=planner)
    except BaseException:
        if writer.folder is not None:  # in the main process
            shutil.rmtree(writer.folder, ignore_errors=True)
        raise


def read_into(folder: ShardedCheckpoint, tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill `tensors` from the folder; each process reads its own shards. A collective operation.

    Raises:
      UserError: the files are damaged.
    """
    planner = DefaultLoadPlanner(flatten_state_dict=False)
    with _own_errors():
        dcp.load(dict(tensors), storage_reader=_Reader(folder), planner=planner)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise the first error of a process instead of the CheckpointException that wraps it."""
    try:
        yield
    except CheckpointException as error:
        (first, _), *_ = error.failures.values()  # {rank: (error, traceback)}
        raise first from None


class _Writer(StorageWriter):
    """Writes shards; torch calls the methods in this order, in every process unless documented otherwise."""

    def __init__(self, path: Path, write_plain: Callable[[Path], None]) -> None:
        self.path, self.write_plain = path, write_plain
        self.folder: Path | None = None  # the temporary folder, in the main process

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        pass

    def set_up_storage_writer(self, is_coordinator: bool, *args: object, **kwargs: object) -> None:
        pass  # versions of torch pass further arguments

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """In the main process: make the temporary folder, and name the file of each process in it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = temporary_for(self.path)
        folder.mkdir()
        self.folder = folder
        return [
            replace(plan, storage_data=str(folder / f"part_{i}.bin"))
            for i, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        path = Path(plan.storage_data)
        results = []
        with path.open("wb") as file:
            for item in plan.items:
                assert item.type is not WriteItemType.BYTE_IO
                tensor = planner.resolve_data(item)
                assert isinstance(tensor, torch.Tensor) and item.tensor_data is not None
                # (bytes,); a view, because NumPy has no bfloat16
                values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                file.write(bytes(-file.tell() % ALIGNMENT))  # padding
                shard = TensorShard(
                    tuple(item.tensor_data.chunk.offsets),
                    tuple(item.tensor_data.chunk.sizes),
                    path.name,
                    file.tell(),
                    values.nbytes,
                    zlib.crc32(values.data),
                )
                file.write(values.data)
                results.append(WriteResult(item.index, values.nbytes, shard))
        sync(path)  # before the index exists, which declares the folder complete
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """In the main process, after all have written: write the index and rename the folder."""
        shards: dict[str, list[TensorShard]] = {}
        for result in itertools.chain.from_iterable(results):
            shards.setdefault(result.index.fqn, []).append(result.storage_data)
        # the index gets shards of all processes, in the order of ranks
        entries = {}
        for name, tensor in metadata.state_dict_metadata.items():
            assert isinstance(tensor, TensorStorageMetadata)
            entries[name] = Entry(tensor.properties.dtype, tuple(tensor.size), tuple(shards[name]))
        assert self.folder is not None
        self.write_plain(self.folder)
        write_index(self.folder, entries)
        replace_folder(self.folder, self.path)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True


class _Reader(StorageReader):
    """Reads shards; no method reads more than `ShardedCheckpoint` has checked."""

    def __init__(self, folder: ShardedCheckpoint) -> None:
        self.folder = folder

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        pass

    def read_metadata(self, *args: object, **kwargs: object) -> Metadata:
        return Metadata(
            {
                name: TensorStorageMetadata(
                    TensorProperties(entry.dtype),
                    torch.Size(entry.shape),
                    [
                        ChunkStorageMetadata(torch.Size(p.offset), torch.Size(p.shape))
                        for p in entry.shards
                    ],
                )
                for name, entry in self.folder.entries.items()
            }
        )

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: object, **kwargs: object
    ) -> None:
        pass

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        for item in plan.items:
            name, offset = item.storage_index.fqn, item.storage_index.offset
            shards = self.folder.entries[name].shards
            shard = next(p for p in shards if p.offset == tuple(offset or ()))
            values = self.folder.shard(name, shard)
            # with another number of processes, this one may need a box within the shard
            for axis, (start, length) in enumerate(
                zip(item.storage_offsets, item.lengths, strict=True)
            ):
                values = values.narrow(axis, start, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(values)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True
