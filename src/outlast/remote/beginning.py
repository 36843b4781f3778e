"""A run of which a remote holds the records of attempts, and no checkpoint: it was killed before the first one.

The next machine finds nothing to continue and begins the run, with an identity of its own. Without more, it could not
push: the remote would hold another run of this name.
"""

from __future__ import annotations

from outlast.checkpoint import Identity
from outlast.checkpoint.listing import steps_in
from outlast.errors import CorruptCheckpoint, ObjectMissing
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN
from outlast.remote.identity import identify
from outlast.remote.incoming import Incoming
from outlast.remote.merge import stage_attempts
from outlast.remote.place import Place
from outlast.remote.revision import PushedRun


def join(folder: RunFolder, pushed: PushedRun, identity: Identity, told: list[str]) -> Identity:
    """Go on as the run that a remote knows, if neither it nor this folder has anything that could be lost.

    It must be of the same recipe, and begun from the same checkpoint, if from any.

    Args:
        folder: the run folder.
        pushed: the run in the remote.
        identity: the identity of the run in the folder.
        told: receives sentences for the user.

    Returns:
        The identity of the run from now on.

    Raises:
        RemoteUnavailable: the remote does not answer any more.
        SaveFailed: there is no room for the records.
    """
    there = pushed.revision
    if there is None or there.number != pushed.last or there.checkpoints or there.run == identity.uid:
        return identity
    here = Place.at(folder.path).read_record("run.json", RUN)
    begun = {here["parent"]["step"]} if "parent" in here else set()
    if set(steps_in(folder.checkpoints)) - begun:
        return identity
    try:
        theirs = pushed.place.read_record("run.json", RUN)
    except (CorruptCheckpoint, ObjectMissing):
        return identity
    if any(theirs.get(key) != here.get(key) for key in ("recipe", "parent")):
        return identity
    incoming = Incoming(pushed.place, folder)
    with incoming.collect("The records of its attempts"):
        told += stage_attempts(pushed.place, folder, incoming.ready)
        durable.write_json(incoming.ready.run, {**here, "uid": there.run})
    told.append(
        f"{pushed.address()} has attempts of this run and no checkpoint: the run is begun again, and pushed there"
    )
    return identify(Place.at(folder.path))
