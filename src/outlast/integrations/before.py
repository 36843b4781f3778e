"""What the attempt before left behind: a command that still runs, or a folder that is newer than the checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.errors import RunBusy
from outlast.folder import lock
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder

if TYPE_CHECKING:
    from outlast.checkpoint import OpenedCheckpoint

_DYING = 5.0  # seconds that a killed process may take to end


def check_no_orphan(folder: RunFolder) -> None:
    """Raise RunBusy while the command of a killed attempt still runs on this machine."""
    numbers = folder.attempt_numbers()
    record = read_record(folder, numbers[-1]) if numbers else {}
    if "end" in record or record.get("host") != os.uname().nodename:
        return
    for pid, start in record.get("command", {}).get("processes", ()):
        until = time.monotonic() + _DYING
        while (alive := _lives(pid, start)) and time.monotonic() < until:
            time.sleep(0.05)
        if alive:
            raise RunBusy(
                f"The command of attempt {numbers[-1]} still runs as process {pid}, although its outlast was killed. "
                f"End it with `kill {pid}` and start again."
            )


def _lives(pid: int, start: int) -> bool:
    """Whether a process is the one that began then, and no zombie, which nobody has waited for."""
    if not start or lock.start_of(pid) != start:
        return False
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def last_start(earlier: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The record of the last attempt that came as far as its command; empty if none did."""
    return next((record for record in reversed(earlier) if "command" in record), {})


def is_newer(before: Mapping[str, Any], opened: OpenedCheckpoint, folder: Path) -> bool:
    """Whether a folder was changed after a checkpoint, by an attempt that could not save.

    Args:
        before: the record of the last attempt that came as far as its command.
        opened: the newest checkpoint.
        folder: the folder in which the command runs.
    """
    command, manifest = before.get("command"), opened.checkpoint.manifest
    if not command or before.get("host") != os.uname().nodename or command["folder"] != str(folder):
        return False
    own = command.get("continued") == manifest["digest"] or before.get("id") == manifest.get("attempt")
    return bool(own and not command["collected"])
