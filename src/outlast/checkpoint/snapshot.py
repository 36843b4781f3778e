"""What is handed to the store: a state at a step, as files that are about to be written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from outlast.checkpoint import tensors
from outlast.folder.hashing import Buffer
from outlast.state.array import Array


@dataclass(frozen=True)
class File:
    """One safetensors file to be written.

    Attributes:
        part: the part of the state whose arrays it holds.
        nbytes: its size.
        pieces: gives its contents.
        shared: several checkpoints will refer to it, if they are equal in it.
        direct: its memory lies on page boundaries.
    """

    part: str
    nbytes: int
    pieces: Callable[[], Iterator[Buffer]]
    shared: bool = False
    direct: bool = False


@dataclass(frozen=True)
class Snapshot:
    """A state at a step, ready to be written.

    Attributes:
        step: steps done.
        reason: why it is saved: "steps", "time", "epoch", "best", "asked", "final" or an end reason.
        parts: part name -> array name -> array; one safetensors file each.
        state: everything that is not an array, as JSON.
        metrics: values logged at this step, for retention.
        software: versions and device that produced it, for the resume grade.
    """

    step: int
    reason: str
    parts: Mapping[str, Mapping[str, Array]]
    state: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    software: Mapping[str, Any] = field(default_factory=dict)

    @property
    def snapshot(self) -> Snapshot:
        """Itself: a snapshot can be committed as it is, straight from the program's memory."""
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of array data."""
        return sum(array.nbytes for arrays in self.parts.values() for array in arrays.values())

    copied = True

    def hold(self) -> None:
        """Return at once: whoever commits a snapshot from the program's memory stops the program meanwhile."""

    def files(self) -> Iterator[File]:
        """The files, whose contents are read from the arrays as they are written."""
        for part, arrays in self.parts.items():
            if arrays:
                size = tensors.Layout(arrays).size
                yield File(part, size, functools.partial(tensors.encode, arrays))


class Committable(Protocol):
    """What `Store.commit` takes."""

    @property
    def snapshot(self) -> Snapshot:
        """What it is."""

    @property
    def nbytes(self) -> int:
        """Bytes of array data."""

    @property
    def copied(self) -> bool:
        """Whether the program may change its state."""

    def hold(self) -> None:
        """Return when the program may change its state again."""

    def files(self) -> Iterator[File]:
        """Its files, in the order in which they are to be written."""
