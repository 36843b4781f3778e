"""Memory for whole files: on page boundaries, given back to the system when nobody refers to it."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)
_DONTFORK = getattr(mmap, "MADV_DONTFORK", None)


def allocate(nbytes: int, *, own: bool = False) -> memoryview:
    """Writable memory that begins on a page boundary; zeroed, and taken from the machine only as it is touched.

    Args:
        nbytes: how much; at least one byte is reserved.
        own: forked data workers do not get it, so that writing into it never copies pages for them.
    """
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    block = mmap.mmap(-1, max(1, nbytes), **flags)
    for advice in (_HUGE, _DONTFORK if own else None):
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
