"""Runs in a notebook or at a prompt, where the session ends but the process continues."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from outlast.errors import RunNotFinished, SessionEnded


def interactive() -> bool:
    """Whether a notebook or a prompt runs this, where ending the process is nobody's wish."""
    shell = sys.modules.get("IPython")
    return bool(
        sys.flags.interactive
        or hasattr(sys, "ps1")
        or (shell is not None and hasattr(shell, "get_ipython") and shell.get_ipython() is not None)
    )


def in_a_cell(ended: SessionEnded, sentence: str) -> BaseException:
    """The exception in place of SessionEnded in a notebook or at a prompt.

    A prompt and a kernel live on, and cells that follow do not run.
    """
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
