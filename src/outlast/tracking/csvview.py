"""The journal as a CSV file, for spreadsheets and `--log_csv`. It can be deleted and is rebuilt."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from outlast.folder import durable
from outlast.tracking import reading
from outlast.tracking.sink import SaveFacts, Sink

WAITING_LINES = 10_000
"""Most rows in memory."""

COMPARED_BYTES = 64 * 2**10
"""Bytes of the journal's end that are compared with an older CSV file before it is continued."""


class CsvView(Sink):
    """Keeps a CSV file equal to the journal; written at every epoch's end, at every checkpoint and at the end.

    Rows are appended. A file of an earlier attempt is truncated to the journal's end and continued if it agrees with
    it. Otherwise, and when a metric without a column appears, the file is written again, line by line.

    Args:
        path: the CSV file.
        source: journal.jsonl, whose existing lines come first.
    """

    def __init__(self, path: Path, source: Path) -> None:
        self.path, self._source = path, source
        self._until = source.stat().st_size if source.exists() else 0
        self._columns: list[str] = []
        self._waiting: list[Mapping[str, Any]] = []
        self._incomplete = self._failed = False

    def logged(self, record: Mapping[str, Any]) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= WAITING_LINES:
            self._write()

    def epoch_ended(self, epoch: int) -> None:
        self._write()

    def saved(self, save: SaveFacts) -> None:
        self._write()

    def closed(self) -> None:
        self._write()
        if self._incomplete:  # by now the journal has all
            self._write_anew(self._source.stat().st_size)

    def _write(self) -> None:
        try:
            self._append()
        except OSError:
            self._failed = True  # the last row may be torn; all rows are in the journal
            raise
        self._failed = False

    def _append(self) -> None:
        if not self._columns:
            durable.make_folder(self.path.parent)
            if not self._continue():
                self._write_anew(self._until)
        elif (
            self._failed or not self.path.exists()
        ):  # or someone deleted it; what the journal has not on the disk yet comes at the end
            self._incomplete = True
            self._write_anew(self._source.stat().st_size if self._source.exists() else 0)
        rows, self._waiting = self._waiting, []
        new = [name for name in dict.fromkeys(itertools.chain.from_iterable(rows)) if name not in self._columns]
        if new:
            self._widen(new)
        if rows:
            with self.path.open("ab") as file:
                file.write(_text(rows, self._columns))

    def _write_anew(self, until: int) -> None:
        names = dict.fromkeys(reading.PLACE)
        for record in reading.records(self._source, 0, until):
            names.update(dict.fromkeys(record))
        self._columns = list(names)
        records = reading.records(self._source, 0, until)
        blocks = iter(lambda: list(itertools.islice(records, 1000)), [])
        durable.write_file(
            self.path, itertools.chain([_line(self._columns)], (_text(block, self._columns) for block in blocks))
        )

    def _widen(self, names: list[str]) -> None:
        """Add columns for more metrics to every row."""
        self._columns = [*self._columns, *names]
        empty = [""] * len(names)

        def widened() -> Iterator[bytes]:
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = csv.reader(file)
                next(rows)
                yield _line(self._columns)
                while block := list(itertools.islice(rows, 1000)):
                    yield _lines([*row, *empty] for row in block)

        durable.write_file(self.path, widened())

    def _continue(self) -> bool:
        """Truncate a file of an earlier attempt to the journal's end; returns False if they do not agree."""
        last: list[dict[str, Any]] = []
        for at, line in reading.backwards(self._source, COMPARED_BYTES):
            record = reading.parse(line)
            if at < self._until and record is not None:
                last.insert(0, record)
        try:
            with self.path.open("r+b") as file:
                columns = next(csv.reader([file.readline(reading.LONGEST).decode()]), [])
                if not last or columns[:2] != list(reading.PLACE) or any(record.keys() - columns for record in last):
                    return False
                end, expected = _end_of(last[-1]["step"], file), _text(last, columns)
                file.seek(max(0, end - len(expected)))
                if file.read(end - file.tell()) != expected:
                    return False
                file.truncate(end)
        except (FileNotFoundError, ValueError, csv.Error):
            return False
        self._columns = columns
        return True


def _end_of(step: int, file: BinaryIO) -> int:
    """The offset after the rows up to a step, in a CSV file that is ascending by step.

    Raises ValueError if a row does not begin with a number.
    """
    low, high = file.tell(), file.seek(0, os.SEEK_END)
    while high - low > COMPARED_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline(reading.LONGEST)
        at = file.tell()
        line = file.readline(reading.LONGEST)
        if at < high and line.endswith(b"\n") and int(line.partition(b",")[0]) <= step:
            low = at
        else:
            high = middle
    file.seek(low)
    while (line := file.readline(reading.LONGEST)).endswith(b"\n") and int(line.partition(b",")[0]) <= step:
        low += len(line)
    return low


def _text(rows: Iterable[Mapping[str, Any]], columns: list[str]) -> bytes:
    return _lines([_cell(row.get(name)) for name in columns] for row in rows)


def _cell(value: Any) -> Any:
    return reading.as_words(value) if isinstance(value, float) else value


def _line(row: Iterable[Any]) -> bytes:
    return _lines([row])


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")
