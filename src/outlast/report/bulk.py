"""Reads the numbers of a journal of any length in blocks, as arrays.

Most lines of a journal have one form: the same names in the same order, each with a plain number. Such lines are
separated by replacing their names, and NumPy reads the numbers. All other lines are read one by one as JSON. The
result is the same, except that a damaged line with a number that is not JSON's, such as 012, is read as well.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from outlast.config.units import is_finite
from outlast.tracking import reading

Floats: TypeAlias = NDArray[np.float64]

SIZE = 4 * 2**20
"""Bytes that are read at a time."""

_FEW = 64  # lines of one form below which it is not worth the preparation
_FORMS = 12  # forms that are tried in one block; the lines of further ones are read one by one
_NAME = re.compile(r"[A-Za-z0-9_./@%+ -]{1,100}")
_FIRST = 0x80  # marks of names: bytes that ASCII does not have
_MARKS = 100  # names in one line of such a form
_NUMERIC = b"0123456789+-.eE"
_WORDS = ((b'"NaN"', b"nan"), (b'"Infinity"', b"inf"), (b'"-Infinity"', b"-inf"))
_IS_MARK: NDArray[np.bool_] = np.ones(256, dtype=bool)
_IS_MARK[list(_NUMERIC + b"naif")] = False
_TO_SPACES = bytes(32 if mark else byte for byte, mark in enumerate(_IS_MARK))
_NEWLINE = 10


@dataclass
class Block:
    """The numbers of some lines of a journal.

    Attributes:
        series: metric -> its steps and its values, in the order of the file within lines of one form. Values may be
            NaN or infinite.
        broken: number of lines that are not lines of a journal.
        end: the offset after the last line.
    """

    series: dict[str, list[tuple[Floats, Floats]]] = field(default_factory=dict)
    broken: int = 0
    end: int = 0

    def add(self, name: str, steps: Floats, values: Floats) -> None:
        """Add values of one metric."""
        if len(steps):
            self.series.setdefault(name, []).append((steps, values))


def blocks(path: Path, start: int = 0) -> Iterator[Block]:
    """The whole lines of a journal from an offset on; none if there is no file. A torn last line is left out.

    Memory: some times `SIZE`, or the longest line that counts (`reading.LONGEST`).
    """
    try:
        file = reading.opened(path)
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        held, at, passing = b"", start, False
        while data := file.read(SIZE):
            cut = data.rfind(b"\n") + 1
            if not cut:
                held += data
                if len(held) > reading.LONGEST:  # no line of a journal; its end is looked for
                    at, held, passing = at + len(held), b"", True
                continue
            whole, held = held + data[:cut], data[cut:]
            at += len(whole)
            block = Block(end=at)
            if passing:
                whole, passing = whole[whole.find(b"\n") + 1 :], False
                block.broken += 1
            parse(whole, block)
            yield block


def parse(data: bytes, block: Block) -> None:
    """Add the numbers of whole lines to a block."""
    for _ in range(_FORMS):
        if not data:
            return
        left = _of_one_form(data, block)
        if left is None or len(left) > 0.98 * len(data):
            data = data if left is None else left
            break
        data = left
    _one_by_one(data.split(b"\n")[:-1], block)


def _of_one_form(data: bytes, block: Block) -> bytes | None:
    """Read the lines that have the form of the middle one; returns all other lines, or None if it has no such form."""
    if data.count(b"\n", 0, 2**16) < _FEW and data.count(b"\n") < _FEW:
        return None
    middle = data.rfind(b"\n", 0, len(data) // 2) + 1
    names = _names(data[middle : data.find(b"\n", middle)])
    if names is None or not data.isascii():
        return None
    marked = data
    for number, name in enumerate(names):
        before = b"{" if number == 0 else b", "
        marked = marked.replace(b'%s"%s": ' % (before, name.encode()), bytes([_FIRST + number]))
    if b'"' in marked:
        for word, text in _WORDS:
            marked = marked.replace(word, text)
    codes = np.frombuffer(marked, np.uint8)
    places = np.flatnonzero(_IS_MARK[codes])
    pattern = np.array([*range(_FIRST, _FIRST + len(names)), ord("}"), _NEWLINE], np.uint8)
    good = _matching(codes, places, pattern)
    if good is None:  # all lines
        return b"" if _numbers(marked, names, block) else None
    if not good.any():
        return data
    kept = _lines_where(marked, good)
    return _lines_where(data, ~good) if _numbers(kept, names, block) else None


def _names(line: bytes) -> list[str] | None:
    """The names of a line, if they are plain and each has a number; None otherwise."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or next(iter(found), None) != "step" or len(found) > _MARKS:
        return None
    if not all(_NAME.fullmatch(name) for name in found):
        return None
    return list(found)


def _matching(
    codes: NDArray[np.uint8], places: NDArray[np.intp], pattern: NDArray[np.uint8]
) -> NDArray[np.bool_] | None:
    """For each line, whether its marks are those of the pattern and it has a number after each name.

    None if this is so for all lines.
    """
    width, marks = len(pattern), codes[places]
    ends = np.flatnonzero(marks == _NEWLINE)
    counts = np.diff(ends, prepend=-1)
    right = counts == width
    if not right.any():
        return right
    first = ends[right][:, None] + np.arange(1 - width, 1)
    where = places[first]
    fits = (marks[first] == pattern).all(axis=1)
    gaps = np.diff(where, axis=1)
    fits &= (gaps[:, :-1] > 1).all(axis=1) & (gaps[:, -1] == 1)
    begins = where[:, 0] == np.where(ends[right] - width < 0, 0, places[ends[right] - width] + 1)
    right[right] = fits & begins
    return None if right.all() else right


def _lines_where(data: bytes, wanted: NDArray[np.bool_]) -> bytes:
    """The lines of a text for which an array is true."""
    ends: NDArray[np.intp] = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE) + 1
    edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
    offsets = np.concatenate(([0], ends))[edges]
    return b"".join(data[start:end] for start, end in zip(offsets[::2], offsets[1::2], strict=True))


def _numbers(marked: bytes, names: Sequence[str], block: Block) -> bool:
    """Read marked lines; returns False if some text between the marks is not a number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # text that is no number; the count then differs
        try:
            flat = np.fromstring(marked.translate(_TO_SPACES), dtype=np.float64, sep=" ")
        except ValueError:
            return False
    if len(flat) != marked.count(b"\n") * len(names):
        return False
    table = flat.reshape(-1, len(names))
    steps = table[:, 0].copy()
    if not (whole := (steps >= 0) & (steps == np.floor(steps)) & np.isfinite(steps)).all():
        block.broken += int((~whole).sum())
        table, steps = table[whole], steps[whole]
    for number, name in enumerate(names):
        if name not in reading.PLACE:
            block.add(name, steps, table[:, number].copy())
    return True


def _one_by_one(lines: Sequence[bytes], block: Block) -> None:
    found: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        record = reading.parse(line)
        if record is None:
            block.broken += bool(line.strip())
            continue
        for name, value in record.items():
            if name not in reading.PLACE and (isinstance(value, float) or is_finite(value)):
                steps, values = found.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    for name, (steps, values) in found.items():
        block.add(name, np.array(steps, np.float64), np.array(values, np.float64))
