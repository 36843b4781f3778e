"""Page-aligned memory for whole files, released when nothing refers to it."""

from __future__ import annotations

import contextlib
import mmap
import sys
from pathlib import Path

_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)
_WIPEONFORK = 18 if sys.platform == "linux" else None
"""linux/mman.h; the mmap module does not name it.

A child sees zeros there. Not MADV_DONTFORK: that leaves a hole in the child,
where other memory comes to lie, and the child unmaps that when it collects the buffer: a crash with signal 11."""


def allocate(nbytes: int, *, own: bool = False) -> memoryview:
    """Writable memory that begins on a page boundary; zeroed, and taken from the machine only as it is touched.

    Args:
        nbytes: how much; at least one byte is reserved.
        own: forked data workers see zeros there, so that writing into it never copies pages for them.
    """
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    block = mmap.mmap(-1, max(1, nbytes), **flags)
    for advice in (_HUGE, _WIPEONFORK if own else None):
        if advice is not None:
            with contextlib.suppress(OSError):  # a kernel without it
                block.madvise(advice)
    return memoryview(block)[:nbytes]


def available(root: Path = Path("/")) -> int | None:
    """Bytes that could be taken now without swapping; None where the system does not say."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
