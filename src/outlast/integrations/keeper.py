"""The outputs of a wrapped command: restored before it starts, saved while it runs, and collected at its end."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from outlast import terminal
from outlast.errors import SaveFailed
from outlast.integrations import before
from outlast.integrations.patterns import FileChanged, Found, KeptFile, Patterns
from outlast.run.attempt import Attempt
from outlast.run.session import Session, now
from outlast.tracking import SaveFacts

if TYPE_CHECKING:
    from outlast.checkpoint import CheckpointStore, OpenedCheckpoint
    from outlast.integrations.restore import Restored

_QUIET = 2.0  # seconds for which the files must not change before they are saved while the command runs
_TRIES = 5  # at files that something still changes after the command's end
_PAUSE = 0.2  # seconds before the second try; each later one waits longer


class Keeper:
    """Keeps the files that the patterns name, as checkpoints of the attempt's run.

    Args:
        folder: the folder in which the command runs.
        patterns: what is kept.
        every: seconds between two checkpoints while the command runs; None: only at its end.
        attempt: owns the run folder.
        store: its checkpoints.
        session: learns what a save costs.

    Attributes:
        step: the step of the newest checkpoint; 0 if there is none.
    """

    def __init__(
        self,
        folder: Path,
        patterns: Patterns,
        every: float | None,
        attempt: Attempt,
        store: CheckpointStore,
        session: Session,
    ) -> None:
        self._folder, self._patterns, self._every = folder, patterns, every
        self._attempt, self._store, self._session = attempt, store, session
        self.step = 0
        self._saved: Mapping[str, KeptFile] | None = None  # the files of the newest checkpoint, as they are here
        self._at_start: Mapping[str, KeptFile] = {}
        self._last_save = now()
        self._looked: tuple[float, Mapping[str, KeptFile]] = (now(), {})

    @property
    def changed(self) -> bool:
        """Whether the command has changed what is kept, as far as it is saved."""
        return bool(self._saved) and self._saved != self._at_start

    # before the command ----------------------------------------------------------------------------------------------

    def begin(self, opened: OpenedCheckpoint | None) -> None:
        """Restore the files of the newest checkpoint.

        Raises:
            ResumeRefused, CorruptCheckpoint, UnsafeFolder: they cannot be; see `restore`.
        """
        stored, newer = None, False
        if opened:
            from outlast.integrations.restore import restore

            self.step = opened.checkpoint.step
            newer = before.is_newer(before.last_start(self._attempt.earlier), opened, self._folder)
            aside = self._attempt.folder.set_aside / f"files-{self._attempt.number:04d}"
            stored = restore(opened, self._folder, self._patterns, aside, keep_newer=newer)
            self._tell(stored, aside)
        found = self._look()
        self._at_start = found.files
        if stored is not None:
            self._compare(stored, found, newer=newer)
        self._store.look()
        self._session.observe_state(found.nbytes, self._store.nbytes)

    def _tell(self, done: Restored, aside: Path) -> None:
        """Say what became of the files of the checkpoint."""
        tell, step = self._attempt.tell, self.step
        if count := len(done.written) + len(done.replaced):
            tell("info", f"{terminal.counted(count, 'file')} of step {step} restored")
        if done.replaced:
            tell(
                "warning",
                f"Replaced by the checkpoint at step {step}, from which they differed: {_named(done.replaced)}. Copies "
                f"of what was there are in {aside}.",
            )
        if done.newer:
            tell(
                "info",
                f"Newer than the checkpoint at step {step}, and used as they are: {_named(done.newer)}. The attempt "
                "before wrote them and ended before it could save.",
            )
        if done.unnamed:
            tell(
                "warning",
                f"In the checkpoint at step {step}, but not restored, because no --keep names them: "
                f"{_named(done.unnamed)}. The next checkpoint is without them.",
            )

    def _compare(self, stored: Restored, found: Found, *, newer: bool) -> None:
        """See whether the folder has exactly what the checkpoint has."""
        more = sorted(found.files.keys() - stored.paths)
        if more and not newer:
            self._attempt.tell(
                "warning",
                f"Named by --keep, and not in the checkpoint at step {self.step}: {_named(more)}. They are unchanged; "
                "delete what an earlier attempt left and the command must not read.",
            )
        if not (more or stored.unnamed or stored.newer):
            self._saved = found.files

    # saving ----------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Import what a save needs, while the command runs: it then need not be waited for at the command's end."""
        for name in ("checkpoint.listing", "checkpoint.newest", "checkpoint.prune", "integrations.collect"):
            importlib.import_module(f"outlast.{name}")

    def save_if_due(self) -> None:
        """Save while the command runs, if that is due and the files are at rest."""
        clock = now()
        if self._every is None or clock - self._last_save < self._every or clock - self._looked[0] < _QUIET:
            return
        (_, earlier), found = self._looked, self._look()
        self._looked = (clock, found.files)
        if found.files != earlier or found.files == self._saved or not found.files:
            return
        try:
            self._commit("time", found)
        except FileChanged:
            return
        except SaveFailed as error:
            self._attempt.tell("warning", f"{error} The command continues, and the save is tried again.")
        self._last_save = now()

    def collect(self, reason: str) -> None:
        """Save what the command has left, if it differs from the newest checkpoint.

        The first checkpoint may be empty: a remote then knows the run, and the next machine continues it.

        Raises:
            SaveFailed: it could not be saved.
        """
        if self._patterns and not self._look().files:
            self._attempt.tell("warning", f"No file in {self._folder} matches --keep, so nothing is kept.")
        for number in range(1, _TRIES + 1):
            found = self._look()
            if found.files == self._saved or not self._patterns:
                return
            try:
                self._commit("final" if reason == "finished" else reason, found)
            except FileChanged as error:
                if number == _TRIES:
                    raise SaveFailed(
                        f"{error} Something still writes it after the command's end, such as a process that the "
                        "command has left running: end that, and start again."
                    ) from error
                time.sleep(_PAUSE * number)
            else:
                return

    def _look(self) -> Found:
        found = self._patterns.find(self._folder)
        for sentence in found.strange:
            self._attempt.tell("warning", sentence)
        return found

    def _commit(self, reason: str, found: Found) -> None:
        from outlast.integrations import collect

        attempt, begun, step = self._attempt, now(), self.step + 1
        attempt.check_ours()
        shot = collect.snapshot(step, reason, self._folder, found.files, attempt.journal.mark())
        checkpoint = self._store.commit(shot)
        self.step, self._saved = step, found.files
        attempt.following.hear()
        seconds = now() - begun
        self._session.observe_state(found.nbytes, self._store.nbytes, seconds)
        attempt.shown.send("saved", SaveFacts(step, reason, seconds, checkpoint.nbytes, seconds))


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(terminal.shortened(path) for path in paths[:3]) + more
