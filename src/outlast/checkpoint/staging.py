"""The one host buffer. It holds a checkpoint's files as they will be on the disk, and is filled while training runs.

There are three kinds of arrays. Those that only an optimizer's step changes are copied *later*, in the writer's thread;
an optimizer that is faster waits for the copy. Those that did not change since the last save, as counted by the
framework, are *stable*: they are also copied later, and go into a file that several checkpoints share. All others are
copied at once.

A later copy is trusted only if the framework counted no change in the meantime and a sample of the array is unchanged.
Otherwise nothing of the save is committed.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from outlast.checkpoint import memory, tensors
from outlast.checkpoint.snapshot import File
from outlast.folder import durable
from outlast.state import adapters
from outlast.state.array import Array, LiveMemory

_LATER = 2**16
"""Arrays with fewer bytes are copied at once, because to wait for them costs more than to copy them."""
_SHARED = 2**20
"""Stable arrays of one part get a file of their own only if they have this many bytes together."""
_SAMPLES = 64


class Copy(NamedTuple):
    """A copy of one array that was not made yet.

    Attributes:
        part: part of the state.
        name: name of the array.
        array: the program's array.
        target: address of the copy.
        block: memory of the copy.
        sample: some words of the array at the time of the save; None if it is not in host memory.
    """

    part: str
    name: str
    array: Array
    target: int
    block: Any
    sample: bytes | None

    def make(self) -> bool:
        """Copy the array, and return whether the copy can be trusted: the array did not change since the save."""
        _copy(self.array, self.target, self.block)
        live = self.array.live
        intact = live is not None and live.unchanged()
        return intact and (self.sample is None or _sample(self.target, self.array.nbytes) == self.sample)


class Staging:
    """The owner of the buffer. One save uses it at a time.

    Args:
        sharing: whether stable arrays go into files of their own.

    Attributes:
        lazy: whether arrays may be copied later.
    """

    def __init__(self, *, sharing: bool = True) -> None:
        self.lazy = True
        self._sharing = sharing
        self._memory = memoryview(b"")
        self._stamps: dict[tuple[str, str], Any] = {}
        self._layouts: dict[tuple[str, bool], tuple[Any, tensors.Layout]] = {}
        self._growing = threading.Lock()
        self._unpin: Callable[[], None] | None = None

    @property
    def nbytes(self) -> int:
        """Size of the buffer in bytes."""
        return len(self._memory)

    def prepare(self, nbytes: int) -> None:
        """Allocate and touch memory for a state of this size, so that the first save does not wait for it."""
        with self._growing:
            self._reserve(nbytes + 64 * durable.PAGE)

    def stage(
        self, parts: Mapping[str, Mapping[str, Array]], guarded: Collection[Any]
    ) -> tuple[list[File], list[Copy]]:
        """Copy the arrays that must be copied now, and list the copies that may be made later.

        Args:
            parts: part name -> array name -> array, in the program's memory.
            guarded: memory (`LiveMemory.place`) that changes only in an optimizer's step, which waits for its copies.

        Returns:
            The files in the buffer, and the copies to make before they are read.
        """
        groups = [group for part, arrays in parts.items() if arrays for group in self._split(part, arrays) if group[2]]
        layouts = [(part, shared, arrays, self._layout(part, arrays, shared=shared)) for part, shared, arrays in groups]
        with self._growing:
            self._reserve(sum(_whole_pages(layout.size) for *_, layout in layouts))
        stamps = _fetch_ahead(parts)
        files, copies, start, memmove = [], [], 0, ctypes.memmove
        for part, shared, arrays, layout in layouts:
            image = self._memory[start : start + layout.size]
            start += _whole_pages(layout.size)
            image[: len(layout.header)] = layout.header
            block = np.frombuffer(image, np.uint8)
            address = block.ctypes.data
            for name, offset in layout.offsets.items():
                array = arrays[name]
                size, live = array.nbytes, array.live
                if live and size < _LATER and (source := live.address) is not None:
                    memmove(address + offset, source, size)  # most arrays, in the training thread
                    continue
                target = block[offset : offset + size]
                if live and self._may_wait(part, name, array, live, guarded):
                    sample = _sample(live.address, size) if live.address is not None else None
                    copies.append(Copy(part, name, array, address + offset, target, sample))
                elif size:
                    _copy(array, address + offset, target)
            files.append(File(part, layout.size, functools.partial(iter, (image,)), shared, direct=True))
        self._stamps = stamps
        return files, copies

    def _layout(self, part: str, arrays: Mapping[str, Array], *, shared: bool) -> tensors.Layout:
        """The layout of a file. It is cached, because it rarely changes between saves.

        To compute it takes longer than all small copies together.
        """
        form = [(name, array.dtype, array.shape) for name, array in arrays.items()]
        known, layout = self._layouts.get((part, shared), (None, None))
        if layout is None or known != form:
            layout = tensors.Layout(arrays)
            self._layouts[part, shared] = form, layout
        return layout

    def _split(self, part: str, arrays: Mapping[str, Array]) -> Iterator[tuple[str, bool, Mapping[str, Array]]]:
        stable = {
            name: array
            for name, array in arrays.items()
            if array.nbytes >= _LATER and self._is_stable(part, name, array)
        }
        if not self._sharing or sum(array.nbytes for array in stable.values()) < _SHARED:
            stable = {}
        yield part, False, {name: array for name, array in arrays.items() if name not in stable} if stable else arrays
        yield part, True, stable

    def _is_stable(self, part: str, name: str, array: Array) -> bool:
        stamp = array.live.stamp if array.live and array.nbytes >= _LATER else None
        return stamp is not None and self._stamps.get((part, name)) == stamp

    def _may_wait(self, part: str, name: str, array: Array, live: LiveMemory, guarded: Collection[Any]) -> bool:
        if not self.lazy or live.stamp is None or array.nbytes < _LATER:
            return False
        return live.place in guarded or self._is_stable(part, name, array)

    def _reserve(self, nbytes: int) -> None:
        if len(self._memory) < nbytes:
            self.close()  # release the old buffer first, so that there is never a second one
            self._memory = memory.allocate(nbytes, own=True)
            self._unpin = adapters.pin(self._memory)

    def close(self) -> None:
        """Release the buffer."""
        if self._unpin:
            self._unpin()
        self._unpin, self._memory = None, memoryview(b"")


def _fetch_ahead(parts: Mapping[str, Mapping[str, Array]]) -> dict[tuple[str, str], Any]:
    """Let devices begin to send their arrays, and return the stamps of the large ones by part and name."""
    stamps = {}
    for part, arrays in parts.items():
        for name, array in arrays.items():
            if live := array.live:
                if live.address is None:
                    live.fetch_ahead()
                if array.nbytes >= _LATER:
                    stamps[part, name] = live.stamp
    return stamps


def _whole_pages(nbytes: int) -> int:
    return -(-nbytes // durable.PAGE) * durable.PAGE


def _copy(array: Array, target: int, block: Any) -> None:
    """Copy an array to an address, where the block begins. Releases the GIL."""
    live = array.live
    if live and live.address is not None:
        ctypes.memmove(target, live.address, array.nbytes)
    elif live and live.on_device:
        live.copy_into(block)
    else:
        np.copyto(block, np.frombuffer(array.data, np.uint8))


def _sample(address: int, nbytes: int) -> bytes:
    """Some words of a memory range, spread over all of it."""
    words = np.frombuffer((ctypes.c_char * nbytes).from_address(address), np.uint64, nbytes // 8)
    sample: bytes = words[:: max(1, len(words) // _SAMPLES)].tobytes()
    return sample
