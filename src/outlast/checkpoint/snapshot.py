"""A state at one step, ready to be committed: JSON, and files whose contents are in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from outlast.checkpoint import tensors
from outlast.folder.hashing import Buffer
from outlast.state.array import Array


class File(NamedTuple):
    """One safetensors file to be written.

    Attributes:
        part: the part of the state whose arrays it holds.
        nbytes: its size in bytes.
        pieces: yields its contents.
        shared: whether later checkpoints with equal contents refer to this file.
        direct: whether its memory is page-aligned.
    """

    part: str
    nbytes: int
    pieces: Callable[[], Iterator[Buffer]]
    shared: bool = False
    direct: bool = False


class Snapshot(NamedTuple):
    """A state at one step, ready to be written.

    Attributes:
        step: number of optimizer updates done.
        reason: why it is saved: "steps", "time", "epoch", "best", "asked", "final" or an end reason.
        files: the files of its arrays, in the order of writing.
        state: everything that is not an array, as JSON.
        metrics: values logged at this step, for retention.
        software: versions and device that produced the state, for the resume grade.
    """

    step: int
    reason: str
    files: Sequence[File]
    state: Mapping[str, Any]
    metrics: Mapping[str, float] = {}
    software: Mapping[str, Any] = {}

    @classmethod
    def of(cls, step: int, reason: str, parts: Mapping[str, Mapping[str, Array]], *rest: Any, **more: Any) -> Self:
        """A snapshot of arrays that are not copied. Do not change them until it is written.

        Args:
            step: number of optimizer updates done.
            reason: why it is saved.
            parts: part name -> array name -> array; each part becomes one safetensors file.
            *rest: the other attributes.
            **more: the other attributes by name.
        """
        return cls(step, reason, files_of(parts), *rest, **more)

    @property
    def nbytes(self) -> int:
        """Total size of its files in bytes."""
        return sum(file.nbytes for file in self.files)


def files_of(parts: Mapping[str, Mapping[str, Array]]) -> list[File]:
    """One file for each part that has arrays. The contents are read from the arrays during the write."""
    return [
        File(part, tensors.Layout(arrays).size, functools.partial(tensors.encode, arrays))
        for part, arrays in parts.items()
        if arrays
    ]
