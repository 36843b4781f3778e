"""The store: commits checkpoints, verifies them, finds the newest good one, forgets the others.

It knows files and hashes. It does not know what a step means, nor any framework. A checkpoint is a folder:

    step-00001200/model.safetensors  optimizer.safetensors  rng.safetensors  state.json  MANIFEST.json

Data first, then the manifest, then retention. Without a manifest the folder does not count.
The background writer has its seam here: `commit` takes a finished `Snapshot` and needs nothing else of the run.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast import files
from outlast.checkpoint import tensors
from outlast.checkpoint.policy import Kept, Retention
from outlast.errors import CheckpointError, CorruptCheckpoint, NoGoodCheckpoint, SaveFailed
from outlast.files import MANIFEST, STATE, TENSORS, RunFolder, Written
from outlast.state.array import Array

SPARE = 16 * 2**20
"""Bytes that must stay free beside a checkpoint: journal, attempt record, lock."""


@dataclass(frozen=True)
class Snapshot:
    """A state at a step, ready to be written.

    Attributes:
        step: steps done.
        reason: why it is saved: "steps", "time", "epoch", "best", "asked", "final" or an end reason.
        parts: part name -> array name -> array; one safetensors file each.
        state: everything that is not an array, as JSON.
        metrics: values logged at this step, for retention.
        software: versions and device that produced it, for the resume grade.
    """

    step: int
    reason: str
    parts: Mapping[str, Mapping[str, Array]]
    state: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    software: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of array data."""
        return sum(array.nbytes for arrays in self.parts.values() for array in arrays.values())


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: its folder and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.manifest["step"])

    @property
    def reason(self) -> str:
        """Why it was saved."""
        return str(self.manifest["reason"])

    @property
    def metrics(self) -> dict[str, float]:
        """Values logged at its step."""
        return {name: float(value) for name, value in self.manifest["metrics"].items()}

    @property
    def nbytes(self) -> int:
        """Size of its files in bytes."""
        return sum(int(entry["size"]) for entry in self.manifest["files"].values())

    @property
    def kept(self) -> Kept:
        """What retention may know about it."""
        return Kept(self.step, self.metrics)


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose files have been read and found to be what the manifest says."""

    checkpoint: Checkpoint
    state: dict[str, Any]
    parts: dict[str, dict[str, Array]]


class Store:
    """The checkpoints of one run folder.

    Args:
        folder: the run folder.
        retention: what to keep after each commit.
        allowance: bytes that the run folders beside this one and itself may take in all; None when only the disk limits them.
    """

    def __init__(self, folder: RunFolder, retention: Retention | None = None, allowance: int | None = None) -> None:
        self.folder = folder
        self.allowance = allowance
        self.retention = retention or Retention()

    # writing ---------------------------------------------------------------------------------------------------

    def commit(self, snapshot: Snapshot) -> Checkpoint:
        """Write a checkpoint, durably and all or nothing, then apply retention.

        Raises:
            SaveFailed: it did not reach the disk. Nothing of it is visible and no earlier checkpoint was touched.
        """
        target = self.folder.checkpoint(snapshot.step)
        begun = time.monotonic()
        try:
            self._check_space(snapshot)
            files.make_folder(self.folder.checkpoints)
            if self.exists(snapshot.step):
                return read_manifest(target)
            files.remove_folder(target)  # what a killed attempt may have left; it has no manifest
            files.make_folder(target)
            written = self._write_data(snapshot, target)
            files.sync_folder(target)
            manifest = _manifest(snapshot, written, time.monotonic() - begun)
            files.write_json(target / MANIFEST, manifest)
        except OSError as error:
            self._discard(target)
            raise SaveFailed(
                f"The checkpoint at step {snapshot.step} ({snapshot.nbytes / 2**20:.1f} MiB) could not be written: "
                f"{error.strerror or error} ({target}). Earlier checkpoints are intact. Free disk space or check the folder's permissions."
            ) from error
        checkpoint = Checkpoint(target, manifest)
        self.forget()
        return checkpoint

    def forget(self) -> list[int]:
        """Delete what the retention policy no longer wants; returns the steps deleted. A failure to delete is no harm."""
        removed = []
        for step in self.retention.removable([checkpoint.kept for checkpoint in self.committed()]):
            try:
                files.remove_folder(self.folder.checkpoint(step))
            except OSError:
                continue  # what is left lies there until the next commit tries again
            removed.append(step)
        return removed

    def sweep(self) -> None:
        """Delete what killed writers left: temporary files, and checkpoint folders without a manifest."""
        files.sweep_temporaries(self.folder.checkpoints)
        for path in self._folders():
            if not (path / MANIFEST).exists():
                files.remove_folder(path)
            else:
                files.sweep_temporaries(path)

    # reading ---------------------------------------------------------------------------------------------------

    def committed(self) -> list[Checkpoint]:
        """Committed checkpoints with a readable manifest, ascending by step. Their data is not verified here."""
        found = []
        for path in self._folders():
            try:
                found.append(read_manifest(path))
            except CheckpointError:
                continue
        return found

    def exists(self, step: int) -> bool:
        """Whether a checkpoint with a manifest stands at this step."""
        return (self.folder.checkpoint(step) / MANIFEST).exists()

    def open_newest(self) -> tuple[Opened | None, list[CorruptCheckpoint]]:
        """Open the newest checkpoint that verifies and set aside the damaged ones above it.

        Returns:
            The checkpoint, or None when there is none at all; and what was wrong with each that was set aside.

        Raises:
            NoGoodCheckpoint: there are checkpoints and none verifies; nothing was moved.
        """
        candidates = [path for path in reversed(self._folders()) if (path / MANIFEST).exists()]
        damaged: list[CorruptCheckpoint] = []
        for index, path in enumerate(candidates):
            try:
                opened = open_checkpoint(path)
            except CorruptCheckpoint as error:
                damaged.append(error)
                continue
            for bad in candidates[:index]:
                self._set_aside(bad)
            return opened, damaged
        if damaged:
            raise NoGoodCheckpoint(
                f"None of the {len(damaged)} checkpoints in {self.folder.checkpoints} verifies, so training does not start: "
                "going on would mean beginning again in silence.\n"
                + "\n".join(f"  {error}" for error in damaged)
                + "\nBring back an intact copy, or begin a new run under another name (--experiment-name)."
            )
        return None, []

    def _folders(self) -> Sequence[Path]:
        if not self.folder.checkpoints.is_dir():
            return []
        found = [
            path for path in self.folder.checkpoints.iterdir() if files.step_of(path) is not None and path.is_dir()
        ]
        return sorted(found, key=lambda path: files.step_of(path) or 0)

    def _set_aside(self, path: Path) -> None:
        files.make_folder(self.folder.set_aside)
        number = 1
        while (target := self.folder.set_aside / f"{path.name}-{number}").exists():
            number += 1
        files.move(path, target)

    def _check_space(self, snapshot: Snapshot) -> None:
        place = self.folder.path
        free, needed = shutil.disk_usage(place).free, snapshot.nbytes + SPARE
        if self.allowance is not None:
            taken = sum(path.stat().st_size for path in place.parent.rglob("*") if path.is_file())
            if taken + needed > self.allowance:
                raise SaveFailed(
                    f"The checkpoint at step {snapshot.step} needs {needed / 2**20:.0f} MiB, and of the {self.allowance / 2**20:.0f} MiB that "
                    f"this platform keeps, {place.parent} has taken {taken / 2**20:.0f}. Nothing was written and earlier checkpoints are "
                    "intact. Keep fewer with --keep-last, or delete other runs."
                )
        if free < needed:
            raise SaveFailed(
                f"The checkpoint at step {snapshot.step} needs {needed / 2**20:.0f} MiB and {place} has {free / 2**20:.0f} MiB "
                "free. Nothing was written and earlier checkpoints are intact. Free space, or keep fewer with --keep-last."
            )

    def _write_data(self, snapshot: Snapshot, target: Path) -> dict[str, Written]:
        written = {}
        for part, arrays in snapshot.parts.items():
            if arrays:
                name = part + TENSORS
                written[name] = files.write_file(target / name, tensors.encode(arrays), durable_name=False)
        written[STATE] = files.write_json(target / STATE, snapshot.state, durable_name=False)
        return written

    def _discard(self, target: Path) -> None:
        try:
            files.remove_folder(target)
        except OSError:
            return  # without a manifest it does not count; the next attempt sweeps it


def read_manifest(path: Path) -> Checkpoint:
    """Read and check the manifest of a checkpoint folder; the data files are not read.

    Raises:
        CorruptCheckpoint: there is no manifest, or it was damaged.
    """
    place = path / MANIFEST
    try:
        manifest = files.read_json(place)
    except OSError as error:
        raise CorruptCheckpoint(
            f"{place} cannot be read ({error.strerror}); without it there is no checkpoint."
        ) from error
    files.check_format(manifest, place)
    if manifest.get("digest") != _manifest_digest(manifest):
        raise CorruptCheckpoint(f"{place} was changed after it was written: its own digest does not match.")
    return Checkpoint(path, manifest)


def open_checkpoint(path: Path) -> Opened:
    """Read a checkpoint and verify every byte of it against the manifest.

    Raises:
        CorruptCheckpoint: names the file that is missing, of another length or of another hash.
    """
    checkpoint = read_manifest(path)
    parts: dict[str, dict[str, Array]] = {}
    state: dict[str, Any] = {}
    for name, entry in checkpoint.manifest["files"].items():
        data = _verified(path / name, Written(entry["size"], entry["xxh3_128"]))
        if name == STATE:
            state = json.loads(data)
        else:
            parts[name.removesuffix(TENSORS)] = tensors.decode(data, path / name)
    return Opened(checkpoint, state, parts)


def verify(path: Path) -> Checkpoint:
    """Re-read and re-hash every file of a checkpoint; raises CorruptCheckpoint as `open_checkpoint` does."""
    return open_checkpoint(path).checkpoint


def _verified(path: Path, expected: Written) -> bytes:
    try:
        size = path.stat().st_size
        if size != expected.size:
            raise CorruptCheckpoint(f"{path} has {size} bytes; the manifest says {expected.size}.")
        data = path.read_bytes()  # not mapped: a bad sector must be an error here, not a SIGBUS later
        if files.digest(data) != expected.xxh3_128:
            raise CorruptCheckpoint(
                f"{path} was changed after it was written: its hash is not the one in the manifest."
            )
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror}.") from error
    return data


def _manifest(snapshot: Snapshot, written: Mapping[str, Written], seconds: float) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "format": files.FORMAT,
        "step": snapshot.step,
        "reason": snapshot.reason,
        "files": {name: {"size": file.size, "xxh3_128": file.xxh3_128} for name, file in written.items()},
        "metrics": {name: value for name, value in snapshot.metrics.items() if math.isfinite(value)},
        "software": dict(snapshot.software),
        "written": {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(seconds, 4)},
    }
    manifest["digest"] = _manifest_digest(manifest)
    return manifest


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return files.digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
