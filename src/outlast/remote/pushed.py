"""pushed.json in the run folder: what `outlast status` says of the remote that follows a run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from outlast.errors import CorruptCheckpoint
from outlast.folder import durable, layout, reading
from outlast.folder.attempt import utc
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import PUSHED


def note(
    folder: RunFolder, address: str, *, steps: Sequence[int], behind: Sequence[int], trouble: str | None = None
) -> None:
    """Write it; a failure is ignored, because nothing but `outlast status` reads it.

    Args:
        folder: the run folder.
        address: of the remote, for commands.
        steps: of the checkpoints in the remote.
        behind: steps of those that it lacks and should have.
        trouble: why the last push failed.
    """
    record = {
        "format": layout.FORMAT,
        "address": address,
        "steps": list(steps),
        "behind": list(behind),
        "time": utc(),
        "trouble": trouble,
    }
    with contextlib.suppress(OSError):
        durable.write_json(folder.pushed, record, durable_name=False)


def follows(folder: RunFolder, address: str) -> bool:
    """Whether it is this remote that follows the run."""
    try:
        return bool(reading.read_record(folder.pushed, PUSHED)["address"] == address)
    except (FileNotFoundError, CorruptCheckpoint):
        return False
