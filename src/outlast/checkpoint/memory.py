"""Page-aligned memory for whole files. It is released when nothing refers to it."""

from __future__ import annotations

import contextlib
import mmap
import sys
import time
from pathlib import Path

_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)
_NOT_HUGE = getattr(mmap, "MADV_NOHUGEPAGE", None)
_PIECE = 4 * 2**20
_SMALL_PAGES = 0.5e-9
"""Seconds of CPU per byte for small pages. Huge ones take 0.1e-9 where the machine has free ones, and 2e-9 where it has
to move other pages to make room for them."""
_PATIENCE = 0.04
"""Seconds of CPU that huge pages may take longer than small ones before they are given up."""
_WIPEONFORK = 18 if sys.platform == "linux" else None
"""MADV_WIPEONFORK of linux/mman.h, which the mmap module lacks. A forked child sees zeros.

MADV_DONTFORK does not work: it leaves a hole in the child's memory. The child may place other memory there, and unmaps
it when it collects the buffer, which crashes it (signal 11).
"""


def allocate(nbytes: int, *, own: bool = False) -> memoryview:
    """Writable, zeroed memory that begins on a page boundary, all of whose pages are there. Releases the GIL.

    Args:
        nbytes: size in bytes; at least one byte is allocated.
        own: forked data workers see zeros, so that a write never copies pages for them.
    """
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    block = mmap.mmap(-1, max(1, nbytes), **flags)
    for advice in (_HUGE, _WIPEONFORK if own else None):
        if advice is not None:
            with contextlib.suppress(OSError):  # the kernel does not support it
                block.madvise(advice)
    _touch(block)
    return memoryview(block)[:nbytes]


def _touch(block: mmap.mmap) -> None:
    """Let the machine provide all pages, in huge ones until it is clear that they cost more than small ones."""
    if len(block) <= _PIECE:  # a tenth of a millisecond; NumPy, which `outlast run` needs for nothing else, takes 40
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 0
        return
    import numpy as np  # here, because verbs that only read a run's records do without it

    pages, begun = np.frombuffer(block, np.uint8), time.thread_time()
    back = _NOT_HUGE if _HUGE is not None else None
    for start in range(0, len(pages), _PIECE):
        end = start + _PIECE
        pages[start : end : mmap.PAGESIZE] = 0
        late = time.thread_time() - begun > end * _SMALL_PAGES + _PATIENCE
        if back is not None and late and end < len(pages):
            with contextlib.suppress(OSError):
                block.madvise(back, end)
            back = None


def available(root: Path = Path("/")) -> int | None:
    """Bytes that can be allocated now without swapping; None if the system does not report them."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def resident(root: Path = Path("/")) -> int:
    """Bytes of memory that this process has; 0 if the system does not report them."""
    try:
        pages = int((root / "proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * mmap.PAGESIZE


def peak(root: Path = Path("/")) -> int:
    """Most bytes of memory that this program has had; 0 if the system does not report them.

    It is VmHWM of proc(5). ru_maxrss of getrusage(2) also counts what the process had before it began this program,
    which is the memory of whoever started it.
    """
    try:
        lines = (root / "proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
