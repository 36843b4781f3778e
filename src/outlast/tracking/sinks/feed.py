"""Sends a run folder's journal to a tracker, from where it was left.

The journal is the truth and a tracker is its copy, so that live training and `outlast sync` are the same: read what is
new, send it, remember how far it went. Each step arrives once, whenever the process that sends is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from outlast.checkpoint.listing import steps_in
from outlast.errors import OutlastError, UsageError
from outlast.folder import durable, flock, plain, reading
from outlast.folder.artifact import manifests_in, read_manifest
from outlast.folder.attempt import read_record
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.folder.schemas import CONFIG, RUN
from outlast.tracking import reading as journal_lines
from outlast.tracking.sink import without_secrets
from outlast.tracking.sinks import marks
from outlast.tracking.sinks.client import Client, Mirrored, Picture, Sent
from outlast.tracking.sinks.marks import Mark, Memory

GROUP = 500
"""Lines that are sent at once."""

PICTURES = (".png", ".jpg", ".jpeg", ".gif")
LARGEST_PICTURE = 20 * 2**20
_MOST_PICTURES = 10_000


def mirrored(folder: RunFolder, config: dict[str, Any] | None = None) -> Mirrored:
    """A run as trackers show it, from its records.

    Args:
        folder: the run folder.
        config: the values of this attempt; by default those of config.json.

    Raises:
        UsageError: it is not a run folder, or the run was begun by a version that gave it no uid.
        CorruptCheckpoint: a record is damaged.
    """
    try:
        about = reading.read_record(folder.run, RUN)
    except FileNotFoundError:
        raise UsageError(f"{folder.path} is not a run folder: it has no run.json.") from None
    if "uid" not in about:
        raise UsageError(f"{folder.path} was written by an older outlast. Continue the run once; then it can be sent.")
    if config is None:
        with contextlib.suppress(FileNotFoundError):
            config = without_secrets(reading.read_record(folder.config, CONFIG)["values"])
    known = {key: about[key] for key in ("recipe", "grade", "chain") if about.get(key) is not None}
    path = folder.path.resolve()
    return Mirrored(path.name, about["uid"], path, folder.journal, config or {}, known)


class Feed:
    """Sends one run to one tracker. Only one process at a time does.

    Args:
        folder: the run folder.
        name: the tracker's name, for the file that remembers what was sent.
        client: the tracker.
        artifacts: the folder of the run's artifacts, where it is not the run folder's own.

    Attributes:
        lines: journal lines that were sent.
        pictures: pictures that were sent.
        waiting: whether the journal has lines that are not sent yet because an attempt may repeat their steps.
    """

    def __init__(self, folder: RunFolder, name: str, client: Client, artifacts: Path | None = None) -> None:
        self.lines = self.pictures = 0
        self.waiting = False
        self._folder, self._client = folder, client
        self._artifacts = artifacts or folder.artifacts
        self._path = folder.trackers / f"{name}.json"
        self._lock = _Lock(folder.trackers / f"{name}.lock")
        self._uid = ""
        self._memory = Memory((), {}, {})
        self._sent = Sent()  # what the tracker has
        self._at, self._step, self._count = 0, -1, 0  # offset of the next line; step of the last one, and its number
        self._begun_at = 0  # offset of the first line of that step
        self._hasher = marks.newest_that_holds((), folder.journal)[1]  # of all before that offset
        self._step_lines: list[bytes] = []

    def take(self) -> bool:
        """Become the process that sends; False if another one is."""
        return self._lock.take()

    def begin(self, config: dict[str, Any] | None = None) -> None:
        """Open the tracker and find out how much it has. Called again after an error, or when the journal was cut.

        Raises:
            OutlastError: the run folder is none, or damaged.
            Exception: whatever the tracker's library raises.
        """
        run = mirrored(self._folder, config)
        self._uid = run.uid
        self._memory = memory = marks.read(self._path, run.uid)
        mark, self._hasher = marks.newest_that_holds(memory.marks, self._folder.journal)
        last = memory.marks[-1].sent if memory.marks else Sent()
        known = mark.sent if mark else Sent()
        sent = self._client.begin(run, memory.state, known, last)
        if mark is not None and mark.sent.step > sent.step:  # the tracker has lost some, or takes them back
            earlier = [each for each in memory.marks if each.sent.step <= sent.step]
            mark, self._hasher = marks.newest_that_holds(earlier, self._folder.journal)
        pictures = memory.pictures
        if sent != known and not self._client.final:  # it has taken back what comes after
            pictures = {name: each for name, each in pictures.items() if _step_of(each) <= sent.step}
        kept = tuple(each for each in memory.marks if mark and each.bytes <= mark.bytes)
        self._memory = Memory(kept, memory.state, pictures)
        self._sent = sent
        self._at = self._begun_at = mark.bytes if mark else 0
        self._step, self._count, self._step_lines = (mark.sent.step if mark else -1), 0, []

    def catch_up(self, *, stop: Callable[[], bool] = lambda: False) -> int:
        """Send what is new; returns the number of lines.

        Args:
            stop: asked between two groups of lines.

        Raises:
            Rewound: the journal is shorter than what was read of it. Call `begin` again.
        """
        until = self._final() if self._client.final else None
        before, group = self.lines, list[dict[str, Any]]()
        self.waiting = False
        end = _end_of(self._folder.journal)
        if end < self._at:
            raise Rewound(f"{self._folder.journal} was cut back.")
        for line in _lines(self._folder.journal, self._at, end):
            record = journal_lines.parse(line)
            if record is not None and until is not None and record["step"] > until:
                self.waiting = True
                break
            self._pass(line, record)
            if record is not None and Sent(self._step, self._count) > self._sent:
                group.append(record)
            if len(group) >= GROUP:
                self._send(group)
                group = []
                if stop():
                    break
        self._send(group)
        self._send_pictures(until)
        return self.lines - before

    def keep(self) -> None:
        """Make durable what was sent, and remember it."""
        state = self._client.flush()
        end = self._hasher.copy()
        for line in self._step_lines:
            end.update(line)
        sent = Sent(self._step, self._count)
        mark = Mark(self._begun_at, self._hasher.hexdigest(), sent, self._at, end.hexdigest())
        if self._step >= 0 and Sent(self._step, self._count) >= self._sent:
            kept = [each for each in self._memory.marks if each.bytes < mark.bytes]
            self._memory = Memory((*kept, mark), state, self._memory.pictures)
        memory = Memory(self._memory.marks, state, self._memory.pictures)
        if memory != marks.read(self._path, self._uid):
            marks.write(self._path, self._uid, memory)

    def end(self) -> None:
        """Tell the tracker how the newest attempt ended, if it has ended."""
        if (ended := self.how_it_ended()) is not None:
            self._client.ended(*ended)

    def how_it_ended(self) -> tuple[str, int] | None:
        """End reason and step of the newest attempt; None while it works, or if it was killed."""
        numbers = self._folder.attempt_numbers()
        found = read_record(self._folder, numbers[-1]).get("end") if numbers else None
        return (found["reason"], found.get("step", 0)) if found else None

    def close(self) -> None:
        """Close the tracker, and let another process send."""
        try:
            self._client.close()
        finally:
            self._lock.close()

    def _pass(self, line: bytes, record: dict[str, Any] | None) -> None:
        """Count a line."""
        if record is not None and record["step"] != self._step:
            for each in self._step_lines:
                self._hasher.update(each)
            self._begun_at = self._at
            self._step, self._count, self._step_lines = record["step"], 0, []
        self._count += record is not None
        self._step_lines.append(line)
        self._at += len(line)

    def _send(self, group: list[dict[str, Any]]) -> None:
        if group:
            self._client.send(group)
            self._sent = Sent(self._step, self._count)
            self.lines += len(group)

    def _final(self) -> int:
        """The step up to which no attempt repeats a step: that of the newest checkpoint, or all of a finished run."""
        if (ended := self.how_it_ended()) and ended[0] == "finished":
            return 2**63
        steps = sorted(steps_in(self._folder.checkpoints), reverse=True)
        return next((step for step in steps if plain.kind_of(self._folder.checkpoint(step) / MANIFEST) == "file"), -1)

    def _send_pictures(self, until: int | None) -> None:
        known = dict(self._memory.pictures)
        for picture, digest in _pictures(self._artifacts):
            if (until is not None and picture.step > until) or len(known) >= _MOST_PICTURES:
                continue
            if known.get(picture.name, [None])[0] != digest:
                self._client.picture(picture)
                known[picture.name] = [digest, picture.step]
                self.pictures += 1
        self._memory = Memory(self._memory.marks, self._memory.state, known)


class Rewound(OutlastError):
    """The journal was cut back while it was read: another attempt has begun."""


class _Lock:
    """The lock of those that send one run to one tracker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        if self._descriptor is None:
            durable.make_folder(self._path.parent)
            self._descriptor = plain.open_plain(self._path, os.O_RDWR | os.O_CREAT)
        return flock.flock(self._descriptor) is not False

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _step_of(each: Any) -> int:
    return each[1] if isinstance(each, list) and len(each) == 2 and type(each[1]) is int else -1


