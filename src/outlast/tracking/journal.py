"""journal.jsonl: the logged metrics, one JSON object per line, each step once even after a crash.

A line holds the step and the metrics, and no time, so that an interrupted run writes the same bytes as an uninterrupted
one. Lines are kept in memory until they are sealed and flushed: every few seconds, and before every
commit. The checkpoint records the journal's length, and a resume truncates the journal to it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from outlast.folder import copying, durable, plain
from outlast.terminal import clean
from outlast.tracking import reading

MOST = 20_000
"""Most metrics whose last values are kept in memory and in a checkpoint."""

_RESERVED = reading.PLACE
BLOCK_BYTES = 2**20
_WHOLE = 2**63  # beyond it, whole numbers are kept as floats
_SLACK = 64 * 2**20  # bytes that are searched for lines in a damaged journal, beyond twice what it should have
_LONGEST = 200  # characters of a text


class Journal:
    """The journal of one run, open for appending. One thread adds lines; another one may flush.

    Args:
        path: journal.jsonl, which is created by the first flush of a line.

    Attributes:
        was_longer: whether `rewind` has found lines after the checkpoint's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.was_longer = False
        self._waiting: list[str] = []  # added and not sealed
        self._sealed: list[bytes] = []  # to be written
        self._sealed_size = 0
        self._size = 0  # on the disk
        self._hasher = xxhash.xxh3_128()  # of all that is sealed
        self._names: dict[Any, tuple[str, str]] = {}  # as logged -> as written, alone and as the beginning of a member
        self._complained: set[Any] = set()
        self.complaints: list[str] = []  # messages for the user about logged metrics
        self._last: dict[str, tuple[int, Any]] = {}  # metric -> step and value
        self._last_since: int | None = None  # of a run begun by a version that did not keep them
        self._unsynced = self._created = False  # the file has lines, or its folder a name, that no fsync has followed
        self._lock = threading.Lock()

    def append(self, step: int, metrics: Mapping[str, Any], epoch: int | None = None) -> dict[str, Any]:
        """Add a line; it reaches the disk with a later flush. Returns the metrics as they are written.

        Values that cannot be written are left out, and `complaints` gets one message per name.
        """
        # The text that json.dumps would make, at a fifth of its time: this runs in every step.
        line = f'{{"step": {step}' if epoch is None else f'{{"step": {step}, "epoch": {epoch}'
        numbers: dict[str, Any] = {}
        for name, value in metrics.items():
            if type(value) is float and value - value == 0.0:
                kept: Any = value
                text = repr(value)
            else:
                try:
                    kept = as_written(value)
                except _Unwritable as complaint:
                    self._complain(
                        name,
                        f"The metric {clean(name)!r} is {complaint}, and the journal keeps numbers. It is left out.",
                    )
                    continue
                text = repr(kept) if isinstance(kept, int | float) else json.dumps(kept, ensure_ascii=False)
            key, key_text = self._names.get(name) or self._named(name)
            if key not in numbers:
                numbers[key] = kept
                if kept is not None:
                    self._last[key] = (step, kept)
                line += key_text + text
        self._waiting.append(line + "}\n")
        return numbers

    def _named(self, name: Any) -> tuple[str, str]:
        key = clean(name)
        if key in _RESERVED:
            self._complain(
                name, f"A metric named {key!r} is kept as 'metric/{key}': the journal writes the {key} itself."
            )
            key = f"metric/{key}"
        if len(self._names) >= MOST:
            self._names.clear()  # a loop that makes up names as it goes
            self._forget_names()
        self._names[name] = (key, f", {json.dumps(key, ensure_ascii=False)}: ")
        return self._names[name]

    def _complain(self, name: Any, sentence: str) -> None:
        if name not in self._complained and len(self._complained) < MOST:
            self._complained.add(name)
            self.complaints.append(sentence)

    def remember(self) -> tuple[int, dict[str, tuple[int, Any]]]:
        """The current end of the unsealed lines, for `take_back`."""
        return len(self._waiting), dict(self._last)

    def take_back(self, remembered: tuple[int, dict[str, tuple[int, Any]]]) -> None:
        """Drop the lines that were added since `remember`; none of them may be sealed."""
        size, self._last = remembered
        del self._waiting[size:]

    def seal(self) -> dict[str, Any]:
        """Mark the end of what the next flush writes: the lines so far, and no later ones.

        Returns:
            Length in bytes and xxh3-128 of the journal up to this point, for a checkpoint.
        """
        if self._waiting:
            data = "".join(self._waiting).encode()
            self._waiting.clear()
            self._hasher.update(data)
            self._sealed_size += len(data)
            self._sealed.append(data)
        return {"bytes": self._sealed_size, "xxh3_128": self._hasher.hexdigest()}

    def mark(self) -> dict[str, Any]:
        """The journal's mark in a checkpoint.

        It holds the result of `seal`, and the last value of every metric with its step, so that a metric which was
        logged ten million lines ago is known without reading them. If there are more than MOST metrics, those that were
        logged last are kept.
        """
        self._forget_names()
        found = self.seal() | {"last": {name: list(each) for name, each in self._last.items()}}
        return found if self._last_since is None else found | {"last_since": self._last_since}

    def _forget_names(self) -> None:
        if len(self._last) > MOST:
            newest = sorted(self._last.items(), key=lambda item: item[1][0])[-MOST:]
            self._last_since = max(self._last_since or 0, newest[0][1][0])
            self._last = dict(newest)

    def flush(self, *, durably: bool = True) -> None:
        """Write the sealed lines.

        Args:
            durably: also those that were written before and not durably. Without it, they outlive this process and not
                the machine.

        Raises:
            OSError: they could not be written. They stay sealed, and no line is lost while the process runs. The file
                is as long as before, or is truncated by the next flush.
        """
        with self._lock:
            blocks = list(self._sealed)
            if not blocks and not (durably and self._unsynced):
                return
            data = b"".join(blocks)
            created = not self.path.exists()
            descriptor = plain.open_plain(self.path, os.O_WRONLY | os.O_CREAT)
            try:
                os.ftruncate(descriptor, self._size)  # what a failed flush may have left
                os.lseek(descriptor, self._size, os.SEEK_SET)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                if durably:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._created = self._created or created
            if durably and self._created:
                durable.sync_folder(self.path.parent)
                self._created = False
            self._unsynced = not durably
            self._size += len(data)
            del self._sealed[: len(blocks)]

    def rewind(self, mark: Mapping[str, Any] | None, step: int) -> str | None:
        """Truncate the journal to a checkpoint's mark, or completely.

        Args:
            mark: the mark in the checkpoint; None to start over.
            step: the checkpoint's step, used when the journal itself was damaged.

        Returns:
            A message if lines from before the checkpoint are missing, else None.
        """
        if self._length() and os.lstat(self.path).st_nlink > 1:
            copying.copy_file(
                self.path, self.path
            )  # it has a second name elsewhere, such as in a backup, which is left as it is
        size, length = int(mark["bytes"]) if mark else 0, self._length()
        self._hasher = self._hash(min(size, length))
        complaint = None
        self.was_longer = length > size
        if mark and (length < size or self._hasher.hexdigest() != mark["xxh3_128"]):
            durable.write_file(self.path, self._up_to(step, 2 * size + _SLACK))
            size = self._length()
            self._hasher = self._hash(size)
            complaint = (
                f"{self.path} does not match the checkpoint at step {step}: it was damaged after it was written, or "
                f"was copied without it. Its readable lines up to step {step} are kept. "
                "Training is not affected; the curve may have gaps."
            )
        elif length > size:
            self._cut(size)
        self._size = self._sealed_size = size
        self._waiting.clear()
        self._sealed.clear()
        self._remember(mark)
        return complaint

    def _length(self) -> int:
        return os.lstat(self.path).st_size if plain.kind_of(self.path) == "file" else 0

    def _hash(self, size: int) -> xxhash.xxh3_128:
        """A hasher with the first bytes of the file.

        They are read block by block, because a journal may be larger than the memory.
        """
        hasher = xxhash.xxh3_128()
        if size:
            block = memoryview(bytearray(min(size, BLOCK_BYTES)))
            with os.fdopen(plain.open_plain(self.path), "rb", buffering=0) as file:
                while size and (count := file.readinto(block[:size])):
                    hasher.update(block[:count])
                    size -= count
        return hasher

    def _up_to(self, step: int, most: int) -> Iterator[bytes]:
        """The valid lines in the first bytes of the file, up to a step, in groups."""
        block = bytearray()
        with contextlib.suppress(FileNotFoundError):
            for line in reading.lines(self.path, 0, min(self._length(), most)):
                record = reading.parse(line)
                if record is not None and record["step"] <= step:
                    block += line + b"\n"
                if len(block) > BLOCK_BYTES:
                    yield bytes(block)
                    block.clear()
        yield bytes(block)

    def _cut(self, size: int) -> None:
        descriptor = plain.open_plain(self.path, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _remember(self, mark: Mapping[str, Any] | None) -> None:
        """Restore the last values from a checkpoint's mark, or else from the journal's end."""
        known = reading.remembered(mark)
        if not known.whole:
            known = reading.latest(self.path, mark)
        self._last = {name: (step, reading.as_words(value)) for name, (step, value) in known.last.items()}
        self._last_since = None if known.whole else -1 if known.since is None else known.since


class NullJournal(Journal):
    """The journal of all ranks except rank 0. It checks values and writes nothing."""

    def append(self, step: int, metrics: Mapping[str, Any], epoch: int | None = None) -> dict[str, Any]:  # noqa: D102
        numbers = super().append(step, metrics, epoch)
        self._waiting.clear()
        self._last.clear()
        return numbers

    def rewind(self, mark: Mapping[str, Any] | None, step: int) -> str | None:  # noqa: D102, ARG002
        return None


class _Unwritable(Exception):
    """A value that the journal cannot hold; the text names its type."""


def as_written(value: Any) -> int | float | str | None:
    """A metric as the journal stores it.

    Tensors and arrays of one element become numbers. NaN, infinities and numbers beyond float64 become text. None is
    unchanged, and text is shortened to 200 characters.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and -_WHOLE <= value <= _WHOLE:
        return int(value)
    try:
        number = float(value.item() if hasattr(value, "item") else value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    except Exception as error:  # whatever an object does when it is read, training continues
        if isinstance(value, str):
            return clean(value[:_LONGEST])
        shape = getattr(value, "shape", None)
        what = type(value).__qualname__
        raise _Unwritable(
            f"{what} of shape {tuple(shape)}" if isinstance(shape, tuple) and shape else f"of type {what}"
        ) from error
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return number
