"""Parses JSON records with bounds, and checks their types against schemas, which are built from the checks here.

A run folder may come from someone else. So no reader meets a number that does not fit, a value of another type, text
that cannot be written again, or nesting that overflows the stack: whatever is wrong is one sentence of
`CorruptCheckpoint`. Keys that nobody knows here are left alone, because a newer outlast may have written them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from outlast.errors import CorruptCheckpoint

DEPTH = 200
"""Containers inside each other that a JSON file may have; what is written keeps to it as well."""
TOO_DEEP = f"more than {DEPTH} nested lists or objects"

RECORD_BYTES = 2**26
"""Size of the largest record that is read: a manifest of 30 TB."""

STATE_BYTES = 2**29
"""Size of the largest state.json; what is written keeps to it as well."""

EVENTS_BYTES = 2**23
"""Size of the largest file of events; what is written keeps to it as well."""

LARGEST = 2**62
"""The largest whole number of a record: sizes, steps, counts."""

LONGEST = 1_000_000
"""Characters of the longest sentence in a record."""

REASONS = ("finished", "budget", "preempted", "failed", "cancelled", "lost")
"""How an attempt may end."""

_MISSING = object()

Check = Callable[[Any, str], None]
"""Takes a value and where it stands; raises MalformedRecord."""


class MalformedRecord(Exception):
    """A value is not what a record has at its place."""

    def __init__(self, where: str, found: Any, expected: str) -> None:
        super().__init__(f"{where or 'it'} is {_shown(found)}; expected {expected}")


# parsing -------------------------------------------------------------------------------------------------------


def parse(data: bytes, path: object) -> dict[str, Any]:
    """A JSON object of bounded depth, without NaN, whose text can be written again.

    Args:
        data: the whole file.
        path: its name, for messages.

    Raises:
        CorruptCheckpoint: it is none.
    """
    try:
        value = json.loads(data, parse_constant=_no_constant)
        if rb"\ud" in data or rb"\uD" in data:  # half of a pair is text that nobody can write or print
            json.dumps(value, ensure_ascii=False).encode()
        check_depth(value)
    except (ValueError, RecursionError) as error:  # ValueError: also numbers of thousands of digits, and broken UTF-8
        words = TOO_DEEP if isinstance(error, RecursionError) else _one_line(str(error))
        raise CorruptCheckpoint(f"{path} is not valid JSON ({words}); it was damaged after it was written.") from error
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{path} holds {type(value).__name__} where a JSON object was expected.")
    return value


def check_depth(value: Any) -> None:
    """Raise ValueError when more than DEPTH containers are inside each other."""
    level = [value]
    for _ in range(DEPTH + 1):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list | tuple)
        ]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _one_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else ""


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    text = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


# shapes --------------------------------------------------------------------------------------------------------


def whole(low: int = 0, high: int = LARGEST) -> Check:
    """A whole number; true and false are none."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise MalformedRecord(where, value, f"a whole number from {low} to {high}")

    return check


def number(value: Any, where: str) -> None:
    """A finite number that fits a float."""
    if type(value) not in (int, float) or not -1e308 < value < 1e308:
        raise MalformedRecord(where, value, "a finite number")


def between(low: float, high: float) -> Check:
    """A number of a range."""

    def check(value: Any, where: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:
            raise MalformedRecord(where, value, f"a number from {low:g} to {high:g}")

    return check


def flag(value: Any, where: str) -> None:
    """True or false."""
    if type(value) is not bool:
        raise MalformedRecord(where, value, "true or false")


def text(longest: int = 10_000, pattern: str = "", words: str = "") -> Check:
    """Text, and if so wanted of a pattern."""
    form = re.compile(pattern, re.ASCII) if pattern else None

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > longest or (form and not form.fullmatch(value)):
            raise MalformedRecord(where, value, words or f"text of at most {longest} characters")

    return check


def one_of(*words: str) -> Check:
    """One of some words."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise MalformedRecord(where, value, f"one of {', '.join(words)}")

    return check


def anything(_value: Any, _where: str) -> None:
    """Whatever JSON has."""


def or_null(check: Check) -> Check:
    """The value may be null."""
    return lambda value, where: None if value is None else check(value, where)


def many(check: Check, most: int = 1_000_000) -> Check:
    """A list of equals."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) > most:
            raise MalformedRecord(where, value, f"a list of at most {most}")
        for index, each in enumerate(value):
            check(each, f"{where}[{index}]")

    return checked


def pair(check: Check) -> Check:
    """A list of two of one kind."""
    return both(check, check)


def both(first: Check, second: Check) -> Check:
    """A list of two, each of its own kind."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) != 2:
            raise MalformedRecord(where, value, "a list of two")
        first(value[0], where)
        second(value[1], where)

    return checked


def table(check: Check = anything, most: int = 1_000_000) -> Check:
    """An object whose keys are names."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, dict) or len(value) > most:
            raise MalformedRecord(where, value, "an object")
        for key, each in value.items():
            check(each, f"{where}[{_shown(key)}]")

    return checked


def form(needed: Mapping[str, Check], known: Mapping[str, Check] | None = None) -> Check:
    """An object with keys that it must have, and keys that it may have; others are not looked at."""

    def checked(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise MalformedRecord(where, value, "an object")
        for key, check in needed.items():
            if key not in value:
                raise MalformedRecord(f"{where}.{key}".lstrip("."), _MISSING, "a value")
            check(value[key], f"{where}.{key}".lstrip("."))
        for key, check in (known or {}).items():
            if key in value:
                check(value[key], f"{where}.{key}".lstrip("."))

    return checked


def check(record: Mapping[str, Any], kind: Check, path: object) -> None:
    """Refuse a record that is not of its kind; raises CorruptCheckpoint."""
    try:
        kind(record, "")
    except MalformedRecord as error:
        raise CorruptCheckpoint(
            f"{path}: {error}. It was damaged after it was written, or is not outlast's."
        ) from error


def finite(value: Any) -> bool:
    """Whether a value is a number that a table or a picture can show."""
    return type(value) in (int, float) and -1e308 < value < 1e308 and not math.isnan(value)
