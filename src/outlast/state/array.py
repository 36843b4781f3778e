"""The array type between state and checkpoint: bytes with shape and dtype, independent of frameworks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from outlast.errors import CorruptCheckpoint

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Shard:
    """The position of an array as a block of a larger array.

    Attributes:
        shape: of the whole.
        at: where in the whole its first element is.
    """

    shape: tuple[int, ...]
    at: tuple[int, ...]


class Array:
    """An array of no framework: a safetensors dtype code, a shape, and little-endian C-order bytes.

    Args:
        dtype: the code, such as "F32".
        shape: its lengths.
        data: the bytes; or a function that fetches them, from a GPU for example, together with `nbytes`.
        nbytes: size in bytes, when data is a function.
        live: what is known of the memory behind it while a program may still change it; None when nobody can.
        shard: the block that it is of an array which several ranks hold together; None for a whole array.
    """

    __slots__ = ("_data", "dtype", "live", "nbytes", "shape", "shard")

    def __init__(
        self,
        dtype: str,
        shape: tuple[int, ...],
        data: Buffer | Callable[[], Buffer],
        nbytes: int | None = None,
        live: LiveMemory | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.dtype, self.shape, self._data, self.live, self.shard = dtype, shape, data, live, shard
        self.nbytes = len(data) if nbytes is None else nbytes  # type: ignore[arg-type]

    @property
    def data(self) -> Buffer:
        """The bytes."""
        return self._data() if callable(self._data) else self._data

    def region(self, at: Sequence[int], shape: Sequence[int]) -> Array:
        """A block of it, of this shape and beginning at this element; copied only if it is not all of it."""
        return _region(self.dtype, [Block((0,) * len(self.shape), self.shape, lambda: self)], at, shape)


@dataclass(frozen=True)
class Block:
    """A block of a larger array: where it begins, its shape, and a function that reads it."""

    at: tuple[int, ...]
    shape: tuple[int, ...]
    read: Callable[[], Array]


class Blocks(Array):
    """An array of which several ranks stored a block each. Only the blocks that are asked for are read.

    Args:
        dtype: the code, such as "F32".
        shape: of the whole.
        blocks: the blocks; two that begin at the same element hold the same.
        nbytes: size of the whole in bytes.
    """

    __slots__ = ("_blocks",)

    def __init__(self, dtype: str, shape: tuple[int, ...], blocks: Sequence[Block], nbytes: int) -> None:
        super().__init__(dtype, shape, lambda: self.region((0,) * len(shape), shape).data, nbytes)
        self._blocks = list({block.at: block for block in reversed(blocks)}.values())

    def region(self, at: Sequence[int], shape: Sequence[int]) -> Array:
        """A block of it, put together from those that were stored.

        Raises:
            CorruptCheckpoint: they do not cover it, or one cannot be read.
        """
        return _region(self.dtype, self._blocks, at, shape)


def _region(dtype: str, blocks: Sequence[Block], at: Sequence[int], shape: Sequence[int]) -> Array:
    import numpy as np

    wanted, size = tuple(shape), math.prod(shape)
    if not size:
        return Array(dtype, wanted, b"")
    target: Any = None
    filled = 0
    for block in blocks:
        first = [max(*pair) for pair in zip(at, block.at, strict=True)]
        ends = zip(at, shape, block.at, block.shape, strict=True)
        last = [min(start + length, other + its) for start, length, other, its in ends]
        if any(low >= high for low, high in zip(first, last, strict=True)):
            continue
        array = block.read()
        if (block.at, block.shape) == (tuple(at), wanted):
            return Array(dtype, wanted, array.data)
        item = array.nbytes // math.prod(block.shape)
        held = np.frombuffer(array.data, np.dtype(f"V{item}")).reshape(block.shape)
        if target is None:
            target = np.empty(wanted, held.dtype)
        inside = [slice(low - start, high - start) for low, high, start in zip(first, last, at, strict=True)]
        source = [slice(low - start, high - start) for low, high, start in zip(first, last, block.at, strict=True)]
        target[tuple(inside)] = held[tuple(source)]
        filled += math.prod(high - low for low, high in zip(first, last, strict=True))
    if target is None or filled != size:
        raise CorruptCheckpoint(
            f"The checkpoint holds {filled} of {size} elements of an array that several ranks stored in blocks."
        )
    return Array(dtype, wanted, memoryview(target.reshape(-1).view(np.uint8)))


class LiveMemory:
    """Memory of a framework that training continues with.

    Attributes:
        place: names the memory; the places that only an optimizer changes are known by it.
        stamp: equal for the same memory with the same contents, as far as the framework counts changes; None when it
            does not.
        address: where in this process's memory the bytes are, in order and plain; None when they have to be asked for.
        on_device: whether the host has to ask a device for the bytes.
    """

    __slots__ = ()
    place: Any = None
    stamp: Any = None
    address: int | None = None
    on_device = False

    def unchanged(self) -> bool:
        """Whether the framework counted no change since this object was made."""
        return True

    def sample(self, count: int) -> bytes:
        """A sample of about this many elements over the array; only for a `place` that an optimizer changes."""
        raise NotImplementedError

    def fetch_ahead(self) -> None:
        """Note the moment whose contents are wanted, and let a device begin to send them."""

    def copy_into(self, target: Any) -> None:
        """Copy the bytes from a device into a NumPy array of bytes; only called when `on_device`."""
        raise NotImplementedError


class UnsupportedArray(Exception):
    """A framework's array that has no bytes to store: meta, sparse, object dtype.

    Turned into a StateError with its name.
    """


class FrameworkArray(NamedTuple):
    """An array out of a framework.

    Attributes:
        array: its bytes.
        node: what the JSON must say to rebuild it: at least {"as": framework}.
        identity: equal for two values that are the same memory (tied weights); None where sharing has no meaning.
        sharded: the framework's own array, when it lies on several ranks.
    """

    array: Array
    node: dict[str, Any]
    identity: Any = None
    sharded: Any = None


class Pieces(NamedTuple):
    """A value that is made of several others.

    Attributes:
        form: the special key under which they are stored, such as "$numpy.masked".
        children: name -> value, each of which can be packed in turn.
    """

    form: str
    children: dict[str, Any]
