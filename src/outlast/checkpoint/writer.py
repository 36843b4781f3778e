"""The thread that commits, so that training does not wait for hashes and disks."""

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
        store: where to.
        before: called in that thread before each commit: the journal's flush.
        after: called in that thread after each that succeeded.
    """

    def __init__(
        self, store: CheckpointStore, before: Callable[[], None], after: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._before, self._after = store, before, after
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outlast-writer")

    def submit(self, flight: Flight, *, here: bool = False) -> None:
        """Begin to commit; or do it in this thread, from memory that nobody changes meanwhile."""
        if not here:
            flight.future = self._thread.submit(self._commit, flight)
            return
        try:
            flight.future.set_result(self._commit(flight))
        except SaveFailed as error:
            flight.future.set_exception(error)

    def soon(self, work: Callable[[], None]) -> Future[None]:
        """Do something small in the writer's thread, after what it does now."""
        return self._thread.submit(work)

    def close(self) -> None:
        """Wait for the thread to end."""
        self._thread.shutdown()

    def _commit(self, flight: Flight) -> Checkpoint:
        flight.hold()  # first of all: training may be waiting
        try:
            checkpoint = self._store.commit(flight.checked(), self._before, flight.durable)
        except SaveFailed:
            raise
        except Exception as error:  # whatever it is, it must reach the user as what it costs: this save
            raise SaveFailed(
                f"The checkpoint at step {flight.snapshot.step} could not be written ({type(error).__name__}: "
                f"{error}). Earlier checkpoints are intact."
            ) from error
        self._after()
        return checkpoint