def _end_of(journal: Path) -> int:
    """The offset after the last complete line."""
    found = next(iter(journal_lines.backwards(journal, 1)), None)
    return found[0] + len(found[1]) + 1 if found else 0


def _lines(journal: Path, start: int, end: int) -> Iterator[bytes]:
    """The lines between two offsets, with their newline; a line that is too long comes in pieces."""
    if end <= start:
        return
    with journal_lines.opened(journal) as file:
        file.seek(start)
        left = end - start
        while left > 0 and (line := file.readline(min(journal_lines.LONGEST, left))):
            left -= len(line)
            yield line


def _pictures(folder: Path) -> Iterator[tuple[Picture, str]]:
    """The pictures among a run's artifacts, and their hashes, as their manifests state them."""
    for path in manifests_in(folder):
        try:
            record = read_manifest(path)
        except (OutlastError, OSError):
            continue
        for name, entry in record["files"].items():
            file = path.parent / name
            if name.lower().endswith(PICTURES) and entry["size"] <= LARGEST_PICTURE and plain.kind_of(file) == "file":
                yield Picture(file.relative_to(folder).as_posix(), record.get("step") or 0, file), entry["sha256"]


def as_text(values: Any) -> str:
    """A config as the text of a page."""
    return json.dumps(values, indent=1, sort_keys=True, default=str, ensure_ascii=False)
