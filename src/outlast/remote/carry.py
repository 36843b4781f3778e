"""Push and pull of a run by hand, while no attempt on this machine trains it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from outlast.checkpoint import Checkpoint, CheckpointStore
from outlast.errors import CorruptCheckpoint, ObjectMissing, UnknownName, UsageError
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.folder.lock import Lock
from outlast.folder.schemas import RUN
from outlast.remote.base import Remote
from outlast.remote.gather import bring_home
from outlast.remote.identity import identify
from outlast.remote.outgoing import PushAbandoned
from outlast.remote.place import Place
from outlast.remote.push import Pusher
from outlast.remote.pushed import follows, note
from outlast.remote.retention import apply_retention
from outlast.remote.revision import PushedRun


def push(folder: RunFolder, remote: Remote, *, rate: float | None = None) -> Iterator[str]:
    """Push the checkpoints, journal and records of a run. Other checkpoints in the remote are deleted.

    Args:
        folder: the run folder.
        remote: the remote.
        rate: average rate limit in bytes per second.

    Yields:
        Sentences about the progress.

    Raises:
        RunBusy: an attempt on this machine trains the run, or another attempt pushes it.
        UsageError: the remote holds another run of this name, another history of the run, or later steps.
        RemoteError: the remote does not answer, or refuses.
    """
    with _held(folder, "a push"):
        pushed, identity = PushedRun(remote, folder.path.name), identify(Place.at(folder.path))
        yield from pushed.told
        store = CheckpointStore(folder)
        store.identity = identity
        here = {checkpoint.step for checkpoint in store.newest_first()}
        if pushed.revision and pushed.revision.run != identity.uid:
            raise UsageError(
                f"{pushed.address()} holds another run of this name. Nothing was pushed. Use another remote, or rename "
                "one of the two runs."
            )
        _compare(next(store.newest_first(), None), next(pushed.place.newest_first(identity, []), None), folder, pushed)
        pusher = Pusher(
            folder,
            pushed,
            identity=identity,
            attempt=uuid.uuid4().hex,
            removable=lambda kept: [each.step for each in kept if each.step not in here],
            continued=max(here, default=-1),
            rate=rate,
        )
        try:
            yield from _push_all(pusher, pushed)
            address = remote.typed or remote.address()
            if follows(folder, address):
                note(folder, address, steps=pusher.steps, behind=pusher.missing())
        finally:
            pusher.close()


def pull(folder: RunFolder, remote: Remote) -> list[str]:
    """Copy a run from a remote if it continues the newest local checkpoint; return sentences about the result.

    Then the run's own retention is applied.

    Raises:
        RunBusy: an attempt on this machine trains the run.
        UnknownName: the remote has no run of this name.
        UsageError: the remote holds another run of this name, or another history of the run.
        CorruptCheckpoint: there is no checkpoint that verifies, neither there nor here.
        RemoteError: the remote does not answer, or refuses.
    """
    pushed = PushedRun(remote, folder.path.name)
    try:
        pushed.place.read_record("run.json", RUN)
    except ObjectMissing as error:
        raise UnknownName(
            f"There is no run {folder.path.name!r} at {remote.address()}: it has no {pushed.address('run.json')}."
        ) from error
    durable.make_folder(folder.path)
    with _held(folder, "a pull"):
        told, brought = folder.check(), bring_home(folder, [], [pushed])
        if brought.rejected:
            raise UsageError(" ".join([*brought.told, "Nothing was pulled."]))
        if not CheckpointStore(folder).committed():
            nothing = [f"{pushed.address()} has no checkpoint yet."] if not brought.told else brought.told
            raise CorruptCheckpoint(" ".join([*nothing, "Nothing was pulled."]))
        return [*told, *brought.told, *apply_retention(folder)]


@contextlib.contextmanager
def _held(folder: RunFolder, what: str) -> Iterator[None]:
    lock = Lock(folder.lock)
    lock.take(what)
    try:
        yield
    finally:
        lock.release()


def _push_all(pusher: Pusher, pushed: PushedRun) -> Iterator[str]:
    pusher.push()
    yield from pusher.complaints
    pusher.complaints.clear()
    while steps := pusher.wanted():
        with contextlib.suppress(PushAbandoned):  # it is damaged, and is not wanted any more
            pusher.push(steps[0])
            yield f"step {steps[0]} is at {pushed.address()}"
        yield from pusher.complaints
        pusher.complaints.clear()
    pusher.tidy()


def _compare(own: Checkpoint | None, theirs: Checkpoint | None, folder: RunFolder, pushed: PushedRun) -> None:
    """Raise UsageError unless the newest local checkpoint continues the one in the remote."""
    if theirs is None or (own and theirs.is_ancestor_of(own) is not False):
        return
    where = f"{pushed.address()} has step {theirs.step}"
    if own is None or own.is_ancestor_of(theirs) is not False:
        raise UsageError(
            f"{where}, which continues the run in {folder.path}. There is nothing to push; `outlast pull` copies it "
            "here."
        )
    raise UsageError(
        f"{where}, and step {own.step} in {folder.path} does not continue it: two attempts continued from an older "
        "checkpoint. Nothing was pushed. Use another remote for this run."
    )
