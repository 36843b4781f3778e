"""The thread that commits, so that training does not wait for hashes and disks."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from outlast.checkpoint.manifest import Checkpoint
from outlast.checkpoint.snapshot import Committable, File, Snapshot
from outlast.checkpoint.store import Store
from outlast.errors import SaveFailed
from outlast.folder.hashing import CHUNK, Buffer


class Abandoned(SaveFailed):
    """A save was given up half-way because something else is more urgent; nothing of it is visible."""


class Flight:
    """One save on its way to the disk.

    Attributes:
        snapshot: what is saved.
        nbytes: bytes of array data.
        begun: when it was asked for (time.perf_counter).
        seconds: from then until it was durable; 0.0 before.
        held: seconds that training has waited for it.
    """

    def __init__(self, staged: Committable, begun: float) -> None:
        self.snapshot: Snapshot = staged.snapshot
        self.nbytes = staged.nbytes
        self.begun, self.seconds, self.held = begun, 0.0, 0.0
        self._staged = staged
        self._written, self._abandoned = 0, False
        self.future: Future[Checkpoint] = Future()

    @property
    def done(self) -> bool:
        """Whether it is over, well or not."""
        return self.future.done()

    @property
    def copied(self) -> bool:
        """Whether the program may change its state."""
        return self._staged.copied

    def hold(self) -> None:
        """Return when the program may change its state again."""
        self._staged.hold()

    def hurry(self) -> None:
        """A newer state is to be saved at once: finish if half of this one is written, else give it up."""
        self._abandoned = self._written * 2 < self.nbytes

    def durable(self) -> None:
        """Note that it is: what follows is the deletion of older ones."""
        self.seconds = time.perf_counter() - self.begun

    def abandon(self) -> None:
        """Give it up."""
        self._abandoned = True

    def files(self) -> Iterator[File]:
        """The files, with an ear for `hurry`."""
        for file in self._staged.files():
            yield File(file.part, file.nbytes, functools.partial(self._watched, file), file.shared, file.direct)

    def _watched(self, file: File) -> Iterator[Buffer]:
        for piece in file.pieces():
            view = memoryview(piece)
            for start in range(0, len(view), CHUNK):
                if self._abandoned:
                    raise Abandoned(
                        f"The save at step {self.snapshot.step} was given up half-way; nothing of it is visible."
                    )
                yield view[start : start + CHUNK]
                self._written += len(view[start : start + CHUNK])


class Writer:
    """Commits one save at a time in a thread of its own.

    Args:
        store: where to.
        before: called in that thread before each commit: the journal's flush.
    """

    def __init__(self, store: Store, before: Callable[[], None]) -> None:
        self._store, self._before = store, before
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outlast-writer")

    def submit(self, staged: Committable, begun: float, *, here: bool = False) -> Flight:
        """Begin to commit; or do it in this thread, from memory that nobody changes meanwhile."""
        flight = Flight(staged, begun)
        if not here:
            flight.future = self._thread.submit(self._commit, flight)
            return flight
        try:
            flight.future.set_result(self._commit(flight))
        except SaveFailed as error:
            flight.future.set_exception(error)
        return flight

    def soon(self, work: Callable[[], None]) -> Future[None]:
        """Do something small in the writer's thread, after what it does now."""
        return self._thread.submit(work)

    def close(self) -> None:
        """Wait for the thread to end."""
        self._thread.shutdown()

    def _commit(self, flight: Flight) -> Checkpoint:
        flight.hold()  # first of all: training may be waiting
        try:
            return self._store.commit(flight, self._before, flight.durable)
        except SaveFailed:
            raise
        except Exception as error:  # whatever it is, it must reach the user as what it costs: this save
            raise SaveFailed(
                f"The checkpoint at step {flight.snapshot.step} could not be written ({type(error).__name__}: {error}). Earlier "
                "checkpoints are intact."
            ) from error
