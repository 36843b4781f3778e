"""Where else this run may lie: folders that a platform attaches read-only, such as the output of an earlier Kaggle session.

What is found there is brought home before training: the newest checkpoint that verifies, the journal up to it, and the
records of the attempts, so that the run folder is whole again on this machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from outlast import files
from outlast.checkpoint import Checkpoint, Store, open_checkpoint
from outlast.errors import CorruptCheckpoint
from outlast.files import MANIFEST, RunFolder

_DEPTH = 6  # /kaggle/input/notebooks/OWNER/SLUG/working/runs/ID is as deep as it gets


def others(run_id: str, inputs: Iterable[Path]) -> list[RunFolder]:
    """Folders below the inputs that hold this run, whatever the mount's layout."""
    found = []
    for root in inputs:
        for depth in range(_DEPTH + 1):
            found += [RunFolder(path.parent) for path in sorted(root.glob("*/" * depth + f"{run_id}/run.json"))]
    return found


def stored_config(folder: RunFolder, inputs: Iterable[Path]) -> dict[str, Any] | None:
    """The config that the run was last trained with, here or elsewhere; None for a new run."""
    for place in (folder, *others(folder.path.name, inputs)):
        with contextlib.suppress(FileNotFoundError):
            return files.read_json(place.config)
    return None


def bring_home(folder: RunFolder, inputs: Iterable[Path]) -> list[str]:
    """Copy the run's newest verified checkpoint into its folder when an input holds a newer one.

    Returns:
        Sentences for the user: what was taken from where, and what was found damaged.
    """
    told = []
    own = _newest_step(folder)
    for place in sorted(others(folder.path.name, inputs), key=_newest_step, reverse=True):
        for checkpoint in reversed(Store(place).committed()):
            if checkpoint.step <= own:
                break
            try:
                open_checkpoint(checkpoint.path)
                copy_run(place, folder, checkpoint)
            except CorruptCheckpoint as error:
                told.append(f"{error} An older checkpoint is used.")
                continue
            return [*told, f"step {checkpoint.step} comes from {place.path}"]
    return told


def copy_run(source: RunFolder, target: RunFolder, checkpoint: Checkpoint) -> None:
    """Copy one verified checkpoint with all that belongs to it: data, then manifest, as a commit does."""
    files.make_folder(target.attempts)
    for number in source.attempt_numbers():
        if not target.attempt(number).exists():
            _copy(source.attempt(number), target.attempt(number))
    _copy(source.run, target.run)
    _copy_contents(source, target, checkpoint)


def _copy_contents(source: RunFolder, target: RunFolder, checkpoint: Checkpoint) -> None:
    for ours, theirs in ((target.config, source.config), (target.journal, source.journal)):
        if theirs.exists():
            _copy(theirs, ours)
    place = target.checkpoint(checkpoint.step)
    files.remove_folder(place)
    files.make_folder(place)
    for name in checkpoint.manifest["files"]:
        _copy(checkpoint.path / name, place / name)
    _copy(checkpoint.path / MANIFEST, place / MANIFEST)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        files.write_file(target, iter(lambda: file.read(files.CHUNK), b""))


def _newest_step(folder: RunFolder) -> int:
    return max((checkpoint.step for checkpoint in Store(folder).committed()), default=-1)


def fork(source: RunFolder, checkpoint: Checkpoint, target: RunFolder) -> None:
    """Begin a run from a checkpoint of another one, unless it has begun already.

    The new run has the checkpoint, the config and the journal up to it; it has no attempts yet and remembers its parent.

    Raises:
        CorruptCheckpoint: the checkpoint does not verify.
    """
    if Store(target).committed():
        return
    open_checkpoint(checkpoint.path)
    files.make_folder(target.path)
    parent = files.read_json(source.run)
    files.write_json(
        target.run, {**parent, "id": target.path.name, "parent": {"run": source.path.name, "step": checkpoint.step}}
    )
    _copy_contents(source, target, checkpoint)
