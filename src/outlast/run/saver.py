"""Starts copy and commit of the state, and takes in what became durable. `schedule` says when.

Arguments between two steps only.

A save is *staged* in the training thread (what changes outside the optimizer's step is copied there and then), *held
for* by the optimizer if it comes before the rest is copied, and *settled* at the end of a later step, when the writer
is done: only then is it reported.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from outlast.checkpoint import Snapshot
from outlast.checkpoint.flight import Flight, SaveAbandoned, TornCopy
from outlast.checkpoint.memory import available, resident
from outlast.checkpoint.record import LoopRecord, StateRecord
from outlast.checkpoint.snapshot import File, files_of
from outlast.checkpoint.staging import Copy, Staging
from outlast.checkpoint.writer import Writer
from outlast.config.units import format_bytes
from outlast.distributed import replicas
from outlast.errors import RankFailed, SaveFailed
from outlast.run.attempt import Attempt
from outlast.run.manner import Manner
from outlast.run.parts import Parts
from outlast.run.schedule import SaveSchedule
from outlast.state import adapters
from outlast.state.array import Array
from outlast.tracking import SaveFacts

_FLUSH = 10.0  # seconds between two writes of the journal
_LONG = 1.0  # seconds of waiting for the writer that are worth a sentence


class Saver:
    """The saving side of a run.

    Args:
        attempt: its store, session, journal, sinks and stopwatch.
        parts: what is saved.
        schedule: when to save; it learns what a save costs.
        background: copy and write while training continues. Without it, or when memory has no room for a copy, training
            waits.
        saved_step: the step of the checkpoint that the attempt continues, -1 when there is none.

    Attributes:
        saved_step: the step of the newest commit, -1 when there is none.
    """

    def __init__(
        self, attempt: Attempt, parts: Parts, schedule: SaveSchedule, *, background: bool = True, saved_step: int = -1
    ) -> None:
        self.saved_step = saved_step
        self._store, self._session, self._journal = attempt.store, attempt.session, attempt.journal
        self._shown, self._tell, self._ranks, self._watch = attempt.shown, attempt.tell, attempt.ranks, attempt.watch
        self._parts, self._schedule, self._background = parts, schedule, background
        self._software: Mapping[str, Any] = {}
        # A shared file has one writer, and is durable: a slot cannot refer to it.
        self._staging = Staging(sharing=self._ranks.is_main and not schedule.each_step)
        self._manner = Manner()
        self._between = 0.0  # seconds that the save in progress held training between two steps
        self._neighbours = 1  # ranks on this machine that need memory for a copy as well
        self._following = attempt.following
        self._writer = Writer(attempt.store, self._flush_journal, self._following.hear, self._lay_journal_down)
        attempt.store.give_room = self._following.give_room
        self._flight: Flight | None = None
        self._flushing: Future[None] | None = None
        self._unhook: Callable[[], None] = lambda: None
        self._flushed = time.perf_counter()
        self._told_waiting = False
        self._to_prepare = 0  # bytes of memory that the first save will want

    @property
    def coming(self) -> Snapshot | None:
        """The checkpoint that is on its way to the disk."""
        return self._flight.snapshot if self._flight and self._flight.kept else None

    def begin(self, software: Mapping[str, Any]) -> None:
        """Measure the state, and report its size to the session.

        Args:
            software: versions and device, which every checkpoint states.
        """
        self._software = software
        arrays, _, _ = self._parts.pack()
        each = [array for part in arrays.values() for array in part.values()]
        blocks = sum(array.nbytes for array in each if array.shard)
        # Other ranks keep their blocks, and little besides; a buffer that is too small grows with the first save.
        size = sum(array.nbytes for array in each) if self._ranks.is_main else blocks
        self._neighbours = self._ranks.local_world_size if blocks else 1
        self._store.look()
        self._session.observe_state(size, self._store.nbytes)
        self._session.check_budget()
        if self._background:
            self._unhook = adapters.before_updates(self._hold)
            if self._has_room(size):
                self._to_prepare = size
        self._schedule.begin()
        self._flushed = time.perf_counter()

    def save(
        self,
        step: int,
        loop: LoopRecord,
        reason: str,
        metrics: Mapping[str, Any],
        *,
        must: bool = False,
    ) -> float:
        """Begin to commit, unless this step is committed or on its way already.

        Args:
            step: steps done.
            loop: where the loop is.
            reason: why.
            metrics: what the step logged.
            must: return only when it is on the disk.

        Returns:
            Seconds that training was held.

        Raises:
            SaveFailed: it was one that must succeed; any other failure is reported and tried again later.
            RankFailed: another rank is gone, so no save will succeed.
        """
        begun = time.perf_counter()
        if self._flight and (must or not self._flight.kept or self._flight.snapshot.step != step):
            if reason == "preempted" and self._flight.snapshot.step != step:
                self._flight.hurry()  # the platform gives seconds
            self.wait_for_writer()
            self._end_if_cut_off()
        if step not in (self.saved_step, self._flight.snapshot.step if self._flight else -1):
            self._schedule.started(begun)
            self._manner.forget()
            self._flight = flight = Flight(*self._take(step, loop, reason, metrics), begun)
            waits = self._manner.waits and not must
            self._writer.submit(flight, here=not self._background)
            flight.held = self._between = time.perf_counter() - begun
            if must or waits or not self._background:
                self._settle(must=must, waits=True)
                flight.held = time.perf_counter() - begun
            if waits and self._background and step == self.saved_step:
                self._manner.observe_save(flight.held, flight.seconds, waited=True)
        held = time.perf_counter() - begun
        self._watch.saves += held
        return held

    def keep(self, step: int, loop: LoopRecord, metrics: Mapping[str, Any]) -> float:
        """Begin to leave the state in a slot, unless the save before is still on its way.

        Args:
            step: steps done.
            loop: where the loop is.
            metrics: what the step logged.

        Returns:
            Seconds that training was held.
        """
        if self._flight:
            return 0.0
        begun = time.perf_counter()
        taken = self._take(step, loop, "step", metrics)
        if self._background:
            self._flight = Flight(*taken, begun, kept=False)
            self._writer.submit(self._flight)
        else:  # there was no memory for a copy, which was told
            self._give_up_each_step("A state beside training needs a copy of it in memory.")
        held = time.perf_counter() - begun
        self._watch.saves += held
        return held

    def _give_up_each_step(self, why: str) -> None:
        self._schedule.give_up_each_step()
        self._tell("warning", f"{why} From now on the state of every step is not kept, only checkpoints are.")

    def check(self, clock: float, took: float | None = None) -> None:
        """After every step: check the save in progress, and flush the journal from time to time.

        Args:
            clock: time.perf_counter() at the end of the step.
            took: seconds of the step; None: it says nothing of other steps.

        Raises:
            RankFailed: another rank is gone, so no save will succeed.
        """
        if took is not None and not self._ranks.several:  # several would all have to wait for the same saves
            self._manner.observe_step(took, beside=self.coming is not None)
        if (flight := self._flight) and flight.done:
            self._settle()
            if flight.kept and self.saved_step == flight.snapshot.step:
                self._manner.observe_save(self._between, flight.seconds, waited=False)
            self._end_if_cut_off()
        self._following.heed()
        if self._to_prepare:  # after the first step, which is waited for the most and wants all cores
            size, self._to_prepare = self._to_prepare, 0
            self._writer.soon(lambda: self._staging.prepare(size))
        if clock - self._flushed > _FLUSH:
            self._flushed = clock
            if self._flushing is None or self._flushing.done():
                self._journal.seal()
                self._flushing = self._writer.soon(self._flush_quietly)

    def wait_for_writer(self) -> None:
        """Wait for the save in progress and its result; a long wait is reported once."""
        begun = time.perf_counter()
        self._settle()
        waited = time.perf_counter() - begun
        if waited > _LONG and not self._told_waiting:
            self._told_waiting = True
            self._tell(
                "info",
                f"Training waited {waited:.1f} s because a save came while the one before it was still being written; "
                "save less often (save= of open_run, or --save-every).",
            )

    def close(self, *, abandon: bool = False) -> None:
        """Wait for the save in progress, or give it up; then release thread, buffer and hook."""
        if self._flight:
            if abandon:
                self._flight.abandon()
            self._settle()
        self._unhook()
        self._writer.close()
        self._staging.close()
        if self._schedule.each_step and not abandon and self._store.slots.step <= self.saved_step:
            with contextlib.suppress(OSError):  # the next attempt deletes them
                self._store.slots.clear()

    def _take(
        self, step: int, loop: LoopRecord, reason: str, metrics: Mapping[str, Any]
    ) -> tuple[Snapshot, Sequence[Copy]]:
        """Take the state as it is now, and note what of it may be copied while training continues."""
        arrays, nodes, generators = self._parts.pack_own(step)
        record = StateRecord(step, loop, self._journal.mark(), nodes, generators, replicas.shards(arrays))
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        files, copies = self._stage(arrays)
        return Snapshot(step, reason, files, record.as_json(), numbers, self._software), copies

    def _stage(self, arrays: Mapping[str, Mapping[str, Array]]) -> tuple[Sequence[File], Sequence[Copy]]:
        """The files of these arrays: in the buffer, or where they are when training waits for the save."""
        if not self._background:
            return files_of(arrays), ()
        nbytes = sum(array.nbytes for part in arrays.values() for array in part.values())
        if self._has_room(nbytes):
            with contextlib.suppress(OSError, MemoryError):  # the system refuses the memory after all
                return self._staging.stage(arrays, self._parts.guarded())
        self._tell(
            "warning",
            f"The state takes {format_bytes(nbytes)} and memory has no room for a copy of it, so training waits while "
            "it is saved.",
        )
        self._background = False
        self._staging.close()
        return files_of(arrays), ()

    def _has_room(self, nbytes: int) -> bool:
        if self._staging.nbytes >= nbytes or (free := available()) is None:
            return True
        if "ram" in (limits := self._session.environment.limits).places:  # a file bounds what this process may use
            free = min(free, limits.ram - resident())
        return nbytes < 0.9 * (free / self._neighbours + self._staging.nbytes)

    def _end_if_cut_off(self) -> None:
        if self._store.cut_off:
            raise RankFailed(
                f"Another rank has ended, so nothing more can be saved; step {max(self.saved_step, 0)} is saved. "
                "Start all ranks again."
            )

    def _hold(self, _optimizer: Any = None) -> None:
        """Before anything changes: wait until it is copied."""
        flight = self._flight
        if flight and not flight.copied:
            begun = time.perf_counter()
            flight.hold()
            waited = time.perf_counter() - begun
            flight.held += waited
            self._watch.holds += waited

    def _settle(self, *, must: bool = False, waits: bool = False) -> None:
        """Wait for the save in progress and take its outcome in; raises its failure only if it must succeed.

        Args:
            must: whether it must succeed.
            waits: whether training has waited for it from its beginning.
        """
        flight, self._flight = self._flight, None
        if flight is None:
            return
        begun = time.perf_counter()
        try:
            checkpoint = flight.future.result()
        except SaveFailed as error:
            if must:
                raise
            self._failed(error, kept=flight.kept)
            return
        if checkpoint is None:
            return
        waited = time.perf_counter() - begun
        self.saved_step = flight.snapshot.step
        self._session.observe_state(flight.snapshot.nbytes, self._store.nbytes, flight.seconds)
        cores = self._session.environment.limits.cores
        # What it cost training: the seconds that it was held, and the part of a core that the writer took.
        self._schedule.observe(flight.held + (waited if waits else flight.seconds / cores))
        facts = SaveFacts(
            step=self.saved_step,
            reason=flight.snapshot.reason,
            seconds=flight.seconds,
            size=checkpoint.nbytes,
            held=flight.held + waited,
            staged=flight.snapshot.nbytes if self._background else 0,
        )
        self._shown.send("saved", facts)
        if self._store.dropped:
            steps = ", ".join(str(step) for step in sorted(self._store.dropped))
            self._store.dropped.clear()
            self._tell(
                "warning",
                f"This platform keeps {format_bytes(self._store.allowance or 0)} in all, so the checkpoint at step "
                f"{steps} was deleted although "
                "last= and best= of keep (--keep-last, --keep-best) would have kept it. Keep fewer, or a smaller "
                "state.",
            )

    def _failed(self, error: SaveFailed, *, kept: bool) -> None:
        if isinstance(error, TornCopy):
            self._tell("warning", str(error))
            self._staging.lazy = False
            self._schedule.asked = self._schedule.asked or kept
            return
        if isinstance(error, SaveAbandoned):
            if kept:
                self._tell("info", str(error))
            return
        if not kept:
            self._give_up_each_step(str(error))
            return
        self._tell("warning", f"{error}" if self._store.cut_off else f"{error} Training goes on and tries again.")
        self._schedule.retry()

    def _flush_journal(self) -> None:
        try:
            self._journal.flush()
        except OSError as error:
            raise SaveFailed(
                f"The journal could not be written before a checkpoint: {error.strerror} ({self._journal.path}). "
                "Earlier checkpoints are intact. Free disk space or check the folder's permissions."
            ) from error

    def _lay_journal_down(self) -> None:
        self._journal.flush(durably=False)

    def _flush_quietly(self) -> None:
        with contextlib.suppress(OSError):  # its lines stay; the next save tries again and says why it failed
            self._journal.flush()
