"""The array that state hands to checkpoint and gets back: bytes with a form, of no framework."""

from __future__ import annotations

from dataclasses import dataclass


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
