"""Reads the records of a run folder: with bounds, typed, and of a known format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.errors import CorruptCheckpoint, OutlastError
from outlast.folder import records
from outlast.folder.layout import FORMATS
from outlast.folder.plain import read_plain


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptCheckpoint: it is not a JSON object.
    """
    return records.parse(read_plain(path), path)


def read_record(path: Path, kind: records.Check) -> dict[str, Any]:
    """Read a record of a kind that `outlast.folder.records` names.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptCheckpoint: it is not a record of this kind.
        OutlastError: a newer outlast wrote it.
    """
    return parse_record(read_plain(path), path, kind)


def parse_record(data: bytes, path: object, kind: records.Check) -> dict[str, Any]:
    """A record of a kind, from the bytes of its file; raises as `read_record`."""
    record = records.parse(data, path)
    if "format" in record:
        check_format(record, path)
    records.check(record, kind, path)
    return record


def check_format(record: Mapping[str, Any], path: object) -> None:
    """Refuse a record that a newer outlast wrote.

    Raises:
        OutlastError: its format is newer.
        CorruptCheckpoint: it names none.
    """
    found = record.get("format")
    if type(found) is not int or not 0 < found < 10**6:
        raise CorruptCheckpoint(
            f"{path} has no format number; it was damaged after it was written, or is not outlast's."
        )
    if found not in FORMATS:
        raise OutlastError(
            f"{path} has format {found} and this outlast reads formats {' and '.join(map(str, FORMATS))}: "
            "use the version of outlast that wrote it, or a newer one."
        )
