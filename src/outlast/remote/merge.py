"""Merges the attempts of two copies of one run.

What an attempt wrote down with a clock goes where its record goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.folder import copying, durable, plain
from outlast.folder.attempt import copy_events, read_record
from outlast.folder.layout import RunFolder
from outlast.folder.records import EVENTS_BYTES
from outlast.remote.place import Place


@dataclass
class _Attempt:
    """An attempt, and under which number each folder has it; 0: it has not."""

    record: Mapping[str, Any]
    ours: int = 0
    theirs: int = 0

    @property
    def began(self) -> str:
        return str(self.record.get("started", ""))


def stage_attempts(source: Place, target: RunFolder, ready: RunFolder) -> list[str]:
    """Make ready both folders' attempts, in the order in which they began.

    Returns sentences about those that were left out.

    Those here keep their order, and move to a higher number where one from there belongs before them.
    """
    told: list[str] = []
    ours: dict[object, _Attempt] = {}
    for number in target.attempt_numbers():
        record = read_record(target, number)
        ours[key_of(record, number)] = _Attempt(record, ours=number)  # a merge that was killed may have left one twice
    theirs = []
    try:
        numbers = source.attempt_numbers()
    except CorruptCheckpoint as error:  # the checkpoints are worth more
        told.append(f"{error} The records of its attempts were not copied.")
        numbers = []
    for number in numbers:
        record = source.attempt(number)
        if "damaged" in record:
            told.append(f"{source.address(f'attempts/{number:04d}.json')} is damaged and was not copied.")
        elif (known := ours.get(key_of(record, 0))) is None:
            theirs.append(_Attempt(record, theirs=number))
        elif _says_more(record, known.record):
            known.record, known.theirs = record, number
    taken = 0
    for attempt in _in_order(sorted(ours.values(), key=lambda each: each.ours), theirs):
        taken = target.free_attempt(max(taken + 1, attempt.ours))
        _stage(attempt, taken, source, target, ready)
    return told


def _in_order(ours: list[_Attempt], theirs: list[_Attempt]) -> Iterator[_Attempt]:
    theirs.sort(key=lambda each: each.began)
    for attempt in ours:
        while theirs and theirs[0].began < attempt.began:
            yield theirs.pop(0)
        yield attempt
    yield from theirs


def _stage(attempt: _Attempt, number: int, source: Place, target: RunFolder, ready: RunFolder) -> None:
    """Make an attempt ready under its new number, with its events."""
    if "damaged" not in attempt.record:
        durable.write_json(ready.attempt(number), {**attempt.record, "number": number})
    elif number != attempt.ours:
        copying.copy_file(target.attempt(attempt.ours), ready.attempt(number))
    if attempt.theirs:
        with contextlib.suppress(CorruptCheckpoint):  # it has none, or none that can be read
            source.copy(f"attempts/{attempt.theirs:04d}.events.jsonl", ready.events(number), most=EVENTS_BYTES)
            return
    if attempt.ours not in (0, number):
        copy_events(target, attempt.ours, ready, number)


def move_attempts(ready: RunFolder, target: RunFolder) -> None:
    """Move the attempts that were made ready to their places.

    From the highest number down: none moves to a lower one, so each is at its new place before its old one is taken.
    Events come before their record, and those of another attempt go before another record takes their number.
    """
    for number in reversed(ready.attempt_numbers()):
        if plain.kind_of(ready.events(number)):
            durable.replace(ready.events(number), target.events(number))
        elif key_of(read_record(ready, number), number) != key_of(read_record(target, number), number):
            durable.remove_any(target.events(number))
        durable.replace(ready.attempt(number), target.attempt(number))


def key_of(record: Mapping[str, Any], number: int) -> object:
    """The key by which two records belong to one attempt."""
    if "damaged" in record:
        return number
    return record.get("id") or tuple(str(record.get(name)) for name in ("started", "host", "process"))


def _says_more(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a copy of an attempt's record knows better how it ended.

    That it was lost is what others thought of it.
    """
    known = [("end" in record) + (record.get("end", {}).get("reason", "lost") != "lost") for record in (theirs, ours)]
    return bool(known[0] > known[1])
