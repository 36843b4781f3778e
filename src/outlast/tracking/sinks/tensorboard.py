"""TensorBoard: event files in a folder, written with TensorBoard's own record writer and messages.

A file is never changed after its process has ended, so points of steps that are repeated are taken back by the next
file: it begins with SessionLog.START at the first step that is sent again. TensorBoard 2.21 has three readers, and each
asks for something else (docs/decisions/0037-trackers.md):

- all of them read files in the order of their names, so the name of a new file sorts after all that are there;
- with --load_fast=false the first START of a folder takes nothing back, so it is written twice;
- the default reader ignores START and takes back, tag by tag, what is at or after a step that comes again. So the
  start is moved back to where each tag that has such points has a point that stays.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from outlast.folder import durable, hashing, plain
from outlast.terminal import command
from outlast.tracking import reading
from outlast.tracking.sinks.client import Mirrored, Picture, Sent
from outlast.tracking.sinks.feed import as_text

_PREFIX = "events.out.tfevents."
_TIME = re.compile(r"events\.out\.tfevents\.([0-9]{10,12})\.")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")
_MOST_TAGS = 5000
_MOST_FILES = 20_000


def open_client(folder: str | None = None) -> TensorBoard:
    """The client; `folder` as of `outlast.sinks.TensorBoard`."""
    return TensorBoard(Path(folder) if folder is not None else None)


class TensorBoard:
    """Writes one run's event files.

    Args:
        folder: parent of the folder of the run's files; None: they are in the run folder.
    """

    final = False

    def __init__(self, folder: Path | None = None) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._events, self._summaries, self._writer_class = event_pb2, summary_pb2, RecordWriter
        self._parent = folder
        self.notes: list[str] = []
        self._place = Path()
        self._config: Mapping[str, Any] = {}
        self._file: BinaryIO | None = None
        self._writer: Any = None
        self._files: dict[str, int] = {}  # name -> bytes that are durable
        self._tags: dict[str, int] = {}  # tag -> step of its last point
        self._shown: dict[str, str] = {}  # title of a text -> hash of what was written last
        self._start: int | None = 0
        self._step = 0

    def begin(self, run: Mirrored, state: Mapping[str, Any], known: Sent, last: Sent) -> Sent:
        """See `Client.begin`."""
        self.close()
        self._config = run.config
        self._place = run.folder / "tensorboard" if self._parent is None else self._parent / run.id
        root = run.folder.parent if self._parent is None else self._parent
        self.notes = [
            f"curves are in {self._place}; look at them with: {command('tensorboard', '--logdir', str(root))}"
        ]
        durable.make_folder(self._place)
        self._files, self._tags, self._shown = _remembered(state)
        sizes = {path.name: path.lstat().st_size for path in self._event_files()}
        if not self._files or any(sizes.get(name, -1) < size for name, size in self._files.items()):
            self._files, self._tags, self._shown, self._start = {}, {}, {}, 0
            return Sent(-1, -1)  # less than nothing: pictures are gone as well
        if known == last and sizes == self._files:
            self._start = None
            return known
        # Points that are not part of the journal, or were written after it was last known how many there are.
        gone = {tag for tag, step in self._tags.items() if step > known.step}
        self._start = max(0, min([known.step, *_last_before(run.journal, known.step, gone)]))
        self._tags = {tag: step for tag, step in self._tags.items() if tag not in gone}
        return Sent(self._start - 1, 2**63)

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        """See `Client.send`."""
        value = self._summaries.Summary.Value
        for record in records:
            self._step = step = record["step"]
            points = []
            for tag, number in record.items():
                if tag not in reading.PLACE and not isinstance(number, str):
                    points.append(value(tag=tag, simple_value=_float32(number)))
                    if tag in self._tags or len(self._tags) < _MOST_TAGS:
                        self._tags[tag] = step
            if points:
                self._write(step, points)

    def picture(self, picture: Picture) -> None:
        """See `Client.picture`."""
        data = plain.read_plain(picture.path, 2**28)
        height, width = _size_of(data)
        image = self._summaries.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        self._write(picture.step, [self._summaries.Summary.Value(tag=picture.name, image=image)])

    def flush(self) -> Mapping[str, Any]:
        """See `Client.flush`."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._files[Path(self._file.name).name] = self._file.tell()
        return {"files": dict(self._files), "tags": dict(self._tags), "texts": dict(self._shown)}

    def ended(self, reason: str, step: int) -> None:
        """See `Client.ended`."""
        self._show("end", f"{reason} at step {step}", step)

    def close(self) -> None:
        """See `Client.close`."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = self._writer = None

    def _event_files(self) -> list[Path]:
        return [path for path in plain.entries(self._place) if "tfevents" in path.name]

    def _write(self, step: int, values: Sequence[Any]) -> None:
        if self._writer is None:
            self._open()
        self._add(step=step, summary=self._summaries.Summary(value=values))

    def _add(self, **contents: Any) -> None:
        self._writer.write(self._events.Event(wall_time=time.time(), **contents).SerializeToString())

    def _open(self) -> None:
        """Begin a file whose name sorts after all that are there."""
        there = [path.name for path in self._event_files()]
        self._file = (self._place / next_name(there)).open("xb")
        self._writer = self._writer_class(self._file)
        self._files[Path(self._file.name).name] = 0
        self._add(file_version="brain.Event:2")
        if self._start is not None:
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            for _ in range(2):
                self._add(step=self._start, session_log=start)
            self._start = None
        if self._config:
            self._show("config", f"```\n{as_text(dict(self._config))}\n```", 0)

    def _show(self, title: str, text: str, step: int) -> None:
        """Show a text, unless it is shown already."""
        digest = hashing.digest(text.encode("utf-8", "replace"))
        if self._shown.get(title) == digest:
            return
        from tensorboard.compat.proto import tensor_pb2, types_pb2

        self._shown[title] = digest
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[text.encode("utf-8", "replace")])
        plugin = self._summaries.SummaryMetadata.PluginData(plugin_name="text")
        metadata = self._summaries.SummaryMetadata(plugin_data=plugin)
        value = self._summaries.Summary.Value(tag=f"outlast/{title}", metadata=metadata, tensor=tensor)
        self._write(step, [value])


def next_name(there: Sequence[str], now: float | None = None) -> str:
    """A name for an event file that sorts after all that are there, also if the clock is behind theirs."""
    newest = max((int(found[1]) for name in there if (found := _TIME.match(name))), default=-1)
    stamp = max(int(time.time() if now is None else now), newest + 1)
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:60] or "host"
    name = f"{_PREFIX}{stamp:010d}.{host}.{os.getpid()}.outlast"
    last = max(there, default="")
    return name if name > last else f"{last}.outlast"


def _float32(number: float) -> float:
    """A number as event files hold it; what is beyond float32 is infinite."""
    try:
        struct.pack("<f", number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
    return number


def _remembered(state: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
    """Files, tags and texts of the last time; nothing if they are not of their kinds."""
    files, tags = _numbers(state.get("files")), _numbers(state.get("tags"))
    texts = state.get("texts")
    if not isinstance(texts, dict) or len(files) > _MOST_FILES or not all(_NAME.fullmatch(name) for name in files):
        return {}, {}, {}
    return files, tags, {str(key): str(value) for key, value in texts.items()}


def _numbers(found: Any) -> dict[str, int]:
    whole = isinstance(found, dict) and all(type(each) is int for each in found.values())
    return dict(found) if whole else {}


def _last_before(journal: Path, step: int, tags: set[str]) -> list[int]:
    """For each of these tags, the step of its last point before a step; a tag without one is left out."""
    found: dict[str, int] = {}
    if tags:
        for record in reading.records(journal):
            if record["step"] >= step:
                break
            for name in tags & record.keys():
                found[name] = record["step"]
    return list(found.values())


def _size_of(data: bytes) -> tuple[int, int]:
    """Height and width of a PNG or GIF. Of others 1 and 1: only a viewer without the picture's data uses them."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return min(height, 2**30), min(width, 2**30)
    if data[:4] == b"GIF8" and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return height, width
    return 1, 1
