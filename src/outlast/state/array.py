"""The array that state hands to checkpoint and gets back: bytes with a form, of no framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Array:
    """An array of no framework: a safetensors dtype code, a shape, and little-endian C-order bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return len(self.data)


class CannotStore(Exception):
    """A framework's array that has no bytes to store: meta, sparse, object dtype. Turned into a StateError with its name."""


@dataclass(frozen=True)
class Found:
    """An array out of a framework.

    Attributes:
        array: its bytes.
        node: what the JSON must say to rebuild it: at least {"as": framework}.
        identity: equal for two values that are the same memory (tied weights); None where sharing has no meaning.
    """

    array: Array
    node: dict[str, Any]
    identity: Any = None
