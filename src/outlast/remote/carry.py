"""Carrying a run to a remote, or home from one, by hand; nobody trains it here meanwhile."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from outlast.checkpoint import Checkpoint, CheckpointStore
from outlast.errors import ObjectMissing, UnknownName, UsageError
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.folder.lock import Lock
from outlast.folder.records import RUN
from outlast.remote.base import Remote
from outlast.remote.gather import bring_home
from outlast.remote.identity import identify
from outlast.remote.outgoing import PushAbandoned
from outlast.remote.place import Place
from outlast.remote.push import Pusher
from outlast.remote.revision import PushedRun


def push(folder: RunFolder, remote: Remote, *, rate: float | None = None) -> Iterator[str]:
    """Push a run as it lies here: its checkpoints, journal and records. What is not here is not kept there either.

    Args:
        folder: the run folder.
        remote: where to.
        rate: bytes a second on average at most.

    Yields:
        Sentences about what was done.

    Raises:
        RunBusy: it is trained here now; or another attempt pushes it.
        UsageError: the remote holds another run of this name, another history of it, or more of it.
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
                f"{pushed.address()} holds another run of this name, and was not changed. Choose another remote, or "
                "rename one of the two."
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
        finally:
            pusher.close()


def pull(folder: RunFolder, remote: Remote) -> list[str]:
    """Bring a run home from a remote, as far as it continues what is here; returns sentences about it.

    Raises:
        RunBusy: it is trained here now.
        UnknownName: the remote holds no run of this name.
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
        return [*folder.check(), *bring_home(folder, [], [pushed]).told]


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
    while steps := pusher.wanted():
        with contextlib.suppress(PushAbandoned):  # it is damaged, and then it is wanted no more
            pusher.push(steps[0])
            yield f"step {steps[0]} is at {pushed.address()}"
        yield from pusher.complaints
        pusher.complaints.clear()
    pusher.tidy()


def _compare(own: Checkpoint | None, theirs: Checkpoint | None, folder: RunFolder, pushed: PushedRun) -> None:
    """Refuse to push over what does not lead to the newest checkpoint here; raises UsageError."""
    if theirs is None or (own and theirs.is_ancestor_of(own) is not False):
        return
    where = f"{pushed.address()} has step {theirs.step}"
    if own is None or own.is_ancestor_of(theirs) is not False:
        raise UsageError(
            f"{where}, which continues what is in {folder.path}: there is nothing to push. `outlast pull` brings it "
            "home."
        )
    raise UsageError(
        f"{where}, which does not continue step {own.step} in {folder.path}: two attempts went on from an older one. "
        "Nothing was pushed; choose another remote for this one."
    )
