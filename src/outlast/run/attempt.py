"""One attempt at a run: the owner of the run folder, with its record, journal and sinks.

Opening goes in this order, because a later step needs the earlier ones: lock -> what other places hold -> records ->
newest checkpoint that verifies.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import outlast
from outlast import terminal
from outlast.checkpoint.history import History
from outlast.distributed.ranks import Ranks
from outlast.errors import OutlastError, RunBusy, UsageError
from outlast.folder import durable, lock
from outlast.folder.attempt import AttemptRecord
from outlast.folder.layout import RunFolder
from outlast.folder.lock import Lock
from outlast.folder.presence import Presence
from outlast.remote.identity import know, stages_of
from outlast.run.following import FollowingRemote
from outlast.run.session import Session, now
from outlast.tracking import EventLog, Fanout, Journal, NullJournal, RunFacts, Stopwatch, without_secrets
from outlast.tracking.sinks import in_sink_thread

if TYPE_CHECKING:
    from outlast.checkpoint import CheckpointStore, OpenedCheckpoint
    from outlast.config import ResolvedConfig
    from outlast.remote.follow import Destination

LOOK_SECONDS = 20.0  # between two looks at the lock; less than what makes another machine take it
ORPHAN_SECONDS = 40.0  # that ranks whose rank 0 is gone may take to end; torchrun kills them after 30


class Attempt:
    """This process's work on a run, from the lock on the folder to the end in its record.

    Args:
        folder: the run folder.
        session: the lease of the machine.
        shown: receives all events.
        store: the run's checkpoints.
        ranks: who trains together; the training thread speaks to them.
        about: recipe, grade and deterministic, as they were given to `open_run`.
        config: resolved values, or None.
        results: folder for artifacts instead of the run folder's own, or None.
        follow: a remote that follows the run, or None.

    Attributes:
        id: the run's name.
        artifacts: the folder for artifacts.
        journal: the run's journal.
        watch: adds up where the time goes.
        following: the run's copy in a remote.
    """

    def __init__(
        self,
        folder: RunFolder,
        session: Session,
        shown: Fanout,
        *,
        store: CheckpointStore,
        ranks: Ranks,
        about: Mapping[str, Any],
        config: ResolvedConfig[Any] | None = None,
        results: Path | None = None,
        follow: Destination | None = None,
    ) -> None:
        self.id = folder.path.name
        self.folder, self.session, self.shown, self.store, self.ranks = folder, session, shown, store, ranks
        self.about, self.config = about, config
        self.artifacts = results / self.id if results else folder.artifacts
        self.journal = (Journal if ranks.is_main else NullJournal)(folder.journal)
        self.watch = Stopwatch()
        self._events: EventLog | None = None
        shown.tell = self.tell
        self.following = FollowingRemote(follow if ranks.is_main else None, folder, session, self.tell)
        self._record = AttemptRecord(folder, 0, {"told": []}, kept=False)
        self._process = os.getpid()
        self._lock, self._presence = Lock(folder.lock), Presence(folder.ranks)
        self._looked = now()

    # opening -------------------------------------------------------------------------------------------------------

    def open(
        self, begin_from: Path | None, notices: Sequence[tuple[str, str]], note: str | None
    ) -> OpenedCheckpoint | None:
        """Make the folder this attempt's own, and open the newest checkpoint that verifies.

        Args:
            begin_from: a run folder or a checkpoint folder, for a run that has nothing yet.
            notices: level and sentence about arguments and variables.
            note: a sentence that the user reads first.

        Raises:
            RunBusy: another live attempt holds the folder.
            NoGoodCheckpoint: the run has checkpoints and none verifies.
        """
        try:
            open_folder = functools.partial(self._open_folder, begin_from, notices)
            told = self.ranks.together("opening the run", open_folder)
            if self.ranks.several:
                self._presence.show()
            return self._open_newest([*([("info", note)] if note else []), *told])
        except BaseException:
            self._presence.hide()
            self._lock.release()
            raise

    def _open_folder(self, begin_from: Path | None, notices: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Take the folder; returns messages for the user."""
        folder = self.folder
        if not self.ranks.is_main:
            return []
        try:
            durable.make_folder(folder.path)
        except OSError as error:
            raise UsageError(
                f"The run folder {folder.path} cannot be made: {error.strerror}. Give open_run another root, or "
                "OUTLAST_ROOT."
            ) from error
        taken = self._take_lock()
        self._presence.wait_for_others(ORPHAN_SECONDS)
        strange = folder.check()
        for place in (folder.path, folder.artifacts):
            durable.sweep_temporaries(place)
        told, rejected = self._bring_home(begin_from)
        lost: list[str] = []
        identity = know(folder, {key: self.about[key] for key in ("recipe", "grade")}, lost)
        self.store.identity = self.following.join(identity, told)
        self._record = AttemptRecord.begin(
            folder, outlast.__version__, self.session.environment.record(), self.session.record()
        )
        self.store.sweep()
        told += [sentence] if (sentence := self.store.adopt_slot()) else []
        apart = self.following.judge(rejected, self.store.identity)
        warnings = [*([taken] if taken else []), *strange, *lost, *apart]
        return [*notices, *(("warning", words) for words in warnings), *(("info", words) for words in told)]

    def _bring_home(self, begin_from: Path | None) -> tuple[list[str], list[str]]:
        """Copy what other places hold into the folder.

        Returns sentences about it, and the addresses of copies that were not taken.
        """
        inputs, remotes = [*self.session.environment.inputs], self.following.find()
        begun, told, rejected = None, list[str](), list[str]()
        if begin_from is not None or inputs or remotes:  # else this need not be imported
            from outlast.remote.gather import bring_home
            from outlast.run import source

            brought = bring_home(self.folder, [*inputs, *source.copies(begin_from, self.folder)], remotes)
            told, rejected = brought.told, brought.rejected
            begun = source.begin(begin_from, self.folder)
        return [*told, *([begun] if begun else [])], rejected

    def _take_lock(self) -> str | None:
        try:
            return self._lock.take(f"an attempt begun {time.strftime('%H:%M:%S')}")
        except RunBusy as error:
            if (lock.holder(self.folder.lock) or {}).get("pid") != os.getppid():
                raise
            raise RunBusy(
                f"{self.folder.path} is held by the process that started this one ({os.getppid()}), so this process "
                "is a helper, such as a data loader's worker, which runs the script again: put the script's own lines "
                "under `if __name__ == '__main__':`."
            ) from error

    def _open_newest(self, told: Sequence[tuple[str, str]]) -> OpenedCheckpoint | None:
        try:
            opened, damaged = self.store.open_newest()
        except OutlastError as error:
            self._record.end("failed", 0, None, f"{type(error).__name__}: {error}")
            raise
        if self.store.identity is not None:  # on rank 0, which writes the manifests
            continued = opened.checkpoint.manifest if opened else None
            self.store.history = History.following(self.store.identity.uid, self._record.record["id"], continued)
        for level, sentence in told:
            self.tell(level, sentence)
        step = opened.checkpoint.step if opened else 0
        for damage in damaged if self.ranks.is_main else ():
            self.tell(
                "warning", f"{damage} It is set aside in {self.folder.set_aside}, and step {step} is used instead."
            )
        return opened

    # the record ----------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Counts a run's attempts from 1."""
        return self._record.number

    @property
    def reason_before(self) -> str | None:
        """The end reason of the previous attempt; None for the first."""
        return self._record.reason_before

    @property
    def earlier(self) -> Sequence[Mapping[str, Any]]:
        """The records of the attempts before this one, oldest first."""
        return self._record.earlier

    def ended_early(self, step: int, total: int | None) -> bool:
        """Whether the script called the run finished at this step, before this very total."""
        return self._record.ended_early(step, total)

    def went_further(self, step: int) -> bool:
        """Whether the attempt before may have logged more than this step."""
        return self._record.went_further(step)

    def begin_events(self, step: int, total_steps: int | None, resumed_from: int | None) -> None:
        """The loop begins: from now on, events are written, and sinks receive the facts of the run.

        Args:
            step: steps done.
            total_steps: total number of steps, None when unknown.
            resumed_from: step of the checkpoint that the attempt continues, or None.
        """
        identity = self.store.identity
        facts = RunFacts(
            id=self.id,
            folder=self.folder.path,
            attempt=self.number,
            step=step,
            total_steps=total_steps,
            recipe=self.about["recipe"],
            grade=self.about["grade"],
            resumed_from=resumed_from,
            uid=identity.uid if identity else None,
            stages=stages_of(self.folder) if self.ranks.is_main else "",
            artifacts=self.artifacts,
        )
        if self.ranks.is_main:
            self._events = EventLog(self.folder.events(self.number), self._record.record["id"])
            self.shown.add(self._events)
            if identity:
                continued = -1 if resumed_from is None else resumed_from
                self.following.begin(identity, self._record.record["id"], self.store, continued)
        self.watch.begin()
        self.shown.send("started", facts, without_secrets(self.config.record()["values"]) if self.config else {})

    def origin(self) -> dict[str, Any]:
        """The origin of files of this attempt, for their manifests."""
        return {
            "run": self.store.identity.uid if self.store.identity else None,
            "run_id": self.id,
            "attempt": self._record.record.get("id"),
            "config": self.config.record()["fingerprint"] if self.config else None,
        }

    def note(self, **facts: Any) -> None:
        """Put facts into the record; they reach the disk with the next `write`."""
        self._record.record |= facts

    def write(self) -> None:
        """Put the record on disk as it is now."""
        self._record.write()

    def tell(self, level: str, sentence: str) -> None:
        """Show the user a sentence, and keep it in the record.

        Args:
            level: "info" or "warning".
            sentence: what to say.
        """
        sentence = terminal.clean(sentence)
        self._record.tell(sentence)
        self.shown.send("told", level, sentence)

    # holding -------------------------------------------------------------------------------------------------------

    @property
    def in_own_process(self) -> bool:
        """Whether this is the process that opened the run, and no fork of it."""
        return os.getpid() == self._process

    @property
    def lost(self) -> bool:
        """Whether another machine has taken the run over: what is in the folder is its own now."""
        if not self.ranks.is_main or self._lock.ours():
            return False
        if self._events:
            self._events.stop()
        return True

    def check_no_sink(self, call: str) -> None:
        """Refuse a call that a sink makes in its thread: each event that follows would call the sink again."""
        if in_sink_thread():
            raise UsageError(
                f"A sink called run.{call}(): a sink receives the events of a run and cannot add any. Call it where "
                "the run is trained."
            )

    def check_ours(self, *, at_once: bool = True) -> None:
        """Refuse to write as a forked child, or when another machine has taken the run over meanwhile.

        Args:
            at_once: look at the lock now; else only when the last look is long ago.
        """
        if os.getpid() != self._process:
            raise UsageError(
                f"The run {self.id} belongs to the process that opened it ({self._process}), and this process is a "
                "fork of it. Log, save and train in the process that opened the run."
            )
        if (not at_once and now() - self._looked < LOOK_SECONDS) or not self.ranks.is_main:
            return
        self._looked = now()
        if self.lost:
            raise RunBusy(
                f"Another attempt took over {self.folder.path} while this process or its machine was suspended. This "
                "attempt ends and writes nothing; the other one repeats the steps since the last checkpoint."
            )

    # ending --------------------------------------------------------------------------------------------------------

    def write_end(self, reason: str, step: int, total: int | None, error: str | None) -> None:
        """Write the end reason into the record.

        Raises:
            OSError: the record cannot be written; the attempt then counts as lost.
        """
        signal = self.session.signal if reason == self.session.reason else None
        self._record.end(reason, step, total, error, signal=signal)

    def write_what_was_told(self) -> None:
        """Write what was said since the end was recorded, such as what sinks did not get; without room, it is not."""
        if self._record.news:
            with contextlib.suppress(OSError):
                self._record.write()

    def hide(self) -> None:
        """Ranks other than the first: no longer show that this one works on the run."""
        self._presence.hide()

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()
