"""A store as many write it: overwrite in place, the newest name wins, no hashes. The harness must find it wanting."""

from __future__ import annotations

import json
import os
from pathlib import Path

from outlast.checkpoint import Checkpoint, OpenedCheckpoint, tensors
from outlast.checkpoint.record import StateRecord


class NaiveStore:
    cut_off = False
    nbytes, best = 0, None

    def __init__(self, folder, retention=None, allowance=None, ranks=None) -> None:
        self.retention, self.dropped = retention, []
        self.place = folder.checkpoints / "last"

    def commit(self, snapshot, before=lambda: None, durable=lambda: None):
        before()
        self._mkdir(self.place.parent)
        self._mkdir(self.place)
        for file in snapshot.files:
            self._write(self.place / f"{file.part}.safetensors", b"".join(bytes(piece) for piece in file.pieces()))
        self._write(self.place / "state.json", json.dumps(snapshot.state).encode())
        return self._checkpoint(snapshot.step)

    def open_newest(self):
        if not (self.place / "state.json").exists():
            return None, []
        data = (self.place / "state.json").read_bytes()
        state = StateRecord.read(data, self.place / "state.json", json.loads(data)["step"], 0)
        parts = {path.stem: tensors.decode(path.read_bytes(), path) for path in self.place.glob("*.safetensors")}
        return OpenedCheckpoint(self._checkpoint(state.step), state, parts), []

    def look(self):
        pass

    def adopt_slot(self):
        return None

    def sweep(self):
        pass

    def is_best(self, _metrics, _coming=None):
        return False

    def _checkpoint(self, step):
        facts = {"step": step, "reason": "", "files": {}, "metrics": {}, "software": {}, "digest": "0" * 32}
        return Checkpoint(self.place, facts)

    def _mkdir(self, path: Path) -> None:
        if not path.exists():
            os.mkdir(path)

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)
