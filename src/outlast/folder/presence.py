"""The ranks that are alive: a second lock file, which all of them hold together."""

from __future__ import annotations

import os
import time
from pathlib import Path

from outlast.errors import RunBusy
from outlast.folder import plain
from outlast.folder.flock import close_in_children, closed, flock, unlock


class Presence:
    """Shows that a rank is alive, even if other ranks are gone: all ranks hold a second lock file together.

    Only rank 0 holds the run's lock. When it dies alone, another rank may still be about to write; the next attempt
    waits for it.

    Args:
        path: the file; made by `show`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def show(self) -> None:
        """Hold the file until this process ends or `hide` is called."""
        self._descriptor = plain.open_plain(self.path, os.O_RDWR | os.O_CREAT)
        close_in_children(self)
        flock(self._descriptor, shared=True)

    def hide(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            unlock(self._descriptor)
            self.close()

    def wait_for_others(self, seconds: float) -> None:
        """Return when no rank of an earlier attempt lives.

        Raises:
            RunBusy: one is still alive after this time.
        """
        if not plain.kind_of(self.path):
            return
        descriptor = plain.open_plain(self.path)
        try:
            end = time.monotonic() + seconds
            while flock(descriptor) is False:
                if time.monotonic() > end:
                    raise RunBusy(
                        f"A rank of an earlier attempt at {self.path.parent} is still running, although its rank 0 "
                        "has ended. Stop it, or wait until it ends, and start again."
                    )
                time.sleep(0.05)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        self._descriptor = -1
        closed(self)
