"""One save in progress: copied and written while training continues, or abandoned."""

from __future__ import annotations

import collections
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from outlast.checkpoint.manifest import Checkpoint
from outlast.checkpoint.snapshot import File, Snapshot
from outlast.checkpoint.staging import Copy
from outlast.errors import SaveFailed
from outlast.folder.hashing import CHUNK, Buffer


class TornCopy(SaveFailed):
    """An array was changed outside an optimizer's step while it was copied. Nothing was written."""


class SaveAbandoned(SaveFailed):
    """A save was abandoned because something else is more urgent. Nothing of it is visible."""


class Flight:
    """One save in progress. The training thread waits for its copies; the writer's thread reads its files.

    Args:
        snapshot: the state to save.
        copies: copies to make before the files are read.
        begun: time of the request (time.perf_counter).
        kept: whether it becomes a checkpoint; else it goes into a slot.

    Attributes:
        snapshot, kept: as given.
        seconds: time from the request until the checkpoint was durable; 0.0 before that.
        held: seconds that training has waited for this save.
        future: the committed checkpoint, or None for one in a slot; or the error.
    """

    def __init__(self, snapshot: Snapshot, copies: Sequence[Copy], begun: float, *, kept: bool = True) -> None:
        self.snapshot, self.kept = snapshot, kept
        self.begun, self.seconds, self.held = begun, 0.0, 0.0
        self.future: Future[Checkpoint | None] = Future()
        self._copies, self._left = collections.deque(copies), len(copies)
        self._lock, self._copied = threading.Lock(), threading.Event()
        self._torn: str | None = None
        self._written, self._abandoned = 0, False
        if not copies:
            self._copied.set()

    @property
    def done(self) -> bool:
        """Whether the save has ended, with success or not."""
        return self.future.done()

    @property
    def copied(self) -> bool:
        """Whether the program may change its state."""
        return self._copied.is_set()

    def hold(self) -> None:
        """Wait until the program may change its state again, and help to copy. Call this before the state changes."""
        if not self._copied.is_set():
            self._make_copies()
            self._copied.wait()

    def hurry(self) -> None:
        """Make way for an urgent save: finish this one if half of its bytes are written, otherwise abandon it."""
        self._abandoned = self._written * 2 < self.snapshot.nbytes

    def abandon(self) -> None:
        """Abandon the save."""
        self._abandoned = True

    def durable(self) -> None:
        """Note that the checkpoint is durable. Only the deletion of older ones follows."""
        self.seconds = time.perf_counter() - self.begun

    def checked(self) -> Snapshot:
        """The snapshot for the store.

        Reading its files raises TornCopy if a copy cannot be trusted, and SaveAbandoned if the save was abandoned.
        """
        # Not kept in an attribute: these files refer to the flight, and the cycle would keep the memory of both.
        files = [file._replace(pieces=functools.partial(self._pieces, file)) for file in self.snapshot.files]
        return self.snapshot._replace(files=files)

    def _make_copies(self) -> None:
        while True:
            try:
                copy = self._copies.popleft()
            except IndexError:
                return
            try:
                intact = copy.make()
            except BaseException:  # noqa: BLE001 - the copy cannot be trusted, and training must not hang
                intact = False
            if not intact:
                self._torn = self._torn or f"{copy.part}[{copy.name}]"
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._copied.set()

    def _pieces(self, file: File) -> Iterator[Buffer]:
        """The contents of a file. Waits for all copies; raises when the save is abandoned."""
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
