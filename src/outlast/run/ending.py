"""How an attempt ends: the reason for its record, and what its process or cell hears of it.

Whatever happens while it ends (a full disk, a sink that fails, Ctrl-C once more), the attempt's end is written down if it can be,
the lock is released and the signal handlers are given back.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from outlast.errors import RunNotFinished, SessionEnded


def reason_of(error: BaseException | None) -> str:
    """The end reason of an attempt that this error ended."""
    if error is None:
        return "finished"
    if isinstance(error, SessionEnded | RunNotFinished):
        return error.reason
    if isinstance(error, KeyboardInterrupt | GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
        return "cancelled"
    return "failed"


def each(*actions: Callable[[], Any]) -> BaseException | None:
    """Do all of these, whatever becomes of them; returns what the first that failed raised."""
    first: BaseException | None = None
    for action in actions:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - the next ones matter more than this one
            first = first or error
    return first


def interactive() -> bool:
    """Whether a notebook or a prompt runs this, where ending the process is nobody's wish."""
    shell = sys.modules.get("IPython")
    return bool(
        sys.flags.interactive
        or hasattr(sys, "ps1")
        or (shell is not None and hasattr(shell, "get_ipython") and shell.get_ipython() is not None)
    )


def in_a_cell(ended: SessionEnded, sentence: str) -> BaseException:
    """What leaves the block instead of SessionEnded where a person types: a prompt and a kernel live on, and cells that follow do not run."""
    if not interactive():
        return ended
    if "IPython" not in sys.modules and not isinstance(sys.excepthook, _OneLine):
        sys.excepthook = _OneLine(sys.excepthook)
    return RunNotFinished(sentence, ended.reason)


class _OneLine:
    """At Python's own prompt: an exception hook that says RunNotFinished in one line, and everything else as before."""

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, RunNotFinished):
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"{kind.__name__}: {error}\n")
        else:
            self.before(kind, error, trace)
