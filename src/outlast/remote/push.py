"""Pushing a run folder to a remote: the blobs of a checkpoint and of the records, then a revision that lists them.

After that, blobs that no revision needs are deleted. `follow` does this during training, `carry` by hand.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from outlast.checkpoint import CheckpointFacts, Identity, newest, read_manifest
from outlast.checkpoint.listing import steps_in
from outlast.errors import CheckpointError, ObjectMissing, RunBusy
from outlast.folder import layout
from outlast.folder.layout import RunFolder
from outlast.remote.base import Entry
from outlast.remote.outgoing import CheckpointFiles, PushAbandoned, RecordFiles
from outlast.remote.revision import Files, PushedCheckpoint, PushedRun, Revision
from outlast.remote.sending import Sender, Sleep


class Pusher:
    """Pushes one run folder to one remote, for one thread.

    Args:
        folder: the run folder; an attempt may write it at the same time.
        pushed: the run in the remote; the next revision follows its newest one.
        identity: the identity of the run.
        attempt: id of the attempt that pushes.
        removable: the retention policy: returns the steps that may be deleted, of all checkpoints.
        continued: step of the checkpoint that the attempt continues. Later ones in the remote are not its history.
        rate: average rate limit in bytes per second; None: no limit.
        sleep: waits.

    Attributes:
        open: the checkpoint that is being pushed, or None.
        complaints: sentences for the user.
        sleep: as above; may be replaced.
    """

    def __init__(
        self,
        folder: RunFolder,
        pushed: PushedRun,
        *,
        identity: Identity,
        attempt: str,
        removable: Callable[[Sequence[CheckpointFacts]], list[int]],
        continued: int,
        rate: float | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.open: CheckpointFiles | None = None
        self.complaints: list[str] = []
        self._folder, self._pushed, self._remote = folder, pushed, pushed.remote
        self._identity, self._attempt, self._removable = identity, attempt, removable
        self.sleep = sleep
        base = pushed.revision or Revision(0, identity.uid, attempt)
        there = {step: each for step, each in base.checkpoints.items() if step <= continued}
        self._revision, self._before = replace(base, number=pushed.last, checkpoints=there), base
        self._records = RecordFiles(folder, base.records)
        self._compared = not base.files
        self._known: dict[int, tuple[str, CheckpointFacts]] = {}  # digests of the checkpoints here
        self._superseded = set(base.blobs)  # hashes of blobs that some revision needed
        self._swept = False
        self._passed: set[int] = set()  # checkpoints that cannot be read
        self._unwanted: frozenset[int] = frozenset()  # checkpoints that retention does not keep
        scratch = folder.path / f"{layout.TEMPORARY}push-{attempt[:12]}"
        self._sender = Sender(pushed, scratch, rate=rate, sleep=self._rest)

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints in the remote, ascending."""
        return sorted(self._revision.checkpoints)

    def missing(self) -> list[int]:
        """Steps of the local checkpoints that the remote lacks, and should have, ascending. For any thread."""
        there, unwanted = self._revision.checkpoints, self._unwanted
        missing = sorted(
            step for step in steps_in(self._folder.checkpoints) if step not in there and step not in unwanted
        )
        return [step for step in missing if newest.exists(self._folder, step)]

    def wanted(self) -> list[int]:
        """Steps of the checkpoints to push, the newest first."""
        self._look()
        self._compare()
        there = self._revision.checkpoints
        kept = {step: each.kept for step, each in there.items()} | {
            step: kept for step, (_, kept) in self._known.items()
        }
        removable = set(self._removable(list(kept.values())))
        self._unwanted = frozenset(removable)
        return sorted(
            (
                step
                for step, (digest, _) in self._known.items()
                if not (step in there and there[step].digest == digest) and step not in removable | self._passed
            ),
            reverse=True,
        )

    @property
    def newest(self) -> int | None:
        """Step of the newest local checkpoint, as of the last `wanted`."""
        return max(self._known, default=None)

    def push(self, step: int | None = None) -> None:
        """Push a checkpoint and the present records, or only the records.

        Raises:
            PushAbandoned: raised by `sleep`; or the checkpoint was deleted or is damaged. No revision was written.
            RunBusy: another attempt pushes this run.
            RemoteError: the remote does not answer, or refuses. No revision was written, unless its answer was lost.
        """
        self._compare()
        self._sender.begin()
        sent = {} if step is None else {step: self._send_checkpoint(step)}
        self._sender.send(self._records.pieces())
        while not self._show(sent):
            pass
        self._records.keep()

    def tidy(self) -> None:
        """Delete all revisions but the newest two, then the blobs that these two do not need.

        Only objects older than the newest revision are deleted, by the remote's clock: another attempt that overtakes
        this one puts the blobs that it uses again, and these are younger.

        Raises:
            PushAbandoned: raised by `sleep`.
            RunBusy: another attempt pushes this run.
            RemoteError: the remote does not answer, or refuses.
        """
        needed = self._revision.blobs | self._before.blobs
        garbage = self._superseded - needed
        if not self._remote.capabilities.conditional_delete:
            if garbage:
                self._complain(
                    f"{self._remote.address()} has no deletion that is safe beside other writers, so old records and "
                    "deleted checkpoints stay there."
                )
            return
        revisions, kept = self._revisions(), (self._revision.number, self._before.number)
        if self._revision.number not in revisions:
            return
        modified = revisions[self._revision.number].modified
        for number in sorted(revisions.keys() - set(kept)):
            self._sender.delete(revisions[number], before=modified)
        left: set[str] = set()
        of = self._pushed.blob_name
        listed = map(self._remote.list, map(of, sorted(garbage))) if self._swept else [self._remote.list(of())]
        for entry in itertools.chain.from_iterable(listed):
            found = entry.name.removeprefix(of())
            if found in needed:
                continue
            if not self._remote.capabilities.freshens:
                self._revisions()  # blobs do not get young there, so check again that no other attempt pushes
            if self._sender.delete(entry, before=modified):
                self._sender.put.discard(found)
            else:
                left.add(found)  # too young by the store's clock, which may count whole seconds
        self._swept, self._superseded = True, needed | left

    def close(self) -> None:
        """Close the open files and delete the temporary ones."""
        if self.open:
            self.open.close()
        self._sender.close()

    def _compare(self) -> None:
        """Once, forget what the revision names and the remote does not have: somebody has deleted or cut it there."""
        if self._compared:
            return
        above = self._pushed.blob_name()
        sizes = {entry.name.removeprefix(above): entry.size for entry in self._remote.list(above)}

        def size(name: str) -> int | None:
            if name not in sizes:  # some services list a new object late
                with contextlib.suppress(ObjectMissing):
                    sizes[name] = self._remote.stat(self._pushed.blob_name(name)).size
            return sizes.get(name)

        def whole(files: Files) -> bool:
            return all(size(blob.hash) == blob.size for blobs in files.values() for blob in blobs)

        checkpoints = {step: each for step, each in self._revision.checkpoints.items() if whole(each.files)}
        records = {name: blobs for name, blobs in self._revision.records.items() if whole({name: blobs})}
        lost = sorted(self._revision.checkpoints.keys() - checkpoints.keys())
        if lost:
            self._complain(
                f"{self._pushed.address()} lacks files of {'steps' if len(lost) > 1 else 'step'} "
                f"{', '.join(map(str, lost[:20]))}: they were deleted or changed there. What is here is pushed again."
            )
        self._revision = replace(self._revision, checkpoints=checkpoints)
        self._records = RecordFiles(self._folder, records)
        self._compared = True

    def _look(self) -> None:
        """Update the list of local checkpoints; each manifest is read once."""
        here = set(steps_in(self._folder.checkpoints))
        for step in self._known.keys() - here:
            del self._known[step]
        for step in here - self._known.keys():
            with contextlib.suppress(CheckpointError):  # it is being written, or deleted, or is damaged
                found = read_manifest(self._folder.checkpoint(step))
                if self._identity.owns(found.manifest):
                    self._known[step] = found.digest, found.kept

    def _send_checkpoint(self, step: int) -> PushedCheckpoint:
        try:
            self.open = CheckpointFiles(self._folder, step)
        except CheckpointError as error:
            if newest.exists(self._folder, step):  # otherwise retention has deleted it just now
                self._passed.add(step)
                self._complain(f"{error} It is not pushed.")
            raise PushAbandoned(str(error)) from error
        try:
            self._sender.send(self.open.pieces())
            return self.open.pushed
        finally:
            self.open.close()
            self.open = None

    def _rest(self, seconds: float) -> None:
        self.sleep(seconds)  # it may have been replaced since

    def _complain(self, sentence: str) -> None:
        if sentence not in self.complaints:
            self.complaints.append(sentence)

    def _show(self, sent: Mapping[int, PushedCheckpoint]) -> bool:
        """Write the next revision.

        Returns:
            Whether it was written. False: an earlier one was written although its answer was lost; try again.

        Raises:
            RunBusy: another attempt has written this number or a higher one.
        """
        self.sleep(0)
        number = self._revision.number + 1
        checkpoints = {**self._revision.checkpoints, **sent}
        for step in self._removable([found.kept for found in checkpoints.values()]):
            if step not in sent:
                del checkpoints[step]
        revision = Revision(number, self._identity.uid, self._attempt, checkpoints, dict(self._records.files))
        shown = self._sender.show(self._pushed.revision_name(number), revision.as_bytes())
        if not shown:
            revision = self._already(number)
        self._revision, self._before = revision, self._revision
        self._superseded |= revision.blobs
        self._revisions()  # another attempt may have written and deleted this number, and written higher ones
        return shown

    def _already(self, number: int) -> Revision:
        """The existing revision of this number, if this attempt has written it."""
        found = self._pushed.read(number)
        if found.attempt == self._attempt:
            return found
        raise self._overtaken(found)

    def _revisions(self) -> dict[int, Entry]:
        """All revisions in the remote, by number.

        Raises:
            RunBusy: one of them has a higher number than this attempt's newest.
        """
        found = self._pushed.revisions()
        if (highest := max(found, default=0)) > self._revision.number:
            raise self._overtaken(self._pushed.read(highest))
        return found

    def _overtaken(self, by: Revision) -> RunBusy:
        return RunBusy(
            f"Another attempt ({by.attempt[:12]}) pushes {self._pushed.name} to {self._remote.address()}, so this one "
            f"({self._attempt[:12]}) has stopped pushing. Its checkpoints stay in {self._folder.path}. A run has one "
            "writer: stop one of the two attempts."
        )
