"""Weights & Biases: one W&B run for a run, in all its sessions; offline where there is no key.

W&B renumbers the steps of a run that continues (`_step`), so each row has the step of the run as `step`, which is the
axis of all metrics. Rows cannot be taken back. Offline, the rows that reached the disk are read from the run's own
files: a killed process loses those of its last seconds, and they are written again.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError
from outlast.folder import durable, plain
from outlast.terminal import command
from outlast.tracking.sinks.client import Mirrored, Picture, Sent

_ALL = 2**63
_BLOCK = 32 * 2**10
_HEAD = struct.Struct("<IHB")
_LARGEST = 64 * 2**20
_START = 7  # bytes before the first record of a file


def open_client(project: str | None = None, entity: str | None = None, mode: str | None = None) -> WandB:
    """The client; arguments as of `outlast.sinks.WandB`."""
    return WandB(project, entity, mode)


class WandB:
    """Sends one run.

    Args:
        project: name of the project; default: WANDB_PROJECT, else "outlast".
        entity: user or team; W&B's default if None.
        mode: "online" or "offline"; default: WANDB_MODE, else online if there is a key.
    """

    final = True

    def __init__(self, project: str | None, entity: str | None, mode: str | None) -> None:
        import wandb
        from wandb.proto import wandb_internal_pb2

        self._wandb, self._records = wandb, wandb_internal_pb2
        self._project = project or os.environ.get("WANDB_PROJECT") or "outlast"
        self._entity = entity
        keyed = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        self._mode = mode or os.environ.get("WANDB_MODE") or keyed
        self._shown: Any = None
        self._run = Mirrored("", "", Path(), Path())
        self._place = Path()
        self._name: Any = None  # of the newest folder of offline files
        self._end: Any = None
        self._failed = False
        self.notes: list[str] = []

    def begin(self, run: Mirrored, state: Mapping[str, Any], known: Sent, last: Sent) -> Sent:  # noqa: ARG002
        """See `Client.begin`."""
        self.close()
        self._run, self._place = run, run.folder / "trackers" / "wandb"
        durable.make_folder(self._place)
        self._end, self._name = state.get("end"), state.get("folder")
        if self._mode == "online":
            shown = self._opened()
            self.notes = [f"curves are at {shown.url}"]
            step = shown.summary.get("step")
            there = Sent(step, _ALL) if type(step) is int else Sent()
            return last if last.step == there.step else there
        pattern = f"{command(str(self._place / 'wandb'))}/offline-run-*"
        self.notes = [f"the run is written to {self._place}; upload it with: wandb sync {pattern}"]
        there = self._sent_offline(self._place / "wandb", run.uid)
        if isinstance(self._name, str) and plain.kind_of(self._place / "wandb" / Path(self._name).name) is None:
            self.notes = [f"{self._place} no longer holds what was written there before; it is taken as uploaded"]
            return max(there, last)
        return there

    def _opened(self) -> Any:
        """The W&B run. Offline, each process that has something to send writes a folder of its own."""
        if self._shown is not None:
            return self._shown
        settings = self._wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, disable_job_creation=True, save_code=False
        )
        shown = self._wandb.init(
            id=self._run.uid,
            name=self._run.id,
            project=self._project,
            entity=self._entity,
            dir=str(self._place),
            mode=self._mode,
            resume="allow",
            config=dict(self._run.config),
            settings=settings,
        )
        shown.define_metric("step")
        shown.define_metric("*", step_metric="step")
        self._shown, self._name = shown, Path(shown.dir).parent.name
        return shown

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        """See `Client.send`."""
        for record in records:
            self._opened().log(dict(record))

    def picture(self, picture: Picture) -> None:
        """See `Client.picture`."""
        self._opened().log({"step": picture.step, picture.name: self._wandb.Image(str(picture.path))})

    def flush(self) -> Mapping[str, Any]:
        """See `Client.flush`. W&B writes when it likes, so `begin` looks at what was written."""
        return {"folder": self._name, "end": self._end}

    def ended(self, reason: str, step: int) -> None:
        """See `Client.ended`."""
        text = f"{reason} at step {step}"
        if text != self._end:
            self._opened().summary["outlast/end"] = self._end = text
        self._failed = reason == "failed"

    def close(self) -> None:
        """See `Client.close`."""
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.finish(exit_code=1 if self._failed else 0)
            self._wandb.teardown()  # offline, `finish` of wandb 0.31.0 returns before the rows are on the disk

    def _sent_offline(self, place: Path, uid: str) -> Sent:
        """What the files of earlier processes have."""
        rows: dict[int, int] = {}
        for folder in plain.entries(place):
            for data in _records(folder / f"run-{uid}.wandb"):
                record = self._records.Record()
                with contextlib.suppress(Exception):  # a damaged record is no row
                    record.ParseFromString(data)
                    items = {(item.key or "/".join(item.nested_key)): item.value_json for item in record.history.item}
                    step = json.loads(items.get("step", "null"))
                    if type(step) is int and not any('"_type"' in value for value in items.values()):
                        rows[step] = rows.get(step, 0) + 1
        newest = max(rows, default=-1)
        return Sent(newest, rows.get(newest, 0))


def _records(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: a log in blocks of 32 KiB, as LevelDB's. A torn end is left out.

    Each part of a record has a checksum (not compared: a wrong one is no row), a length and a kind: 1 is a whole
    record, 2 the first part, 3 one in between, 4 the last one.
    """
    try:
        file = os.fdopen(plain.open_plain(path), "rb")
    except (OSError, OutlastError):
        return
    with file:
        parts = [file.read(_START)][1:]
        while True:
            left = _BLOCK - file.tell() % _BLOCK
            if left < _HEAD.size:
                file.read(left)
                continue
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            _, size, kind = _HEAD.unpack(head)
            data = file.read(size)
            if len(data) < size or kind not in (1, 2, 3, 4):
                return
            parts = [data] if kind in (1, 2) else [*parts, data]
            if kind in (1, 4) and sum(map(len, parts)) <= _LARGEST:
                yield b"".join(parts)
