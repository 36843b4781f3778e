"""One attempt at the run of a wrapped command: `outlast run`.

The order: lock and newest checkpoint -> kept files restored -> command -> request to stop, end -> kept files collected
as a checkpoint -> end record. The step of such a run counts its checkpoints.

A folder whose attempt was killed may be newer than the newest checkpoint. Therefore a file that differs from the
checkpoint stays if the attempt before was made in this very folder, continued this checkpoint, and could not collect.
In all other cases the checkpoint wins, and the file is moved to set-aside/.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from outlast import terminal
from outlast.checkpoint.store import CheckpointStore
from outlast.distributed.ranks import Ranks
from outlast.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_RUN_AGAIN, OutlastError, SaveFailed, SessionEnded
from outlast.folder import durable, hashing, lock
from outlast.folder.layout import RunFolder
from outlast.integrations import before, child
from outlast.integrations.child import Command
from outlast.integrations.keeper import Keeper
from outlast.integrations.log import OutputLog
from outlast.integrations.patterns import Patterns
from outlast.run.attempt import Attempt
from outlast.run.session import Session, now
from outlast.tracking import Fanout
from outlast.tracking.progress import PlainLines

if TYPE_CHECKING:
    from outlast.checkpoint import OpenedCheckpoint
    from outlast.remote.follow import Destination

GRADE = "undeclared"
"""Grade of the resume of a wrapped command: outlast does not see what it does."""

_TORCHRUN = ("torchrun", "torch.distributed.run", "torch.distributed.launch")

_LOOK = 0.2  # seconds between two looks at whether the command must stop


class Wrapped(NamedTuple):
    """A command, and how it is run.

    Attributes:
        argv: the command.
        folder: where it runs, and what the patterns are relative to.
        run: the run folder.
        patterns: its outputs.
        ranks: number of processes.
        signal: what asks it to stop, of child.SIGNALS.
        grace: seconds that it may take to stop.
        every: seconds between two checkpoints while it runs; None: only at its end.
        follow: a remote that follows the run, or None.
    """

    argv: tuple[str, ...]
    folder: Path
    run: RunFolder
    patterns: Patterns
    ranks: int = 1
    signal: str = "TERM"
    grace: float = 20.0
    every: float | None = None
    follow: Destination | None = None

    @property
    def digest(self) -> str:
        """What tells two commands apart. The words are not recorded, because they may hold a key."""
        return digest_of(self.argv, self.ranks)


def digest_of(argv: Sequence[str], ranks: int) -> str:
    """What tells two commands apart."""
    return hashing.digest("\0".join([str(ranks), *argv]).encode(errors="surrogateescape"))


class Outcome(NamedTuple):
    """How an attempt ended.

    Attributes:
        code: the exit code of `outlast run`.
        reason: the attempt's end reason.
        changed: whether the command changed what is kept.
        seconds: how long it ran.
    """

    code: int
    reason: str
    changed: bool
    seconds: float


class WrappedAttempt:
    """One attempt.

    Args:
        wrapped: the command.
        session: the lease of the machine; it may have several attempts.
    """

    def __init__(self, wrapped: Wrapped, session: Session) -> None:
        self._wrapped, self._session, self._folder = wrapped, session, wrapped.run
        before.check_no_orphan(wrapped.run)
        self.shown = Fanout([PlainLines(sys.stderr)])
        self._store = CheckpointStore(wrapped.run, None, session.environment.limits.disk)
        self._attempt = Attempt(
            wrapped.run,
            session,
            self.shown,
            store=self._store,
            ranks=Ranks(),
            about={"recipe": None, "grade": GRADE, "deterministic": False, "renamed": {}},
            follow=wrapped.follow,
        )
        self._begun = now()
        self._causes: list[int] = []  # 75 of the rank that the others did not follow in time
        self._left: float | None = None  # when the first rank was seen to have ended with 75
        self._command: dict[str, Any] = {}  # the record's facts of the command
        self._asked: float | None = None
        self._keeper = Keeper(wrapped.folder, wrapped.patterns, wrapped.every, self._attempt, self._store, session)

    def run(self) -> Outcome:
        """Make the attempt.

        Raises:
            OutlastError: nothing was started; or what the command wrote could not be saved.
            KeyboardInterrupt: interrupted twice. The command was killed and nothing was saved.
        """
        opened = self._attempt.open(None, [], None)
        code, reason, words = EXIT_FAILED, "failed", None
        try:
            self._prepare(opened)
            del opened
            if self._is_finished():
                code, reason = EXIT_FINISHED, "finished"
                self._attempt.tell(
                    "info",
                    "The run is finished: this command has ended with exit code 0, so it is not started. To run it "
                    "again, give --name another name.",
                )
            else:
                code, reason, words = self._run_command()
                self._keeper.collect(reason)
            self._command["collected"] = True  # is written with the end, which comes at once
        except KeyboardInterrupt:
            reason = "cancelled"
            raise
        except BaseException as error:
            reason, words = "failed", terminal.words_of(error)
            raise
        finally:
            self._end(reason, words)
        return Outcome(code, reason, self._keeper.changed, now() - self._begun)

    # before the command ----------------------------------------------------------------------------------------------

    def _prepare(self, opened: OpenedCheckpoint | None) -> None:
        """Restore the kept files, and write down what begins."""
        attempt, wrapped, step = self._attempt, self._wrapped, opened.checkpoint.step if opened else 0
        self._keeper.begin(opened)
        attempt.journal.rewind(opened.state.journal if opened else None, step)
        self._command = {
            "digest": wrapped.digest,
            "folder": str(wrapped.folder),
            "collected": False,
            "continued": opened.checkpoint.digest if opened else None,
        }
        attempt.note(trained=True, total_steps=None, command=self._command)
        if opened:
            attempt.note(resume={"step": step, "grade": GRADE, "differences": []})
            attempt.write()  # else it is soon enough with the command's processes
        for sentence in self._session.listen():
            attempt.tell("warning", sentence)
        attempt.begin_events(step, None, step if opened else None)

    def _is_finished(self) -> bool:
        """Whether an earlier attempt of this very command has finished the run."""
        record = before.last_start(self._attempt.earlier)
        finished = record.get("end", {}).get("reason") == "finished"
        return bool(finished and record.get("command", {}).get("digest") == self._wrapped.digest)

    # the command -----------------------------------------------------------------------------------------------------

    def _run_command(self) -> tuple[int, str, str | None]:
        """Run the command to its end. Returns exit code, end reason, and a sentence about a failure."""
        wrapped, attempt = self._wrapped, self._attempt
        durable.remove_any(self._folder.stop)
        log = OutputLog(self._folder, attempt.number)
        command = None
        try:
            variables = child.variables_of(os.environ, self._folder.stop.resolve())
            command = Command(wrapped.argv, wrapped.folder, variables, wrapped.ranks, log)
            self._begun = now()
            self._note(processes=[[pid, lock.start_of(pid)] for pid in command.processes])
            if wrapped.patterns and not command.wait(0):
                self._keeper.prepare()
            while not command.wait(_LOOK):
                self._attend(command)
            if self._asked is not None:
                command.kill()  # what it has left running
            command.finish_output()
        except BaseException:
            if command:
                command.kill()
            raise
        finally:
            log.close()
            durable.remove_any(self._folder.stop)
        if log.error:
            attempt.tell(
                "warning", f"{log.path} could not be written: {log.error.strerror}. The command was not stopped."
            )
        return self._judge(self._causes or _codes_that_count(command))

    def _attend(self, command: Command) -> None:
        """What is due while the command runs."""
        self._attempt.following.heed()
        self._attempt.check_ours(at_once=False)
        if self._asked is None:
            why = "" if self._session.should_stop() else self._missing(command)
            if self._session.reason or why:
                self._ask_to_stop(command, self._session.explanation or why)
            else:
                self._keeper.save_if_due()
        elif now() - self._asked > self._wrapped.grace:
            self._attempt.tell(
                "warning",
                f"The command did not stop within {self._wrapped.grace:g} s (--grace), so it was killed. "
                "What it had written is kept.",
            )
            command.kill()

    def _missing(self, command: Command) -> str:
        """Why the other ranks must stop because one has ended; empty if they need not.

        A rank that ends with 75 has saved, and the others may still be at it: they get the grace first.
        """
        for rank, code in command.ended:
            words = f"rank {rank} has ended ({child.words_of(code)})"
            if not child.is_clean(code):
                return words
            if code == EXIT_RUN_AGAIN:
                self._left = now() if self._left is None else self._left
                if now() - self._left > self._wrapped.grace:
                    self._causes = [code]
                    return f"{words}, and others did not within {self._wrapped.grace:g} s (--grace)"
        return ""

    def _ask_to_stop(self, command: Command, why: str) -> None:
        self._asked = now()
        self._attempt.tell("info", f"{why}: the command is asked to stop")
        try:
            durable.write_scratch(self._folder.stop, b"")
        except OSError as error:
            self._attempt.tell(
                "warning",
                f"{self._folder.stop} could not be made ({error.strerror}); the command gets the signal only.",
            )
        command.ask_to_stop(self._wrapped.signal)

    def _judge(self, codes: Sequence[int]) -> tuple[int, str, str | None]:
        """The meaning of the exit codes of all processes."""
        session, attempt = self._session, self._attempt
        if session.reason is not None and self._asked is not None:
            # Exit code 0 as well: a command that stops when it is told to does not say that it has finished.
            return int(SessionEnded(session.reason).code or 0), session.reason, None
        if not any(codes):
            return EXIT_FINISHED, "finished", None
        bad = [code for code in codes if not child.is_clean(code)]
        words = ", ".join(dict.fromkeys(map(child.words_of, bad)))
        if not bad:
            return int(SessionEnded("preempted").code or 0), "preempted", None
        if all(child.killed_by(code) in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT") for code in bad):
            attempt.tell("warning", f"The command was ended by the system or someone else ({words}).")
            return int(SessionEnded("preempted").code or 0), "preempted", None
        if bad == [EXIT_FAILED] and any(Path(word).name in _TORCHRUN for word in self._wrapped.argv):
            attempt.tell(
                "warning",
                "torchrun returns 1 whatever its ranks return, also when they have stopped cleanly (75). `outlast run "
                "--nproc N -- python train.py` starts ranks itself and returns what they return.",
            )
        return EXIT_FAILED, "failed", f"the command failed: {words}"

    def _note(self, **facts: Any) -> None:
        """Add to what the record says of the command."""
        self._command |= facts
        with contextlib.suppress(OSError):  # the end is written soon, and says why it cannot be
            self._attempt.write()

    # the end ---------------------------------------------------------------------------------------------------------

    def _end(self, reason: str, words: str | None) -> None:
        attempt, lost = self._attempt, self._attempt.lost
        failed: list[OSError | OutlastError] = []
        write: Sequence[Callable[[], object]] = [
            lambda: attempt.following.finish(reason),
            lambda: attempt.write_end(reason, self._keeper.step, None, words),
        ]
        self._session.patient = True  # the next few file operations are not interrupted
        for do in (
            *(() if lost else write),
            lambda: attempt.following.close(None if lost else reason),
            lambda: self.shown.send("ended", reason, self._keeper.step, None),
            self.shown.close,
            *(() if lost else (attempt.write_what_was_told,)),
            attempt.release,
        ):
            try:
                do()
            except (OSError, OutlastError) as error:
                failed.append(error)
        self._session.patient = False
        if failed:
            if not self._folder.path.is_dir():
                raise SaveFailed(
                    f"{self._folder.path} is gone, with the checkpoints in it: the command has deleted it, or somebody "
                    f"else. How this attempt ended ({reason}) is recorded nowhere. Start again: the run begins anew."
                ) from failed[0]
            raise SaveFailed(
                f"How this attempt ended ({reason}) could not be recorded: {terminal.words_of(failed[0])}. Free disk "
                f"space below {self._folder.path} and start again."
            ) from failed[0]


def _codes_that_count(command: Command) -> list[int]:
    """The exit codes of all ranks; of ranks that failed, the first: the others failed because of it."""
    codes = [code for _, code in command.ended]
    return next(([code] for code in codes if not child.is_clean(code)), codes)
