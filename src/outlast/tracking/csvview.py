"""The journal as a CSV file, for spreadsheets and for `--log_csv`. A view: it can be deleted and comes back whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast import files
from outlast.tracking import reading
from outlast.tracking.sink import Sink


class CsvView(Sink):
    """Keeps a CSV file equal to the journal; written at every epoch's end, at every checkpoint and at the end.

    Rows are appended; only when a metric appears that has no column yet is the file written anew.

    Args:
        path: the CSV file.
        source: journal.jsonl; lines that are there already come first.
    """

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        self._columns = ["step", "epoch"]
        self._rows: list[Mapping[str, Any]] = list(reading.read(source))
        self._written = 0
        self._written_columns: list[str] = []

    def logged(self, record: Mapping[str, Any]) -> None:
        self._rows.append(record)

    def epoch_ended(self, epoch: int) -> None:
        self._write()

    def saved(self, step: int, reason: str, seconds: float, size: int) -> None:
        self._write()

    def closed(self) -> None:
        self._write()

    def _write(self) -> None:
        for row in self._rows[self._written :]:
            self._columns.extend(name for name in row if name not in self._columns)
        whole = self._columns != self._written_columns or not self.path.exists()
        if not whole and self._written == len(self._rows):
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if whole:
            writer.writeheader()
        writer.writerows(self._rows if whole else self._rows[self._written :])
        files.make_folder(self.path.parent)
        if whole:
            files.write_file(self.path, [text.getvalue().encode()])
        else:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        self._written, self._written_columns = len(self._rows), list(self._columns)
