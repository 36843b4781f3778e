"""Identifies a process by its number and start time.

The system reuses numbers, and only the recorded process may receive a signal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path


def identity(pid: int) -> str:
    """The start time of a running process, with an identifier of the machine's boot; empty if it does not run."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"
    program = shutil.which("ps")
    if Path("/proc/self/stat").exists() or not program:
        return ""
    told = subprocess.run([program, "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = told.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


def lives(pid: int, began: str) -> bool:
    """Whether the process with this number and start time is running."""
    return bool(began) and identity(pid) == began


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run. Linux only."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            if int(parent) == pid and state not in "ZX":
                found.append(int(place.parent.name))
    return found


def kill_group(pid: int, began: str) -> None:
    """Kill a process and its group, if it is the recorded one."""
    if lives(pid, began):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def terminate(pid: int, began: str) -> None:
    """Send SIGTERM to a process, if it is the recorded one."""
    if lives(pid, began):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
