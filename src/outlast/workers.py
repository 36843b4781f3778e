"""What a helper process of the training (a data loader's worker) makes of signals that were meant for the whole group.

`timeout`, a closed terminal, systemd and Slurm signal every process of the group. The training process finishes its step and
saves; for that its workers have to live on for a moment. They end when the loader closes, or when their parent is gone.
"""

from __future__ import annotations

import signal
from types import FrameType

GRACE = 30
"""Seconds that a worker lives on after it was told to end."""


def shield() -> None:
    """Install the handlers; to be called inside a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _later)


def _later(_number: int, _frame: FrameType | None) -> None:
    end_later()


def end_later() -> None:
    """End this process in GRACE seconds unless it ends by itself before."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE)
