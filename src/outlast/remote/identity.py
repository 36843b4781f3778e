"""The identity of the run in a folder, independent of its place: reads and writes run.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from outlast.checkpoint import Checkpoint, Identity
from outlast.folder import durable, hashing, layout, plain
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN
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
    parent = about.get("parent", {}).get("digest")
    if "uid" in about:
        return Identity(about["uid"], parent, about.get("format_1_until", -1))
    first = next((place.attempt(number).get("id") for number in place.attempt_numbers()), None)
    uid = hashing.digest(f"{about['id']} {first}".encode()) if first else os.urandom(16).hex()
    newest = next(place.newest_first(), None)
    return Identity(uid, parent, newest.step if newest else 0)


def know(folder: RunFolder, about: Mapping[str, Any], told: list[str]) -> Identity:
    """Write run.json of a new run, or that of a run that has lost it, or give that of an older outlast a uid.

    The uid is what checkpoints of this format name. Returns the identity of the run.

    Args:
        folder: the run folder.
        about: `recipe` and `grade` of a new run.
        told: takes a sentence for the user when run.json was lost.
    """
    place = Place.at(folder.path)
    if not plain.kind_of(folder.run):
        newest = _newest_of_a_lost_run(place)
        if newest:
            told.append(
                f"{folder.run} was missing. It was written again from {newest.path.name}, which names the run; what "
                "the run was forked from, or its stage of a chain, is not known any more."
            )
        uid = newest.manifest["run"] if newest else os.urandom(16).hex()
        durable.write_json(folder.run, {"format": layout.FORMAT, "id": folder.path.name, "uid": uid, **about})
        return identify(place)
    identity, known = identify(place), place.read_record("run.json", RUN)
    if "uid" not in known:
        new = {"format": layout.FORMAT, "uid": identity.uid, "format_1_until": identity.format_1_until}
        durable.write_json(folder.run, known | new)
    return identity


def _newest_of_a_lost_run(place: Place) -> Checkpoint | None:
    """The newest checkpoint of a folder that has attempts and no run.json. A new run has no attempts."""
    if not place.attempt_numbers():
        return None
    return next((each for each in place.newest_first(passed=[]) if "run" in each.manifest), None)


def stages_of(folder: RunFolder) -> str:
    """The stages of a chain up to the one that this run is, as run.json names them; empty when it is of none."""
    about = Place.at(folder.path).read_record("run.json", RUN)
    chain, inputs = about.get("chain"), about.get("inputs", {})
    if not chain or chain["stage"] not in chain["stages"]:
        return ""
    earlier = chain["stages"][: chain["stages"].index(chain["stage"])]
    done = [f"{name} finished at step {inputs[name]['step']}" if name in inputs else name for name in earlier]
    return " -> ".join([*done, chain["stage"]])
