"""The transaction: a publication becomes visible whole, by one create-only reference, or not at all.

    P0  journal    the plan, written into the run folder
    P1  blobs      put if absent, named by their hash
    P2  prepare    the commit or the manifest, built apart from anything of the user's
    P3  gate       the store is asked again for every blob: size and digest
    P4  create     one create-only request
    P5  verdict    read back from the server; and what became visible together with the reference is looked at
    P6  journal    visible

Before P4 nothing is visible; after it everything is. There is no rollback: what a crash leaves is blobs that nothing
names. To continue, publish again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import (
    CorruptCheckpoint,
    PublishConflict,
    PublishFailed,
    RemoteError,
    RemoteRefused,
    RemoteUnavailable,
)
from outlast.folder import durable, plain, reading, records
from outlast.folder.layout import FORMAT
from outlast.publish.blobs import gate, put
from outlast.publish.plan import Plan, PlannedFile
from outlast.publish.reference import Progress, Reference
from outlast.remote.base import Remote

DEADLINE = 3600.0
"""Seconds from the first blob to the reference. After more, the blobs are put again, which makes them young: a
collection of garbage deletes only what is old."""

TRIES = 3
"""How often the blobs are put, and the reference is created, at most."""

JOURNAL = records.form(
    {
        "format": records.whole(1, 10**6),
        "publication": records.text(300),
        "state": records.one_of("planned", "visible"),
        "to": records.table(records.or_null(records.text(4096)), 100),
    },
    {
        "identity": records.or_null(records.text(64, "[0-9a-f]{40,64}", "an identity in hex")),
        "ids": records.table(records.text(200, r"[\w-]+", "an id of the store"), 100_000),
    },
)


def files_of(plan: Plan) -> dict[str, dict[str, object]]:
    """The files of a plan, as its journal has them."""
    return {file.path: {"size": file.size, "sha256": file.sha256} for file in plan.files}


@dataclass(frozen=True)
class Published:
    """A publication that is visible.

    Attributes:
        name: of the reference.
        where: the reference is.
        identity: of the commit or the manifest, as the server has it.
        before: whether it was visible already.
        sent: objects that were written; the others were in the store.
    """

    name: str
    where: str
    identity: str
    before: bool
    sent: int


class Journal:
    """What the run folder knows of a publication: `publish/NAME.json`.

    Args:
        path: of the file.
        to: where the publication goes: whatever another attempt must do in the same way.

    Attributes:
        ids: that the store has given out; see `Remote.keep_ids`.
    """

    def __init__(self, path: Path, to: Mapping[str, str | None]) -> None:
        self.path, self.to = path, dict(to)
        self._record: dict[str, Any] = {}
        self.ids: dict[str, str] = {}

    @classmethod
    def find(cls, path: Path) -> dict[str, Any] | None:
        """The record of an earlier attempt; None: there was none, or nobody can read it."""
        try:
            return reading.read_record(path, JOURNAL)
        except (FileNotFoundError, CorruptCheckpoint):
            return None

    def write(self, plan: Plan, state: str, identity: str | None) -> None:
        """Write it down, durably."""
        durable.make_folder(self.path.parent)
        if plain.kind_of(self.path) not in (None, "file"):
            durable.remove_any(self.path)
        self._record = {
            "format": FORMAT,
            "publication": plan.name,
            "state": state,
            "identity": identity,
            "to": self.to,
            "files": files_of(plan),
            **({"ids": self.ids} if self.ids else {}),
        }
        durable.write_json(self.path, self._record)

    def keep_id(self, what: str, identity: str) -> None:
        """Write down, durably, an id that the store has given out."""
        self.ids[what] = identity
        durable.write_json(self.path, self._record | {"ids": self.ids})


def publish(
    plan: Plan,
    store: Remote | None,
    reference: Reference,
    journal: Journal,
    *,
    progress: Progress = lambda _name, _size: None,
    clock: Callable[[], float] = time.monotonic,
) -> Published:
    """Make a plan visible; see this file's first lines.

    Args:
        plan: what is published.
        store: holds the blobs; None for a reference that takes all files with it.
        reference: makes them visible.
        journal: of this publication.
        progress: is told of each object.
        clock: seconds, for the deadline.

    Raises:
        PublishConflict: another publication has this name; it was not changed.
        PublishFailed: nothing is visible, or it is not known; to continue, publish again.
    """
    earlier = Journal.find(journal.path)
    if earlier is None or earlier["publication"] != plan.name:
        earlier = {}
    asked, visible, blobs = False, False, dict[str, PlannedFile]()
    try:
        identity = reference.prepare(plan)
        before = visible = _read(reference, plan, identity, earlier, asked=False) is not None
        journal.ids.update(earlier.get("ids", {}))
        journal.write(plan, "planned", identity)
        if store is not None:
            store.keep_ids(journal.ids, journal.keep_id)
        blobs = reference.blobs(plan)
        problem: RemoteError = RemoteRefused(f"Putting the files took longer than {DEADLINE:.0f} seconds each time.")
        for _ in range(TRIES):
            began = clock()
            sent = 0
            if store is not None:
                sent = put(blobs, store, progress)
                gate(blobs, store)
            if clock() - began > DEADLINE:
                continue
            if not before:
                asked = True
                together, problem = _create(reference, progress)
                sent += together
            found = _read(reference, plan, identity, earlier, asked=asked)
            if found is not None:
                visible = True
                reference.check(plan)
                journal.write(plan, "visible", found)
                return Published(plan.name, reference.where, found, before, sent)
            if isinstance(problem, RemoteRefused):
                break
        raise problem
    except RemoteError as error:
        words = _after(reference, plan, error, asked=asked, visible=visible, kept=bool(blobs))
        raise PublishFailed(f"{_sentence(error)} {words}") from error


class _VerdictUnknown(RemoteError):
    """The reference cannot be read after its creation was asked for."""


def _create(reference: Reference, progress: Progress) -> tuple[int, RemoteError]:
    """Ask for the reference; returns the number of objects written with it, and what to say if it is not there."""
    try:
        together = reference.create(progress)
    except RemoteError as error:  # it may have happened all the same
        return 0, error
    return together, RemoteUnavailable(f"{reference.where}: the server has accepted it and does not have it.")


def _after(reference: Reference, plan: Plan, error: RemoteError, *, asked: bool, visible: bool, kept: bool) -> str:
    """What is visible after a failure, and what to do."""
    if visible:
        return (
            f"{reference.where} is visible, and what it needs was not all found there. Type the same command again: it "
            "looks at every file once more. If one was deleted or changed there, publish under a name of its own: "
            f"--name {plan.name}-2"
        )
    if asked and isinstance(error, _VerdictUnknown):
        return (
            f"Whether {reference.where} is visible is not known: its creation was asked for, and the server does not "
            "answer now. If it is, it is complete. Type the same command again: it reads the verdict first."
        )
    more = ": what is in the store is not sent a second time." if kept else "."
    return (
        "Nothing is visible, and the run folder is unchanged but for the record of this attempt. To continue, type the "
        f"same command again{more}"
    )


def _read(reference: Reference, plan: Plan, identity: str, earlier: Mapping[str, Any], *, asked: bool) -> str | None:
    """What the server has, if it is ours; `earlier`: what the journal says that an attempt before was to create."""
    try:
        found = reference.read()
    except RemoteError as error:
        if asked:
            raise _VerdictUnknown(str(error), error.reason) from error
        raise
    if found in (None, identity):
        return found
    words = "is another publication already"
    if found == earlier.get("identity"):
        words = "is visible already, and complete, with what the run folder held then; that has changed since"
        if earlier.get("files") == files_of(plan):
            words = "is visible already, and complete, with these files and another store or parent"
    raise PublishConflict(
        f"{reference.where} {words}: the server has {str(found)[:12]}, and this one is {identity[:12]}. It was not "
        f"changed. Publish this one under a name of its own: --name {plan.name}-2"
    )


def _sentence(error: Exception) -> str:
    words = str(error)
    return words if words.endswith((".", ")", "?")) else f"{words}."
