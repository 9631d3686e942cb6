"""The ranks of a training run and their communication. A single process is the case of world size 1."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, overload

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from ekipl.engine.rank import launched_rank
from ekipl.errors import UsageError

T = TypeVar("T")
# External APIs can block one rank for longer than NCCL's default timeout (10 minutes). The launcher detects dead ranks,
# so this timeout can be long.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process among all ranks. Every method but ``mine`` is a collective: all ranks must call it."""

    rank: int
    world_size: int

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's share: every n-th item of n ranks, as a view."""
        return Share(items, self.rank, self.world_size)

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in order."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all ranks, in double precision."""
        if self.world_size == 1:
            return list(numbers)
        return [sum(column) for column in zip(*self.gather(list(numbers)), strict=True)]

    def most(self, number: int) -> int:
        """The largest number of all ranks."""
        return max(self.gather(number))

    def agree(self, error: str | None) -> None:
        """Continue if no rank has an error.

        Raises:
            UsageError: on all ranks, with the error of the first rank that has one.
        """
        for message in self.gather(error):
            if message:
                raise UsageError(message)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.world_size > 1:
            dist.barrier()


class Share(Sequence[T]):
    """Items ``start``, ``start + step``, ... of a sequence, as a view."""

    def __init__(self, items: Sequence[T], start: int, step: int) -> None:
        """Items are read when they are indexed."""
        self.items, self.places = items, range(start, len(items), step)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.items[place] for place in self.places[index]]
        return self.items[self.places[index]]


def join() -> Processes:
    """Join the launcher's process group (RANK is set), or make one of this process alone, without a port.

    The backend is gloo on CPU and NCCL on GPU; each rank uses the GPU of its LOCAL_RANK.
    """
    # DeepSpeed's collectives warn at each call
    warnings.filterwarnings("ignore", "`torch.distributed.*deprecated", FutureWarning)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if launched_rank() is not None:
            dist.init_process_group(backend, timeout=TIMEOUT)
        else:
            dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed reads it
    return Processes(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Destroy the process group, as the last call: its threads would abort the process at exit."""
    if dist.is_initialized():
        dist.destroy_process_group()
