"""Begins a run from a checkpoint of another run."""

from __future__ import annotations

import os

from outlast.checkpoint import Checkpoint, CheckpointStore
from outlast.errors import ANOTHER_NAME, CorruptCheckpoint, UsageError
from outlast.folder import durable, layout, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN
from outlast.remote.identity import identify
from outlast.remote.incoming import Incoming
from outlast.remote.place import Place


def fork(source: RunFolder, checkpoint: Checkpoint, target: RunFolder) -> None:
    """Begin a run from a checkpoint of another one, unless it has begun so already.

    The new run has the checkpoint, the config and the journal up to it; it has no attempts yet and remembers its
    parent.

    Raises:
        UsageError: another run has that name.
        CorruptCheckpoint: the checkpoint does not verify, or the config is none.
        SaveFailed: there is no room for it; nothing of it is left.
        UnsafeFolder: a link stands where a file of the new run belongs.
    """
    parent = {"run": source.path.name, "step": checkpoint.step}
    if plain.kind_of(target.run) and CheckpointStore(target).committed():
        known = reading.read_record(target.run, RUN).get("parent") or {}
        same = {"run": known.get("run"), "step": known.get("step")} == parent
        if not same or known.get("digest", checkpoint.digest) != checkpoint.digest:
            raise UsageError(
                f"{target.path} is another run already, not one that began from step {checkpoint.step} of "
                f"{source.path.name}. Choose "
                f"{ANOTHER_NAME}, or leave resume_from or --resume out to continue it."
            )
        return
    place = Place.at(source.path)
    identity = identify(place)
    target.check()
    incoming = Incoming(place, target)
    with incoming.collect(f"Step {checkpoint.step}"):
        incoming.checkpoint(checkpoint)
        about = {
            **place.read_record("run.json", RUN),
            "format": layout.FORMAT,
            "id": target.path.name,
            "uid": os.urandom(16).hex(),
            "parent": parent | {"uid": identity.uid, "digest": checkpoint.digest},
        }
        about.pop("format_1_until", None)
        durable.write_json(incoming.ready.run, about)
        if complaint := incoming.config():
            raise CorruptCheckpoint(complaint)
        incoming.journal(checkpoint.step)
