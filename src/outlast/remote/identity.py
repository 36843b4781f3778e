"""The identity of the run in a folder, independent of its place: reads and writes run.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from outlast.checkpoint.history import Identity
from outlast.folder import durable, hashing, layout, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN

if TYPE_CHECKING:
    from outlast.checkpoint import Checkpoint
    from outlast.remote.place import Place


def identify(place: Place) -> Identity:
    """The identity of the run, by which its checkpoints are recognised.

    A run that began under format 1 has no uid. It gets one that is the same wherever its folder was copied to before:
    from its name and the id of its first attempt.

    Raises:
        ObjectMissing: there is no run.json.
        CorruptCheckpoint: it is none.
    """
    about = place.read_record("run.json", RUN)
    if "uid" in about:
        return _stated(about)
    first = next((place.attempt(number).get("id") for number in place.attempt_numbers()), None)
    uid = hashing.digest(f"{about['id']} {first}".encode()) if first else os.urandom(16).hex()
    newest = next(place.newest_first(), None)
    return Identity(uid, _parent(about), newest.step if newest else 0)


def _stated(about: Mapping[str, Any]) -> Identity:
    """The identity that a run.json with a uid states."""
    return Identity(about["uid"], _parent(about), about.get("format_1_until", -1))


def _parent(about: Mapping[str, Any]) -> str | None:
    digest: str | None = about.get("parent", {}).get("digest")
    return digest


def know(folder: RunFolder, about: Mapping[str, Any], told: list[str]) -> Identity:
    """Write run.json of a new run, or that of a run that has lost it, or give that of an older outlast a uid.

    The uid is what checkpoints of this format name. Returns the identity of the run.

    Args:
        folder: the run folder.
        about: `recipe` and `grade` of a new run.
        told: takes a sentence for the user when run.json was lost.
    """
    if not plain.kind_of(folder.run):
        newest = _newest_of_a_lost_run(folder)
        if newest:
            told.append(
                f"{folder.run} was missing. It was written again from {newest.path.name}, which names the run; what "
                "the run was forked from, or its stage of a chain, is not known any more."
            )
        uid = newest.manifest["run"] if newest else os.urandom(16).hex()
        written = {"format": layout.FORMAT, "id": folder.path.name, "uid": uid, **about}
        durable.write_json(folder.run, written)
        return _stated(written)
    known = reading.read_record(folder.run, RUN)
    if "uid" in known:
        return _stated(known)
    identity = identify(_place(folder))
    new = {"format": layout.FORMAT, "uid": identity.uid, "format_1_until": identity.format_1_until}
    durable.write_json(folder.run, known | new)
    return identity


def _place(folder: RunFolder) -> Place:
    from outlast.remote.place import Place  # most runs are begun and continued without

    return Place.at(folder.path)


def _newest_of_a_lost_run(folder: RunFolder) -> Checkpoint | None:
    """The newest checkpoint of a folder that has attempts and no run.json. A new run has no attempts."""
    if not folder.attempt_numbers():
        return None
    return next((each for each in _place(folder).newest_first(passed=[]) if "run" in each.manifest), None)


def stages_of(folder: RunFolder) -> str:
    """The stages of a chain up to the one that this run is, as run.json names them; empty when it is of none."""
    about = reading.read_record(folder.run, RUN)
    chain, inputs = about.get("chain"), about.get("inputs", {})
    if not chain or chain["stage"] not in chain["stages"]:
        return ""
    earlier = chain["stages"][: chain["stages"].index(chain["stage"])]
    done = [f"{name} finished at step {inputs[name]['step']}" if name in inputs else name for name in earlier]
    return " -> ".join([*done, chain["stage"]])
