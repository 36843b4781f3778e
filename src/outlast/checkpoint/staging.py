"""The one host buffer: a checkpoint's files in their layout on the disk, copied while training continues.

Three kinds of arrays. What an optimizer changes in its step, and nobody else, is copied *later*, in the writer's
thread, and the optimizer waits for it if it is faster. What the framework counted no change in since the save before is
*stable*: it is copied later, too, and goes into a file that several checkpoints share. Everything else is copied at
once.

A later copy is trusted only when the framework counted no change meanwhile and a sample of it is what it was.
Otherwise nothing of it is committed.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from outlast.checkpoint import memory, tensors
from outlast.checkpoint.snapshot import File
from outlast.folder import durable
from outlast.state import adapters
from outlast.state.array import Array, LiveMemory

_LATER = 2**16
"""Arrays smaller than this are copied at once: waiting for them costs more than copying them."""
_SHARED = 2**20
"""Stable arrays of one part smaller than this in all are not worth a file of their own."""
_SAMPLES = 64


@dataclass(frozen=True)
class Copy:
    """A copy of one array that is still to be made.

    Attributes:
        name: of the array.
        array: the program's.
        target: the address of the copy.
        block: the memory of the copy.
        sample: some words of the array as it was; None where it is not in this machine's memory.
    """

    name: str
    array: Array
    target: int
    block: Any
    sample: bytes | None

    def make(self) -> bool:
        """Copy it; returns whether the copy can be trusted: nothing changed the array since it was asked for."""
        _copy(self.array, self.target, self.block)
        live = self.array.live
        intact = live is not None and live.unchanged()
        return intact and (self.sample is None or _sample(self.target, self.array.nbytes) == self.sample)


class Staging:
    """Gives out the buffer, one save at a time.

    Args:
        sharing: whether stable arrays go into files of their own.

    Attributes:
        lazy: whether anything may be copied later.
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
        """Size of the buffer."""
        return len(self._memory)

    def prepare(self, nbytes: int) -> None:
        """Have memory for a state of this size ready and touched, so that the first save does not wait for it."""
        with self._growing:
            self._reserve(nbytes + 64 * durable.PAGE)

    def stage(
        self, parts: Mapping[str, Mapping[str, Array]], guarded: Collection[Any]
    ) -> tuple[list[File], list[Copy]]:
        """Copy what must be copied now, and note what may be copied later.

        Args:
            parts: part name -> array name -> array; they are still the program's.
            guarded: places (`LiveMemory.place`) that change only in an optimizer's step; all copies are made before it.

        Returns:
            The files in the buffer, and the copies that are to be made before they are read.
        """
        groups = [group for part, arrays in parts.items() if arrays for group in self._split(part, arrays) if group[2]]
        layouts = [(part, shared, arrays, self._layout(part, arrays, shared=shared)) for part, shared, arrays in groups]
        with self._growing:
            self._reserve(sum(_whole_pages(layout.size) for *_, layout in layouts))
        for array in (array for arrays in parts.values() for array in arrays.values()):
            if array.live:
                array.live.fetch_ahead()
        files, copies, start = [], [], 0
        for part, shared, arrays, layout in layouts:
            image = self._memory[start : start + layout.size]
            start += _whole_pages(layout.size)
            image[: len(layout.header)] = layout.header
            block = np.frombuffer(image, np.uint8)
            address = block.ctypes.data
            for name, offset in layout.offsets.items():
                array = arrays[name]
                size, live = array.nbytes, array.live
                target = block[offset : offset + size]
                if live and self._may_wait(part, name, array, live, guarded):
                    sample = _sample(live.address, size) if live.address is not None else None
                    copies.append(Copy(f"{part}[{name}]", array, address + offset, target, sample))
                elif size:
                    _copy(array, address + offset, target)
            files.append(File(part, layout.size, functools.partial(iter, (image,)), shared, direct=True))
        self._stamps = {
            (part, name): array.live.stamp
            for part, arrays in parts.items()
            for name, array in arrays.items()
            if array.live and array.nbytes >= _LATER
        }
        return files, copies

    def _layout(self, part: str, arrays: Mapping[str, Array], *, shared: bool) -> tensors.Layout:
        """The layout of a file, which from save to save is nearly always the same.

        To make it takes longer than all small copies.
        """
        form = [(name, array.dtype, array.shape) for name, array in arrays.items()]
        known, layout = self._layouts.get((part, shared), (None, None))
        if layout is None or known != form:
            layout = tensors.Layout(arrays)
            self._layouts[part, shared] = form, layout
        return layout

    def _split(self, part: str, arrays: Mapping[str, Array]) -> Iterator[tuple[str, bool, Mapping[str, Array]]]:
        stable = {name: array for name, array in arrays.items() if self._is_stable(part, name, array)}
        if not self._sharing or sum(array.nbytes for array in stable.values()) < _SHARED:
            stable = {}
        yield part, False, {name: array for name, array in arrays.items() if name not in stable}
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
            self.close()  # the old one goes first: there is one buffer
            self._memory = memory.allocate(nbytes, own=True)
            np.frombuffer(self._memory, np.uint8)[:: durable.PAGE] = 0  # touched now, and not while a save waits for it
            self._unpin = adapters.pin(self._memory)

    def close(self) -> None:
        """Give the buffer back."""
        if self._unpin:
            self._unpin()
        self._unpin, self._memory = None, memoryview(b"")


def _whole_pages(nbytes: int) -> int:
    return -(-nbytes // durable.PAGE) * durable.PAGE


def _copy(array: Array, target: int, block: Any) -> None:
    """Copy an array to an address, which is the beginning of a block; releases the GIL."""
    live = array.live
    if live and live.address is not None:
        ctypes.memmove(target, live.address, array.nbytes)
    elif live and live.on_device:
        live.copy_into(block)
    else:
        np.copyto(block, np.frombuffer(array.data, np.uint8))


def _sample(address: int, nbytes: int) -> bytes:
    """Some words of some memory, spread over all of it."""
    words = np.frombuffer((ctypes.c_char * nbytes).from_address(address), np.uint64, nbytes // 8)
    sample: bytes = words[:: max(1, len(words) // _SAMPLES)].tobytes()
    return sample
