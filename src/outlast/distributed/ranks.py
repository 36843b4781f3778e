"""Communication between the processes of one attempt.

torchrun, or a program that calls `jax.distributed.initialize`, starts several *ranks*, which train one model together
and save one checkpoint a step.

They speak over gloo groups of outlast's own (in JAX over its key-value store), so that nothing here meets the
collectives of training, and in numbers and bytes only: torch's collectives for Python objects would unpickle what
another process sent.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from outlast.distributed import jaxstore
from outlast.errors import OutlastError, RankFailed, RankGone, UsageError

T = TypeVar("T")

_NUMBERS = struct.Struct("8q")
_stores = itertools.count()
_CLOSED = re.compile(r"gloo.*(closed by peer|reset by peer|Broken pipe|Connection refused)", re.IGNORECASE | re.DOTALL)
"""Errors of gloo in a collective of training, of which torch and JAX make a RuntimeError."""

_PATIENCE = 86400.0
"""Seconds for which a rank waits for another that lives: rank 0 may evaluate, or a disk be slow.

One that has died is noticed at once.
"""


class Group(Protocol):
    """The connection between the ranks."""

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of all ranks, in their order. All give the same number of bytes.

        Raises:
            RuntimeError: a rank is gone, or did not answer.
        """
        ...


class _Gloo:
    """A gloo group of torch."""

    def __init__(self, count: int) -> None:
        import datetime as dt

        import torch

        self._count = count
        self._group = torch.distributed.new_group(backend="gloo", timeout=dt.timedelta(seconds=_PATIENCE))

    def gather(self, data: bytes) -> list[bytes]:
        import torch

        mine = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        found = [torch.empty_like(mine) for _ in range(self._count)]
        torch.distributed.all_gather(found, mine, group=self._group)
        return [each.numpy().tobytes() for each in found]


class Ranks:
    """One channel between all ranks, for one thread of each. Alone by default: then nothing here costs anything.

    Every method but the properties has to be called by all ranks, in the same order.

    Attributes:
        rank: this process, from 0.
        count: how many there are.
        broken: whether another rank is gone, or at another place of the program; nothing can be said any more.
    """

    def __init__(self, rank: int = 0, count: int = 1, group: Group | None = None) -> None:
        self.rank, self.count, self._group = rank, count, group
        self.broken = False

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which holds the run folder: lock, records, journal, manifest."""
        return self.rank == 0

    @property
    def local_world_size(self) -> int:
        """The number of ranks on this machine, according to torchrun."""
        return min(self.count, int(os.environ.get("LOCAL_WORLD_SIZE") or self.count))

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def all_gather_numbers(self, moment: str, *numbers: int) -> list[tuple[int, ...]]:
        """Give every rank some numbers of all, in the order of the ranks.

        Args:
            moment: in words where the program is; it has to be the same on all ranks.
            *numbers: at most seven.

        Raises:
            RankFailed: another rank is gone, or somewhere else.
        """
        if not self.several:
            return [numbers]
        # Always of one size: gloo ends the process when two sizes meet.
        place = zlib.crc32(moment.encode())
        mine = _NUMBERS.pack(place, *numbers, *[0] * (7 - len(numbers)))
        found = [_NUMBERS.unpack(each) for each in self._gather(mine)]
        for rank, each in enumerate(found):
            if each[0] != place:
                self.broken = True
                raise RankFailed(
                    f"Rank {self.rank} is {moment} and rank {rank} is somewhere else in the program. All ranks have to "
                    "make the same calls in "
                    "the same order and run the same number of steps: let all of them break out of the loop, or none."
                )
        return [each[1 : len(numbers) + 1] for each in found]

    def all_gather(self, moment: str, data: bytes) -> list[bytes]:
        """Give every rank the bytes of all, in the order of the ranks; raises RankFailed as `exchange` does."""
        if not self.several:
            return [data]
        sizes = [size for (size,) in self.all_gather_numbers(moment, len(data))]
        if not any(sizes):
            return [b""] * self.count
        found = self._gather(data.ljust(max(sizes)))
        return [each[:size] for each, size in zip(found, sizes, strict=True)]

    def broadcast(self, moment: str, data: bytes) -> bytes:
        """The bytes of rank 0, whatever the others give."""
        return self.all_gather(moment, data if self.is_main else b"")[0]

    def together(self, moment: str, work: Callable[[], T]) -> T:
        """Do something on every rank: it succeeds everywhere, or raises everywhere.

        Raises:
            RankFailed: it failed on another rank, or one is gone. What fails here is raised as it is.
        """
        if not self.several:
            return work()
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - the other ranks must be notified of any error
            failure = error
        try:
            complaints = self.all_gather(moment, _words(failure).encode() if failure else b"")
        finally:
            if failure:
                raise failure
        for rank, words in enumerate(complaints):
            if words:
                raise RankFailed(f"Rank {rank}: {words.decode()}")
        return result

    def _gather(self, data: bytes) -> list[bytes]:
        if self._group is None:  # of files of several ranks that one process reads
            raise AssertionError("these ranks are not connected")
        try:
            return self._group.gather(data)
        except RuntimeError as error:
            self.broken = True
            raise RankGone(
                f"Rank {self.rank} of {self.count} waited for the others, and one is gone or did not answer: look for "
                "the first error among the ranks. What was committed is intact; start all of them again."
            ) from error


def connect(channels: int) -> list[Ranks]:
    """So many channels between the ranks that torch.distributed or JAX knows of, or channels of one that is alone.

    Raises:
        UsageError: as of `position`.
    """
    rank, count = position()
    if count == 1:
        return [Ranks() for _ in range(channels)]
    if _torch() is not None:
        return [Ranks(rank, count, _Gloo(count)) for _ in range(channels)]
    seconds = _PATIENCE
    return [Ranks(rank, count, jaxstore.Store(str(next(_stores)), rank, count, seconds)) for _ in range(channels)]


def meet() -> None:
    """Under torchrun: let the ranks find each other, unless the program has done so.

    Each takes the GPU of its number.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2 or "RANK" not in os.environ:
        return
    import torch

    if torch.distributed.is_initialized():
        return
    gpus, own = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK") or 0)
    if own < gpus:
        torch.cuda.set_device(own)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")


def is_main_process() -> bool:
    """Whether this is the rank that speaks to the user, as far as the launcher says."""
    return (os.environ.get("RANK") or "0") == "0"


def says_gone(error: BaseException) -> bool:
    """Whether an error says that another rank is gone: one of `Ranks`, or of a collective of the training."""
    if isinstance(error, RankGone):
        return True
    if (torch := _torch()) and isinstance(
        error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError
    ):
        return True
    return isinstance(error, RuntimeError) and bool(_CLOSED.search(str(error)))


def position() -> tuple[int, int]:
    """This process's rank and the number of ranks: 0 and 1 where neither torch.distributed nor JAX's was begun.

    Raises:
        UsageError: a launcher started several processes and they have not met yet.
    """
    if (torch := _torch()) is not None:
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    if found := jaxstore.position():
        return found
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ:
        raise UsageError(
            f"A launcher started {os.environ['WORLD_SIZE']} processes for this run and they have not met: call "
            "torch.distributed.init_process_group() in every process, before outlast.DataLoader() and open_run(), or "
            "start a single one."
        )
    return 0, 1


def _torch() -> Any:
    """torch, if its ranks have met; otherwise None."""
    torch = sys.modules.get("torch")
    met = torch and torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch if met else None


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, OutlastError) else f"{type(error).__name__}: {error}"
