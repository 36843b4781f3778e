"""The attempts of two copies of one run, as one list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.folder import durable
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.remote.place import Place


def stage_attempts(source: Place, target: RunFolder, ready: RunFolder) -> list[str]:
    """Make ready both folders' attempts, in the order in which they began; returns sentences about those that were left out.

    Those here keep their order, and move to a higher number where one from there belongs before them.
    """
    told: list[str] = []
    ours = {number: read_record(target, number) for number in target.attempt_numbers()}
    last = {
        _key(record, number): number for number, record in ours.items()
    }  # a merge that was killed may have left one twice
    theirs = []
    for number in source.attempt_numbers():
        record = source.attempt(number)
        if "damaged" in record:
            told.append(f"{source.address(f'attempts/{number:04d}.json')} is damaged and was not copied.")
        elif (known := last.get(_key(record, 0))) is None:
            theirs.append(record)
        elif _says_more(record, ours[known]):
            ours[known] = record
    merged: list[tuple[int, dict[str, Any]]] = []
    theirs.sort(key=lambda record: str(record.get("started", "")))
    for number in sorted(last.values()):
        while theirs and str(theirs[0].get("started", "")) < str(ours[number].get("started", "")):
            merged.append((0, theirs.pop(0)))
        merged.append((number, ours[number]))
    merged += [(0, record) for record in theirs]
    taken = 0
    for old, record in merged:
        taken = target.free_attempt(max(taken + 1, old))
        if "damaged" not in record:
            durable.write_json(ready.attempt(taken), {**record, "number": taken})
        elif taken != old:
            durable.copy_file(target.attempt(old), ready.attempt(taken))
    return told


def _key(record: Mapping[str, Any], number: int) -> object:
    """What makes two records those of one attempt."""
    if "damaged" in record:
        return number
    return record.get("id") or tuple(str(record.get(name)) for name in ("started", "host", "process"))


def _says_more(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a copy of an attempt's record knows better how it ended; that it was lost is what others thought of it."""
    known = [("end" in record) + (record.get("end", {}).get("reason", "lost") != "lost") for record in (theirs, ours)]
    return bool(known[0] > known[1])
