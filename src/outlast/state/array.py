"""The array type that `state` passes to `checkpoint`: bytes with shape and dtype, independent of frameworks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from outlast.errors import CorruptCheckpoint

Buffer = bytes | bytearray | memoryview


class Shard(NamedTuple):
    """The position of a block in a larger array.

    Attributes:
        shape: shape of the larger array.
        at: index of the block's first element.
    """

    shape: tuple[int, ...]
    at: tuple[int, ...]


class Array:
    """An array without a framework: a safetensors dtype code, a shape, and little-endian C-order bytes.

    Args:
        dtype: the code, such as "F32".
        shape: the shape.
        data: the bytes, or a function that fetches them, for example from a GPU.
        nbytes: size in bytes; required if `data` is a function.
        live: the program's memory that holds the bytes and that may still change; None if nothing can change it.
        shard: its position in an array of which each rank holds a block; None for a whole array.
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
        """The contents as bytes."""
        return self._data() if callable(self._data) else self._data

    def region(self, at: Sequence[int], shape: Sequence[int]) -> Array:
        """The block with this shape that begins at this index. It is copied unless it is the whole array."""
        return _region(self.dtype, [Block((0,) * len(self.shape), self.shape, lambda: self)], at, shape)


class Block(NamedTuple):
    """A block of a larger array: index of its first element, shape, and a function that reads it."""

    at: tuple[int, ...]
    shape: tuple[int, ...]
    read: Callable[[], Array]


class Blocks(Array):
    """An array of which each rank stored a block. Only blocks that are needed are read.

    Args:
        dtype: the code, such as "F32".
        shape: shape of the whole array.
        blocks: the blocks. Blocks that begin at the same index have equal contents.
        nbytes: size of the whole array in bytes.
    """

    __slots__ = ("_blocks",)

    def __init__(self, dtype: str, shape: tuple[int, ...], blocks: Sequence[Block], nbytes: int) -> None:
        super().__init__(dtype, shape, lambda: self.region((0,) * len(shape), shape).data, nbytes)
        self._blocks = list({block.at: block for block in reversed(blocks)}.values())

    def region(self, at: Sequence[int], shape: Sequence[int]) -> Array:
        """A block of the array, assembled from the stored blocks.

        Raises:
            CorruptCheckpoint: the stored blocks do not cover it, or one of them cannot be read.
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
    """Memory of a framework that training still uses.

    Attributes:
        place: identifies the memory, so that memory which only an optimizer changes can be recognised.
        stamp: equal for the same memory with the same contents, by the framework's own count of changes; None if the
            framework does not count them.
        address: address of the bytes in host memory, contiguous and in C order; None if they must be fetched.
        on_device: whether the bytes must be fetched from a device.
    """

    __slots__ = ()
    place: Any = None
    stamp: Any = None
    address: int | None = None
    on_device = False

    def unchanged(self) -> bool:
        """Whether the framework has counted no change since this object was created."""
        return True

    def sample(self, count: int) -> bytes:
        """About this many elements, spread over the array. Only called for memory that an optimizer changes."""
        raise NotImplementedError

    def fetch_ahead(self) -> None:
        """Fix the moment of the copy, and let the device begin to send the bytes."""

    def copy_into(self, target: Any) -> None:
        """Copy the bytes from the device into a NumPy array of bytes. Only called if `on_device`."""
        raise NotImplementedError


class UnsupportedArray(Exception):
    """A framework's array that has no bytes to store: meta, sparse, object dtype.

    The caller raises a StateError that names the array.
    """


class FrameworkArray(NamedTuple):
    """A packed array of a framework.

    Attributes:
        array: its bytes, dtype and shape.
        node: JSON that is needed to rebuild it: at least {"as": framework}.
        identity: equal for two values with the same memory (tied weights); None if the framework does not share memory.
        sharded: the framework's own array, if each rank holds a block of it.
    """

    array: Array
    node: dict[str, Any]
    identity: Any = None
    sharded: Any = None


class Pieces(NamedTuple):
    """A value that consists of several other values.

    Attributes:
        form: the special key under which they are stored, such as "$numpy.masked".
        children: name -> value. Each value is packed in turn.
    """

    form: str
    children: dict[str, Any]


def references(node: Any) -> Iterator[str]:
    """The names of the arrays that a JSON of `Encoder` refers to, in the order of the JSON."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict) and isinstance(name := each.get("$array"), str):
            yield name
        elif isinstance(each, dict | list):
            waiting.extend(each.values() if isinstance(each, dict) else each)
