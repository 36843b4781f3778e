"""The checkpoint from which a new run begins: `resume_from` of `open_run`."""

from __future__ import annotations

from pathlib import Path

from outlast.checkpoint import Checkpoint, CheckpointStore, read_manifest, verify
from outlast.errors import CheckpointError, CorruptCheckpoint
from outlast.folder import layout, reading
from outlast.folder.layout import RunFolder


def copies(path: Path | None, folder: RunFolder) -> list[Path]:
    """The folder above a copy of this very run that it is to continue from.

    It is fetched as what a platform attaches is.
    """
    if path is None or layout.step_of(path) is not None or path.resolve() == folder.path.resolve():
        return []
    return [path.resolve().parent] if path.resolve().name == folder.path.name else []


def begin(path: Path | None, folder: RunFolder) -> str | None:
    """Copy the checkpoint of `resume_from` into a run without checkpoints; returns a sentence about it.

    Raises:
        CorruptCheckpoint: it does not verify.
    """
    if path is None or copies(path, folder) or path.resolve() == folder.path.resolve():
        return None
    checkpoint = read_manifest(path.resolve()) if layout.step_of(path) is not None else _newest_good(path)
    source = RunFolder(checkpoint.path.parents[1])
    own = next(CheckpointStore(folder).newest_first(), None)
    if own:
        parent = reading.read_json(folder.run).get("parent") or {}
        if parent.get("run") == source.path.name:
            return None
        return (
            f"{path} is not used: this run has its own step {own.step}, which did not begin from that path, and "
            "continues from it. To begin a run from that path, choose another name."
        )
    from outlast.remote.fork import fork  # few runs begin from another one

    fork(source, checkpoint, folder)
    return f"begins from step {checkpoint.step} of {source.path}"


def _newest_good(path: Path) -> Checkpoint:
    damaged = ""
    for checkpoint in CheckpointStore(RunFolder(path.resolve())).newest_first():
        try:
            verify(checkpoint.path)
        except CheckpointError as error:
            damaged = damaged or f" {error}"
        else:
            return checkpoint
    raise CorruptCheckpoint(f"{path} has no checkpoint to begin from.{damaged}")
