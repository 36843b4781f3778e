"""Identifies a process by number and start time.

Numbers are given again, and only the very process that was recorded may be signalled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path


def identity(pid: int) -> str:
    """When a living process began, as this machine says it, with an identifier of the machine's start.

    Empty when it is not alive.
    """
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
    """Whether the process that had this number when it began then is alive."""
    return bool(began) and identity(pid) == began


def kill_group(pid: int, began: str) -> None:
    """Kill a process and its group, if it is the one that was recorded."""
    if lives(pid, began):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def terminate(pid: int, began: str) -> None:
    """Ask a process to stop, if it is the one that was recorded."""
    if lives(pid, began):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
