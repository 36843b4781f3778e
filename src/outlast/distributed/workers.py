"""Handling of process-group signals in a helper process (a data loader's worker).

`timeout`, a closed terminal, systemd and Slurm signal every process of the group. The training process finishes its
step and saves; for that its workers have to live on for a moment. They end when the loader closes, when the training
process ends them because nothing needs them any more, or when it is gone.
"""

from __future__ import annotations

import atexit
import mmap
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

GRACE = 30
"""Seconds that a worker lives on after it was told to end."""

HELD = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
]
"""Signals that wait while a worker starts, until `shield`."""

# Forked workers see what the training process writes here; one that was started otherwise has a byte of its own.
_exiting = [(os.getpid(), mmap.mmap(-1, 1))]
_signalled: list[bool] = []


def watch_exit() -> None:
    """From now on, forked workers notice when this process exits, and end at once on request."""
    if os.getpid() != _exiting[0][0]:  # a training process that was forked itself: this is no matter of its parent's
        _exiting[0] = os.getpid(), mmap.mmap(-1, 1)
    atexit.unregister(let_go)
    atexit.register(let_go)  # ahead of multiprocessing, which signals its workers at exit and waits for them


def let_go() -> None:
    """This process exits and needs its workers no more."""
    maker, byte = _exiting[0]
    if os.getpid() == maker:
        byte[0] = 1


def note_signal() -> None:
    """A signal has reached the training process; it may have been meant for the whole group."""
    _signalled[:] = [True]


def signalled() -> bool:
    """Whether a signal has reached the training process while a run trained."""
    return bool(_signalled)


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
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def begin(then: Callable[[int], None] | None, worker: int) -> None:
    """A torch loader's worker_init_fn: `shield`, and then what the program has for it."""
    shield()
    if then:
        then(worker)


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
    """End this process in GRACE seconds unless it ends by itself before; at once if its parent exits."""
    maker, byte = _exiting[0]
    if os.getpid() != maker and byte[0]:
        os._exit(0)  # as torch's workers do on their parent's request
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE)
