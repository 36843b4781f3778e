"""Where else this run may lie: folders that a platform attaches read-only, such as the output of an earlier Kaggle session.

What is found there is brought home before training: the checkpoints that verify, the journal, the config and the records of
the attempts, so that the run folder is whole again on this machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from outlast import files
from outlast.attempt import read_record
from outlast.checkpoint import Checkpoint, Store, open_checkpoint
from outlast.errors import CorruptCheckpoint, UsageError
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
    """Copy the run into its folder when an input holds a newer checkpoint of it that verifies; else only what its attempts say.

    Returns:
        Sentences for the user: what was taken from where, and what was found damaged.
    """
    told: list[str] = []
    elsewhere = others(folder.path.name, inputs)
    if not elsewhere:
        return told
    own = _newest_good(folder, [])
    found = [(_newest_good(place, told), place) for place in elsewhere]
    step, source = max(found, key=lambda pair: pair[0])
    if step > own:
        _copy_run(source, folder)
        told.append(f"step {step} comes from {source.path}")
    elif step == own and _began_last(source) > _began_last(folder):
        # It saved nothing, and may yet have finished (its last step was saved before) or failed: that is news.
        _merge_attempts(source, folder)
        _copy(source.run, folder.run)
        _copy_beside(source, folder)
    return told


def fork(source: RunFolder, checkpoint: Checkpoint, target: RunFolder) -> None:
    """Begin a run from a checkpoint of another one, unless it has begun so already.

    The new run has the checkpoint, the config and the journal up to it; it has no attempts yet and remembers its parent.

    Raises:
        UsageError: another run has that name.
        CorruptCheckpoint: the checkpoint does not verify.
    """
    parent = {"run": source.path.name, "step": checkpoint.step}
    if target.run.exists() and Store(target).committed():
        if files.read_json(target.run).get("parent") != parent:
            raise UsageError(
                f"{target.path} is another run already, not one that began from step {checkpoint.step} of {source.path.name}. Choose another "
                "--experiment-name, or leave --resume out to continue it."
            )
        return
    open_checkpoint(checkpoint.path)
    files.make_folder(target.path)
    files.write_json(target.run, {**files.read_json(source.run), "id": target.path.name, "parent": parent})
    _copy_beside(source, target)
    _copy_checkpoint(checkpoint, target)


def _began_last(place: RunFolder) -> str:
    """When the last attempt of a run began, as its record says; empty when it has none."""
    return max((str(read_record(place, number).get("started", "")) for number in place.attempt_numbers()), default="")


def _newest_good(place: RunFolder, told: list[str]) -> int:
    """Step of the newest checkpoint that verifies, -1 when there is none; what is damaged is told."""
    for checkpoint in reversed(Store(place).committed()):
        try:
            open_checkpoint(checkpoint.path)
        except CorruptCheckpoint as error:
            told.append(f"{error} An older checkpoint is used.")
            continue
        return checkpoint.step
    return -1


def _copy_run(source: RunFolder, target: RunFolder) -> None:
    """Copy all checkpoints that verify (the platform kept those that retention wanted), oldest first, and what is beside them."""
    _merge_attempts(source, target)
    _copy(source.run, target.run)
    _copy_beside(source, target)
    for checkpoint in Store(source).committed():
        with contextlib.suppress(CorruptCheckpoint):
            open_checkpoint(checkpoint.path)
            _copy_checkpoint(checkpoint, target)


def _copy_beside(source: RunFolder, target: RunFolder) -> None:
    for theirs, ours in ((source.config, target.config), (source.journal, target.journal)):
        if theirs.exists():
            _copy(theirs, ours)


def _copy_checkpoint(checkpoint: Checkpoint, target: RunFolder) -> None:
    place = target.checkpoint(checkpoint.step)
    files.make_folder(target.checkpoints)
    files.remove_folder(place)
    files.make_folder(place)
    for sources in checkpoint.paths.values():
        for source in sources:
            copy = target.checkpoints / source.relative_to(checkpoint.path.parent)
            if copy.parent != place:
                files.make_folder(copy.parent)
            if not copy.exists() and source.exists():
                _copy(source, copy)
    _copy(checkpoint.path / MANIFEST, place / MANIFEST)


def _merge_attempts(source: RunFolder, target: RunFolder) -> None:
    """Both folders' attempts in the order in which they began, numbered anew where two have one number."""
    records = {}
    for place in (target, source):
        for number in place.attempt_numbers():
            record = read_record(place, number)
            records[record.get("started", ""), record.get("id", f"{place.path}{number}")] = record
    files.make_folder(target.attempts)
    for number, (_, record) in enumerate(sorted(records.items(), key=lambda item: item[0]), start=1):
        files.write_json(target.attempt(number), {**record, "number": number})


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        files.write_file(target, iter(lambda: file.read(files.CHUNK), b""))
