"""One committed checkpoint, and its manifest. Without a manifest the checkpoint does not exist.

    step-00001200/model.safetensors  optimizer.safetensors  rng.safetensors  state.json  MANIFEST.json
    shared/HASH.safetensors  HASH.copy.safetensors

With several ranks, each other rank writes what rank 0 does not hold into files of its own
(model.rank-0001.safetensors, state.rank-0001.json). Arrays that training does not change are in `shared`, in two
copies, and the manifests of several checkpoints refer to them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from outlast.checkpoint import checks
from outlast.checkpoint.history import History, is_ancestor
from outlast.checkpoint.policy import CheckpointFacts
from outlast.checkpoint.snapshot import Snapshot
from outlast.config.units import is_finite
from outlast.errors import CorruptCheckpoint
from outlast.folder import hashing, layout, plain, reading, records
from outlast.folder.layout import MANIFEST, SHARED, TENSORS

CHECKPOINTS = "checkpoints"
_COPY = ".copy"


class Checkpoint(NamedTuple):
    """A committed checkpoint: its folder and the contents of its manifest."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Number of optimizer updates done."""
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
    def paths(self) -> dict[str, list[Path]]:
        """Name of a file -> its paths: one, or two for a shared file."""
        return {name: places_of(self.path, name, entry) for name, entry in self.manifest["files"].items()}

    @property
    def kept(self) -> CheckpointFacts:
        """The facts that retention compares."""
        return CheckpointFacts(self.step, self.metrics)

    @property
    def digest(self) -> str:
        """The digest of its manifest. No other checkpoint has the same one."""
        return str(self.manifest["digest"])

    def is_ancestor_of(self, other: Checkpoint) -> bool | None:
        """Whether another checkpoint equals this one or continues it.

        None if that cannot be known, because one of them has format 1.
        """
        return is_ancestor(self.manifest, other.manifest)


def read_manifest(path: Path) -> Checkpoint:
    """Read and check the manifest of a checkpoint folder. The data files are not read.

    Raises:
        CorruptCheckpoint: the manifest is missing or damaged.
    """
    place = path / MANIFEST
    for folder in (path, path.parent) if path.parent.name == CHECKPOINTS else (path,):
        if (kind := plain.kind_of(folder)) not in ("folder", None):
            raise CorruptCheckpoint(f"{folder} is a {kind}, not a folder; it was not read.")
    try:
        data = plain.read_plain(place)
    except OSError as error:
        raise CorruptCheckpoint(
            f"{place} cannot be read ({error.strerror}); without it there is no checkpoint."
        ) from error
    return parse_manifest(data, path)


def parse_manifest(data: bytes, path: Path) -> Checkpoint:
    """The checkpoint of a folder, on this machine or in a remote, from the bytes of its manifest.

    Raises:
        CorruptCheckpoint: the manifest is damaged.
    """
    place = path / MANIFEST
    manifest = records.parse(data, place)
    reading.check_format(manifest, place)
    if manifest.get("digest") != digest_of(manifest):
        raise CorruptCheckpoint(f"{place} was changed after it was written: its own digest does not match.")
    checks.check_manifest(manifest, place)
    return Checkpoint(path, manifest)


def places_of(folder: Path, name: str, entry: Mapping[str, Any]) -> list[Path]:
    """The paths of a file of a checkpoint: one, or two for a shared file."""
    shared = folder.parent / SHARED
    if "shared" in entry and plain.kind_of(shared) not in ("folder", None):
        raise CorruptCheckpoint(f"{shared} is a {plain.kind_of(shared)}, not a folder; it was not read.")
    return [folder.parent / each for each in names_of(folder.name, name, entry)]


def names_of(folder: str, name: str, entry: Mapping[str, Any]) -> list[str]:
    """As `places_of`, as names relative to the folder `checkpoints`."""
    if "shared" not in entry:
        return [f"{folder}/{name}"]
    return [f"{SHARED}/{entry['shared']}{ending}{TENSORS}" for ending in ("", _COPY)]


def make_manifest(
    snapshot: Snapshot, written: Mapping[str, Any], seconds: float, ranks: int, history: History | None = None
) -> dict[str, Any]:
    """The contents of MANIFEST.json.

    Args:
        snapshot: the state that was saved.
        written: name -> size and hash of each file.
        seconds: how long the write took.
        ranks: the number of ranks.
        history: where the checkpoint comes from.
    """
    manifest: dict[str, Any] = {
        "format": layout.FORMAT,
        "step": snapshot.step,
        "reason": snapshot.reason,
        **(history.as_json() if history else {}),
        "ranks": ranks,
        "files": dict(written),
        "chunk": hashing.CHUNK,
        "metrics": {name: value for name, value in snapshot.metrics.items() if is_finite(value)},
        "software": dict(snapshot.software),
        "written": {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(seconds, 4)},
    }
    manifest["digest"] = digest_of(manifest)
    return manifest


def digest_of(manifest: Mapping[str, Any]) -> str:
    """The digest of a manifest: the hash of all its other keys. It is the manifest's last key."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashing.digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
