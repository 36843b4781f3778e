"""The kernel's lock on an open file. It goes with its process, and no forked child keeps it."""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Closable(Protocol):
    """Holds the descriptor of a locked file."""

    def close(self) -> None:
        """Close it."""


_HELD: set[Closable] = set()


def flock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file. True: taken. False: another process has it. None: this file system has no such locks."""
    if fcntl is None:
        return None  # type: ignore[unreachable]
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock(descriptor: int) -> None:
    """Let go of a lock, also for children that hold a copy of the descriptor."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def close_in_children(lock: Closable) -> None:
    """Close the descriptor of a lock in forked children, such as a data loader's workers.

    With a descriptor they inherit the kernel's lock, which would outlive a killed owner.
    """
    _HELD.add(lock)


def closed(lock: Closable) -> None:
    """It is closed: a child has nothing to close any more."""
    _HELD.discard(lock)


def _let_go_in_child() -> None:
    for lock in list(_HELD):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
