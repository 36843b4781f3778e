"""Small runs of NumPy alone, and means to forge what their folders say, hashes and all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import outlast
from outlast.checkpoint import Checkpoint, CheckpointStore
from outlast.checkpoint.manifest import digest_of
from outlast.environment import Environment, Limits
from outlast.errors import SessionEnded
from outlast.folder import hashing
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.run.loop import Loop


class Walk:
    """A little state: an array and a number."""

    def __init__(self) -> None:
        self.position, self.count = np.zeros(3), 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, self.count = state["position"], state["count"]


def walk(
    root: Path, *, stop: int, total: int = 20, inputs: Sequence[Path] = (), name: str = "r", last: int = 3
) -> outlast.Run:
    """Train up to a step, with a checkpoint at every second one; returns the closed run."""
    thing = Walk()
    environment = Environment("local", Limits(seconds=None, ram=2**34, cores=2), inputs=tuple(inputs))
    try:
        with outlast.open_run(
            name, total_steps=total, root=root, save="2 steps", keep=outlast.Retention(last=last), progress="none",
            environment=environment, background=False,
        ) as run:  # fmt: skip
            run.track(walk=thing)
            for step in run.steps():
                thing.position = thing.position + np.random.rand(3)
                thing.count += 1
                run.log(count=thing.count)
                if step == stop:
                    run.session.request_stop("budget", "a test asks")
    except SessionEnded:
        pass
    return run


def told(root: Path, name: str = "r") -> str:
    """What the newest attempt was told."""
    newest = max((root / name / "attempts").glob("*.json"))
    return "\n".join(json.loads(newest.read_text())["told"])


def steps(root: Path, name: str = "r") -> list[int]:
    """Steps of the checkpoints."""
    return [int(path.name[5:]) for path in sorted((root / name / "checkpoints").glob("step-*"))]


def inside(run: outlast.Run) -> Loop:
    """The loop behind the façade, with attempt, parts and saver: for tests that watch a run while it works."""
    return run._loop


def committed(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a run folder, ascending by step."""
    return CheckpointStore(RunFolder(folder)).committed()


def manifest_of(checkpoint: Path) -> dict[str, Any]:
    """Its manifest, to be changed."""
    return json.loads((checkpoint / MANIFEST).read_text())


def seal(checkpoint: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with the digest that fits it."""
    manifest.pop("digest", None)
    (checkpoint / MANIFEST).write_text(json.dumps({**manifest, "digest": digest_of(manifest)}))


def forge(checkpoint: Path, name: str, data: bytes) -> None:
    """Replace a file of a checkpoint, and let its manifest vouch for it."""
    (checkpoint / name).write_bytes(data)
    manifest = manifest_of(checkpoint)
    entry = manifest["files"].get(name, {})
    manifest["files"][name] = {**entry, **hashing.hash_pieces([data]).as_json()}
    seal(checkpoint, manifest)


def as_format_1(folder: Path) -> None:
    """Make a run folder what an outlast that wrote format 1 would have left."""
    for path in [folder / "run.json", folder / "config.json", *(folder / "attempts").glob("*.json")]:
        if path.exists():
            record = {
                key: value
                for key, value in json.loads(path.read_text()).items()
                if key not in ("uid", "format_1_until")
            }
            path.write_text(json.dumps({**record, "format": 1}))
    for path in (folder / "checkpoints").glob("step-*"):
        kept = {key: value for key, value in manifest_of(path).items() if key not in ("run", "attempt", "lineage")}
        seal(path, {**kept, "format": 1})


def place(root: Path, name: str = "r") -> RunFolder:
    """The run folder."""
    return RunFolder(root / name)
