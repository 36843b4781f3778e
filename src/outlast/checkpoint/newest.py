"""The checkpoints of a run, and the newest of them that verifies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from outlast.checkpoint.history import Identity
from outlast.checkpoint.listing import steps_in
from outlast.checkpoint.manifest import Checkpoint, read_manifest
from outlast.checkpoint.reading import OpenedCheckpoint, open_checkpoint
from outlast.distributed.ranks import Ranks
from outlast.errors import ANOTHER_NAME, CheckpointError, CorruptCheckpoint, NoGoodCheckpoint, OutlastError
from outlast.folder import durable, layout, plain
from outlast.folder.layout import MANIFEST, RunFolder


def complaint_of(checkpoint: Checkpoint, identity: Identity | None) -> str | None:
    """A sentence if a checkpoint belongs to another run; None if it belongs to this one."""
    return identity.complaint(checkpoint.manifest, checkpoint.path) if identity else None


def folders(folder: RunFolder) -> Sequence[Path]:
    """Folders of a run that have the name of a checkpoint, ascending by step. Links are ignored."""
    return [folder.checkpoint(step) for step in sorted(steps_in(folder.checkpoints))]


def exists(folder: RunFolder, step: int) -> bool:
    """Whether a checkpoint with a manifest is at this step."""
    place = folder.checkpoint(step)
    return plain.kind_of(place) == "folder" and plain.kind_of(place / MANIFEST) is not None


def newest_first(
    folder: RunFolder, identity: Identity | None, passed: list[tuple[int, str]] | None = None
) -> Iterator[Checkpoint]:
    """Committed checkpoints with a readable manifest, descending by step. Each manifest is read when it is needed.

    Args:
        folder: the run folder.
        identity: the identity of the run; checkpoints of other runs are skipped. None: no check.
        passed: receives the step of each skipped checkpoint, and the reason. A folder without a manifest was never
            committed and is not listed.

    Raises:
        OutlastError: a newer outlast wrote one of them, and `passed` is None.
    """
    for path in reversed(folders(folder)):
        try:
            checkpoint = read_manifest(path)
        except OutlastError as error:
            if passed is None and not isinstance(error, CheckpointError):
                raise  # written by a newer outlast
            complaint: str | None = str(error) if plain.kind_of(path / MANIFEST) else None
        else:
            complaint = complaint_of(checkpoint, identity)
            if complaint is None:
                yield checkpoint
        if complaint and passed is not None:
            passed.append((layout.step_of(path) or 0, complaint))


def open_newest(
    folder: RunFolder, identity: Identity | None, ranks: Ranks
) -> tuple[OpenedCheckpoint | None, list[CorruptCheckpoint]]:
    """Open the newest checkpoint that verifies, and set aside newer ones that do not.

    With several ranks, each rank reads what it needs, and a checkpoint is valid if it verifies on all ranks.

    Returns:
        The checkpoint, or None if the run has no checkpoints; and an error for each that was set aside.

    Raises:
        NoGoodCheckpoint: the run has checkpoints and none verifies. Nothing was moved.
    """
    names = [path.name for path in reversed(folders(folder)) if plain.kind_of(path / MANIFEST)]
    names = json.loads(ranks.broadcast("opening the run", json.dumps(names).encode()))
    damaged: list[CorruptCheckpoint] = []
    for index, name in enumerate(names):
        complaint, opened = "", None
        try:
            opened = open_checkpoint(folder.checkpoints / name, mend=ranks.is_main, ranks=ranks)
            complaint = complaint_of(opened.checkpoint, identity) or ""
        except CorruptCheckpoint as error:
            complaint = str(error)
        complaints = [each.decode() for each in ranks.all_gather("opening the run", complaint.encode()) if each]
        if complaints:
            damaged.append(CorruptCheckpoint(complaints[0]))
            continue
        for bad in names[:index] if ranks.is_main else ():
            set_aside(folder, folder.checkpoints / bad)
        return opened, damaged
    if damaged:
        raise NoGoodCheckpoint(
            f"None of the {len(damaged)} checkpoints in {folder.checkpoints} is valid, so training does not start: it "
            "would begin again from step 0.\n"
            + "\n".join(f"  {error}" for error in damaged)
            + "\nRestore an intact copy, or begin a new run under "
            + ANOTHER_NAME
            + "."
        )
    return None, []


def set_aside(folder: RunFolder, path: Path) -> None:
    """Rename a folder of `checkpoints`, so that it is no longer used. Nothing is deleted."""
    durable.make_folder(folder.set_aside)
    number = 1
    while plain.kind_of(target := folder.set_aside / f"{path.name}-{number}"):
        number += 1
    durable.move(path, target)
