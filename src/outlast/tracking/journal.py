"""journal.jsonl: what was logged, one JSON object a line, each step once even after a crash.

A line holds the step and the metrics and nothing of the clock, so that an interrupted run writes the same bytes as an
uninterrupted one. Lines are kept in memory until they are sealed and flushed: every few seconds, and before every commit,
whose checkpoint remembers how long the journal was. On resume it is cut back to that length.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from outlast import files
from outlast.errors import UsageError

_RESERVED = ("step", "epoch")


class Journal:
    """The journal of one run, open for appending. Lines are added by one thread; another may flush.

    Args:
        path: journal.jsonl; created when the first line is flushed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []  # added and not sealed
        self._sealed: list[bytes] = []  # to be written
        self._sealed_size = 0
        self._size = 0  # on the disk
        self._hasher = xxhash.xxh3_128()  # of all that is sealed
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def append(self, step: int, metrics: Mapping[str, Any], epoch: int | None = None) -> dict[str, Any]:
        """Add a line; it reaches the disk with a later flush. Returns the metrics as they are written.

        Raises:
            UsageError: a metric is no number, or its name is one that the journal uses itself.
        """
        # The text that json.dumps would make, at a fifth of its time: this runs in every step.
        line = f'{{"step": {step}' if epoch is None else f'{{"step": {step}, "epoch": {epoch}'
        numbers = {}
        for name, value in metrics.items():
            number = value if type(value) is float and value - value == 0.0 else as_number(name, value)
            numbers[name] = number
            line += (
                f"{self._names.get(name) or self._named(name)}{number!r}"
                if type(number) is not str
                else (f'{self._names.get(name) or self._named(name)}"{number}"')
            )
        self._waiting.append(line + "}\n")
        return numbers

    def _named(self, name: str) -> str:
        if name in _RESERVED:
            raise UsageError(
                f"A metric cannot be named {name!r}: the journal writes that field itself. Choose another name."
            )
        self._names[name] = f", {json.dumps(name, ensure_ascii=False)}: "
        return self._names[name]

    def seal(self) -> dict[str, Any]:
        """Close what was added so far: the next flush writes it, and nothing that comes later.

        Returns:
            Length in bytes and xxh3-128 of the journal up to here: what a checkpoint remembers of it.
        """
        if self._waiting:
            data = "".join(self._waiting).encode()
            self._waiting.clear()
            self._hasher.update(data)
            self._sealed_size += len(data)
            self._sealed.append(data)
        return {"bytes": self._sealed_size, "xxh3_128": self._hasher.hexdigest()}

    def flush(self) -> None:
        """Write what is sealed, durably.

        Raises:
            OSError: it did not reach the disk. It stays sealed and the file is as long as before, or will be cut back
                by the next flush; no line is lost while the process lives.
        """
        with self._lock:
            blocks = list(self._sealed)
            if not blocks:
                return
            data = b"".join(blocks)
            created = not self.path.exists()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.ftruncate(descriptor, self._size)  # what a failed flush may have left
                os.lseek(descriptor, self._size, os.SEEK_SET)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if created:
                files.sync_folder(self.path.parent)
            self._size += len(data)
            del self._sealed[: len(blocks)]

    def rewind(self, mark: Mapping[str, Any] | None, step: int) -> str | None:
        """Cut the journal back to a checkpoint's mark, or to nothing.

        Args:
            mark: what `seal` returned when the checkpoint was made; None to begin anew.
            step: the checkpoint's step, used when the journal itself was damaged.

        Returns:
            A sentence when lines that the checkpoint knew of are missing, else None.
        """
        size = int(mark["bytes"]) if mark else 0
        old = self.path.read_bytes() if self.path.exists() else b""
        kept, complaint = old[:size], None
        if mark and files.digest(kept) != mark["xxh3_128"]:
            kept = b"".join(line + b"\n" for line, record in _lines(old) if record["step"] <= step)
            complaint = (
                f"{self.path} was damaged after it was written: of its lines up to step {step}, those that can be read are kept. "
                "Training is not affected; the curve may have gaps."
            )
        if len(kept) != len(old):
            files.write_file(self.path, [kept])
        self._size = self._sealed_size = len(kept)
        self._hasher = xxhash.xxh3_128(kept)
        self._waiting.clear()
        self._sealed.clear()
        return complaint


class Unwritten(Journal):
    """The journal of all ranks but the first: what is logged is checked, and rank 0 writes its own."""

    def append(self, step: int, metrics: Mapping[str, Any], epoch: int | None = None) -> dict[str, Any]:  # noqa: D102
        numbers = super().append(step, metrics, epoch)
        self._waiting.clear()
        return numbers

    def rewind(self, mark: Mapping[str, Any] | None, step: int) -> str | None:  # noqa: D102, ARG002
        return None


def read(path: Path) -> list[dict[str, Any]]:
    """The journal's lines as dicts with floats for numbers; a torn last line is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [{key: _from_json(value) for key, value in record.items()} for _, record in _lines(data)]


def as_number(name: str, value: Any) -> int | float | str:
    """A metric as JSON: tensors and arrays of one element become numbers, NaN and infinities become words."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    try:
        number = float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"The metric {name!r} is {value!r:.80}; expected a number or an array of one element."
        ) from error
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return number


def _from_json(value: Any) -> Any:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _lines(data: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield line, record
