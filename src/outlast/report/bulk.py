"""Reads the numbers of a journal of any length in blocks, as arrays.

Most lines of a journal have one form: the same names in the same order, each with a plain number. NumPy finds the
commas and line ends of a block, compares the names between them, and computes the numbers from their digits. All other
lines are read one by one as JSON. The result is the same to the last two bits of a number; a damaged line with a number
that is not JSON's, such as 012, may be read as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from outlast.config.units import is_finite
from outlast.report import digits
from outlast.report.digits import Floats, Places
from outlast.tracking import reading

SIZE = 2**20
"""Bytes that are read at a time: the arrays of one block fit into a processor's cache."""

_TAIL = 256
_FEW = 64  # lines of one form below which it is not worth the preparation
_FORMS = 12  # forms that are tried in one block; the lines of further ones are read one by one
_NAME = re.compile(r"[A-Za-z0-9_./@%+ -]{1,100}")
_MOST_NAMES = 100  # in one line of such a form
_NEWLINE, _COMMA, _BRACE = b"\n,}"

Lines: TypeAlias = NDArray[np.bool_]


@dataclass
class Block:
    """The numbers of some lines of a journal.

    Attributes:
        series: metric -> its steps and its values, in the order of the file within lines of one form. Values may be
            NaN or infinite.
        broken: number of lines that are not lines of a journal.
        end: the offset after the last line.
        tail: the last bytes before it, by which a journal that was rewritten since is recognised.
    """

    series: dict[str, list[tuple[Floats, Floats]]] = field(default_factory=dict)
    broken: int = 0
    end: int = 0
    tail: bytes = b""

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
            block = Block(end=at, tail=whole[-_TAIL:])
            if passing:
                whole, passing = whole[whole.find(b"\n") + 1 :], False
                block.broken += 1
            parse(whole, block)
            yield block


def parse(data: bytes, block: Block) -> None:
    """Add the numbers of whole lines to a block."""
    for _ in range(_FORMS):
        left = _of_one_form(data, block)
        if left is None or len(left) > 0.98 * len(data):
            data = data if left is None else left
            break
        data = left
    _one_by_one(data.split(b"\n")[:-1], block)


def _of_one_form(data: bytes, block: Block) -> bytes | None:
    """Read the lines that have the form of the middle one; returns all other lines, or None if it has no such form."""
    if data.count(b"\n", 0, 2**14) < _FEW and data.count(b"\n") < _FEW:
        return None
    middle = data.rfind(b"\n", 0, len(data) // 2) + 1
    names = _names(data[middle : data.find(b"\n", middle)])
    if names is None:
        return None
    text = digits.Text(data)
    ends = text.all_of(_NEWLINE)
    begins: Places = np.append(0, ends[:-1] + 1)
    good, commas = _with_commas(text, ends, begins, len(names) - 1)
    separators = [b'%s"%s": ' % (b", " if number else b"{", name.encode()) for number, name in enumerate(names)]
    before = [begins[good], *commas.T]
    after = [*commas.T, ends[good] - 1]
    fits = text.codes[after[-1]] == _BRACE
    for at, words in zip(before, separators, strict=True):
        fits &= text.has(at, words)
    columns = []
    for at, end, words in zip(before, after, separators, strict=True):
        values, readable = text.numbers(at + len(words), end, fits)
        columns.append(values)
        fits &= readable
    good[good] = fits
    _add(names, [values[fits] for values in columns], block)
    return b"" if good.all() else _lines_where(data, ends, ~good)


def _names(line: bytes) -> list[str] | None:
    """The names of a line, if they are plain and the first one is its step; None otherwise."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or next(iter(found), None) != "step" or len(found) > _MOST_NAMES:
        return None
    return list(found) if all(_NAME.fullmatch(name) for name in found) else None


def _with_commas(text: digits.Text, ends: Places, begins: Places, count: int) -> tuple[Lines, Places]:
    """The lines that have a number of commas, and the places of these: lines by commas."""
    commas = text.all_of(_COMMA)
    if len(commas) == count * len(ends):  # as a rule all of them
        table = commas.reshape(len(ends), count)
        if not count or ((table[:, 0] > begins).all() and (table[:, -1] < ends).all()):
            return np.ones(len(ends), dtype=bool), table
    until: Places = np.asarray(np.searchsorted(commas, ends))
    good = np.diff(until, prepend=0) == count
    return good, commas[until[good][:, None] + np.arange(-count, 0)]


def _lines_where(data: bytes, ends: Places, wanted: Lines) -> bytes:
    """The lines of a text for which an array is true."""
    edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
    offsets = np.append(0, ends + 1)[edges]
    return b"".join(data[start:end] for start, end in zip(offsets[::2], offsets[1::2], strict=True))


def _add(names: Sequence[str], columns: Sequence[Floats], block: Block) -> None:
    steps = columns[0]
    whole = (steps >= 0) & (steps == np.floor(steps)) & np.isfinite(steps)
    if not whole.all():
        block.broken += int((~whole).sum())
        steps, columns = steps[whole], [values[whole] for values in columns]
    for name, values in zip(names, columns, strict=True):
        if name not in reading.PLACE:
            block.add(name, steps, values)


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
