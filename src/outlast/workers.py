"""What a helper process of the training (a data loader's worker) makes of signals that were meant for the whole group.

`timeout`, a closed terminal, systemd and Slurm signal every process of the group. The training process finishes its step and
saves; for that its workers have to live on for a moment. They end when the loader closes, or when their parent is gone.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

GRACE = 30
"""Seconds that a worker lives on after it was told to end."""


def shield() -> None:
    """Install the handlers; to be called inside a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _later)
    for name in (
        "SIGUSR1",
        "SIGUSR2",
        "SIGXCPU",
    ):  # they would end a worker, unless the dataset's program uses them itself
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL and not caught_below_python(number):
            signal.signal(number, _later)


def caught_below_python(number: int) -> bool:
    """Whether the kernel knows of a handler that Python does not: faulthandler, for one, installs its own."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # not Linux: Python's word has to do
        return False
    mask = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(mask, 16) >> (number - 1) & 1)


def _later(_number: int, _frame: FrameType | None) -> None:
    end_later()


def end_later() -> None:
    """End this process in GRACE seconds unless it ends by itself before."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE)
