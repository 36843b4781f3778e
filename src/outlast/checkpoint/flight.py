"""One save in progress: copied and written while training continues, or abandoned."""

from __future__ import annotations

import collections
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

from outlast.checkpoint.manifest import Checkpoint
from outlast.checkpoint.snapshot import File, Snapshot
from outlast.checkpoint.staging import Copy
from outlast.errors import SaveFailed
from outlast.folder.hashing import CHUNK, Buffer


class TornCopy(SaveFailed):
    """Something changed an array between two optimizer steps while it was copied; nothing was written."""


class SaveAbandoned(SaveFailed):
    """A save was abandoned half-way because something else is more urgent; nothing of it is visible."""


class Flight:
    """One save in flight. The training thread holds for it, the writer's thread reads its files.

    Args:
        snapshot: what is saved.
        copies: what is to be copied before its files are read.
        begun: when it was asked for (time.perf_counter).

    Attributes:
        snapshot: what is saved.
        seconds: from then until it was durable; 0.0 before.
        held: seconds that training has waited for it.
        future: its outcome.
    """

    def __init__(self, snapshot: Snapshot, copies: Sequence[Copy], begun: float) -> None:
        self.snapshot = snapshot
        self.begun, self.seconds, self.held = begun, 0.0, 0.0
        self.future: Future[Checkpoint] = Future()
        self._copies, self._left = collections.deque(copies), len(copies)
        self._lock, self._copied = threading.Lock(), threading.Event()
        self._torn: str | None = None
        self._written, self._abandoned = 0, False
        if not copies:
            self._copied.set()

    @property
    def done(self) -> bool:
        """Whether it is over, well or not."""
        return self.future.done()

    @property
    def copied(self) -> bool:
        """Whether the program may change its state."""
        return self._copied.is_set()

    def hold(self) -> None:
        """Return when the program may change its state again; helps to copy. To be called before anything changes."""
        if not self._copied.is_set():
            self._make_copies()
            self._copied.wait()

    def hurry(self) -> None:
        """A newer state is to be saved at once: finish if half of this one is written, else give it up."""
        self._abandoned = self._written * 2 < self.snapshot.nbytes

    def abandon(self) -> None:
        """Give it up."""
        self._abandoned = True

    def durable(self) -> None:
        """Note that it is: what follows is the deletion of older ones."""
        self.seconds = time.perf_counter() - self.begun

    def checked(self) -> Snapshot:
        """The snapshot for the store.

        Reading its files ends with TornCopy or SaveAbandoned where they are not to be trusted, or not wanted.
        """
        # Made when it is asked for: files that a flight kept and that refer to the flight would keep the memory of
        # both.
        files = [replace(file, pieces=functools.partial(self._pieces, file)) for file in self.snapshot.files]
        return replace(self.snapshot, files=files)

    def _make_copies(self) -> None:
        while True:
            try:
                copy = self._copies.popleft()
            except IndexError:
                return
            try:
                intact = copy.make()
            except BaseException:  # noqa: BLE001 - this copy is not to be trusted, and training may not hang
                intact = False
            if not intact:
                self._torn = self._torn or copy.name
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._copied.set()

    def _pieces(self, file: File) -> Iterator[Buffer]:
        """The contents of a file, once all is copied, and as long as the save is not abandoned."""
        self.hold()
        if self._torn:
            raise TornCopy(
                f"{self._torn} was changed outside the optimizer's step while it was copied, so the save at step "
                f"{self.snapshot.step} was dropped; from now on training waits for the copy."
            )
        for piece in file.pieces():
            view = memoryview(piece)
            for start in range(0, len(view), CHUNK):
                if self._abandoned:
                    raise SaveAbandoned(
                        f"The save at step {self.snapshot.step} was abandoned before it was complete; no checkpoint "
                        "was made."
                    )
                yield view[start : start + CHUNK]
                self._written += len(view[start : start + CHUNK])
