"""The processes that share a batch: who does what, and what they tell each other. One process is the smallest case."""

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
# How long a process may wait for the others. One of them may be held up by external models, whose patience is their
# own, for longer than the ten minutes of NCCL; that one has died is noticed by the launcher, not by the clock.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process's place among ``size``; every method but ``mine`` must be called by all of them."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks for all."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """Every ``size``-th item, beginning with this process's rank; read only when asked for."""
        return Share(items, self.rank, self.size)

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over the processes, in double precision."""
        if self.size == 1:
            return list(numbers)
        return [sum(column) for column in zip(*self.gather(list(numbers)), strict=True)]

    def most(self, number: int) -> int:
        """The largest over the processes."""
        return max(self.gather(number))

    def agree(self, fault: str | None) -> None:
        """Go on where no process has met a fault.

        Raises:
            UsageError: on all of them, with the first fault that one has met.
        """
        for said in self.gather(fault):
            if said:
                raise UsageError(said)

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            dist.barrier()


class Share(Sequence[T]):
    """Items ``start``, ``start + step``, ... of a sequence, as a view."""

    def __init__(self, items: Sequence[T], start: int, step: int) -> None:
        """A view: nothing is read before it is asked for."""
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
    """Form the group of the launcher (RANK is set), or of this process alone, which needs no port.

    gloo on CPU, NCCL where there are GPUs; each process takes the GPU of its LOCAL_RANK.
    """
    # DeepSpeed's calls, once a collective
    warnings.filterwarnings("ignore", "`torch.distributed.*deprecated", FutureWarning)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if launched_rank() is not None:
            dist.init_process_group(backend, timeout=PATIENCE)
        else:
            dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed reads it
    return Processes(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """The last call: ends what talks to the others, a thread of which would abort the process at its exit."""
    if dist.is_initialized():
        dist.destroy_process_group()
