"""Runs the commands that a step of the pipeline consists of, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import outlast

_OF_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def outlast_command(*words: str) -> Iterator[str]:
    """What a command of outlast prints; raises as `lines_of`."""
    yield from lines_of(sys.executable, "-m", "outlast", *words, shown="outlast")


def lines_of(*words: str, shown: str = "") -> Iterator[str]:
    """What a command prints, line by line.

    Raises:
        outlast.SessionEnded: it ended with 75, "run me again", or was interrupted, or this process was asked to stop.
        outlast.OutlastError: it failed.
    """
    name = shlex.join([shown, *words[3:]] if shown else words)
    try:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            env=_variables(),
        )
    except OSError as error:
        raise outlast.OutlastError(f"{words[0]} cannot be started: {error.strerror}.") from error
    said = ""
    with process, _passed_on(process) as asked:
        try:
            for line in process.stdout or ():
                said = line.rstrip("\n") or said
                yield line.rstrip("\n")
        except BaseException as error:  # Ctrl-C reaches the process as well; it saves before it ends
            if not isinstance(error, KeyboardInterrupt):  # such as a terminal that is closed
                process.terminate()
            for _ in process.stdout or ():  # a process that writes and is not read would never end
                pass
            raise
    if process.returncode in (75, 130):
        raise outlast.SessionEnded("budget" if process.returncode == 75 else "cancelled")
    if process.returncode == -signal.SIGTERM and asked:
        raise outlast.SessionEnded("preempted")
    if process.returncode < 0:
        raise outlast.OutlastError(
            f"`{name}` was ended by {_signal(-process.returncode)}, after it had said: {said or 'nothing'}"
        )
    if process.returncode:
        raise outlast.OutlastError(f"`{name}` ended with {process.returncode}: {said.removeprefix('error: ')}")


def _signal(number: int) -> str:
    """A signal's name; of SIGKILL also where it usually comes from."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (from a user, or the system when memory is short)" if name == "SIGKILL" else name


def _variables() -> dict[str, str]:
    """A command is no rank of the training around it, and imports nothing from the working folder."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_RANKS}
    return inherited | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def _passed_on(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """SIGTERM to this process is one to the step: a training saves, and ends with 75. Yields those that came."""
    came: list[int] = []

    def tell(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        process.send_signal(number)

    try:
        before = signal.signal(signal.SIGTERM, tell)
    except ValueError:  # not in the main thread, where signals do not arrive either
        yield came
        return
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
