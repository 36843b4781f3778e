"""The thread that commits checkpoints, so that training does not wait for hashes and disks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from outlast.checkpoint.flight import Flight
from outlast.checkpoint.manifest import Checkpoint
from outlast.checkpoint.store import CheckpointStore
from outlast.errors import SaveFailed


class Writer:
    """Commits one save at a time in its own thread.

    Args:
        store: the store that commits.
        before: called in that thread before each commit; it flushes the journal.
        after: called in that thread after each successful commit.
    """

    def __init__(
        self, store: CheckpointStore, before: Callable[[], None], after: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._before, self._after = store, before, after
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outlast-writer")

    def submit(self, flight: Flight, *, here: bool = False) -> None:
        """Begin a commit. With `here`, commit in the calling thread, directly from the program's memory."""
        if not here:
            flight.future = self._thread.submit(self._commit, flight)
            return
        try:
            flight.future.set_result(self._commit(flight))
        except SaveFailed as error:
            flight.future.set_exception(error)

    def soon(self, work: Callable[[], None]) -> Future[None]:
        """Run a short function in the writer's thread, after its current work."""
        return self._thread.submit(work)

    def close(self) -> None:
        """Wait for the thread to end."""
        self._thread.shutdown()

    def _commit(self, flight: Flight) -> Checkpoint:
        flight.hold()  # first, because training may wait for the copies
        try:
            checkpoint = self._store.commit(flight.checked(), self._before, flight.durable)
        except SaveFailed:
            raise
        except Exception as error:  # any error costs this save, and the user must know
            raise SaveFailed(
                f"The checkpoint at step {flight.snapshot.step} could not be written ({type(error).__name__}: "
                f"{error}). Earlier checkpoints are intact."
            ) from error
        self._after()
        return checkpoint
