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
        before: called in that thread before each commit; it makes the journal durable.
        lay_down: called in that thread before a state goes into a slot; it writes the journal.
        after: called in that thread after each successful commit.
    """

    def __init__(
        self,
        store: CheckpointStore,
        before: Callable[[], None],
        after: Callable[[], None] = lambda: None,
        lay_down: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._before, self._after, self._lay_down = store, before, after, lay_down
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

    def _commit(self, flight: Flight) -> Checkpoint | None:
        flight.hold()  # first, because training may wait for the copies
        if not flight.kept:
            self._into_slot(flight)
            return None
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

    def _into_slot(self, flight: Flight) -> None:
        try:
            self._lay_down()
            self._store.slots.write(flight.checked(), self._store.history)
        except SaveFailed:
            raise
        except Exception as error:
            raise SaveFailed(
                f"Step {flight.snapshot.step} could not be left in {self._store.folder.slots} "
                f"({type(error).__name__}: {error}). Checkpoints are intact."
            ) from error
