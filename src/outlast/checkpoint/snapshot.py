"""A state at a step for the store: JSON, and files whose bytes are in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

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
        files: its arrays, in the order in which they are to be written.
        state: everything that is not an array, as JSON.
        metrics: values logged at this step, for retention.
        software: versions and device that produced it, for the resume grade.
    """

    step: int
    reason: str
    files: Sequence[File]
    state: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    software: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, step: int, reason: str, parts: Mapping[str, Mapping[str, Array]], *rest: Any, **more: Any) -> Self:
        """A snapshot of arrays where they are: nobody may change them until it is written.

        Args:
            step: steps done.
            reason: why it is saved.
            parts: part name -> array name -> array; one safetensors file each.
            *rest: the other attributes.
            **more: the other attributes by name.
        """
        return cls(step, reason, files_of(parts), *rest, **more)

    @property
    def nbytes(self) -> int:
        """Bytes of its files."""
        return sum(file.nbytes for file in self.files)


def files_of(parts: Mapping[str, Mapping[str, Array]]) -> list[File]:
    """One file for each part that has arrays; its contents are read from the arrays as it is written."""
    return [
        File(part, tensors.Layout(arrays).size, functools.partial(tensors.encode, arrays))
        for part, arrays in parts.items()
        if arrays
    ]
