"""Google's command `gcloud`: what is asked of it, and what its errors mean. Its login is its own; none is read here."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from outlast.errors import AnswerLost, LaunchError, LaunchRefused, UsageError
from outlast.terminal import shortened

_TIMEOUT = 180.0  # seconds for one answer; creating a machine takes up to a minute
_COPYING = 3600.0  # seconds for one copy
_PAUSE = 5.0
_TRANSIENT = ("503", "502", "500", "429", "timed out", "Connection reset", "Temporary failure", "backendError")
_ABSENT = ("was not found", "matched no objects", "not found: 404", "HTTPError 404", "does not exist")


class Absent(LaunchError):
    """What was asked about does not exist."""


class Gcloud:
    """The `gcloud` on this machine.

    Args:
        patience: seconds for which a question is repeated while Google does not answer.
        sleep: waits for seconds.
    """

    def __init__(self, patience: float = 600.0, sleep: Callable[[float], None] = time.sleep) -> None:
        self._patience, self._sleep = patience, sleep

    def ask(self, *words: str, timeout: float = _TIMEOUT) -> str:
        """The output of a command that may be repeated.

        Raises:
            Absent: what it names does not exist.
            UsageError: there is no gcloud.
            LaunchError: Google refuses, or does not answer.
        """
        until = time.monotonic() + self._patience
        while True:
            done = self._run(words, timeout)
            if done is not None and not done.returncode:
                return done.stdout
            error = _error_of(done)
            if any(mark in error for mark in _ABSENT):
                raise Absent(f"{_named(words)}: {error}")
            if done is not None and not any(mark in error for mark in _TRANSIENT):
                raise LaunchError(f"{_named(words)} failed: {error}")
            if time.monotonic() + _PAUSE > until:
                raise LaunchError(f"{_named(words)} was not answered for {self._patience:.0f} s: {error}")
            self._sleep(_PAUSE)

    def create(self, words: Sequence[str]) -> None:
        """Create a machine. The command is given once, because a second one could start a second machine.

        Raises:
            AnswerLost: the machine may exist.
            LaunchRefused: it was refused, and nothing was started.
        """
        done = self._run(words, _TIMEOUT)
        if done is None or (done.returncode and any(mark in _error_of(done) for mark in _TRANSIENT)):
            raise AnswerLost(f"It is unknown whether the machine was created: {_error_of(done)}")
        if done.returncode:
            raise LaunchRefused(f"Google Cloud refused the machine: {_error_of(done)} Nothing was started.")

    def copy(self, *words: str) -> None:
        """`gcloud storage cp`; raises as `ask`."""
        self.ask("storage", "cp", *words, timeout=_COPYING)

    def _run(self, words: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str] | None:
        """The finished command; None if it had no answer in time."""
        program = shutil.which("gcloud")
        if program is None:
            raise UsageError(
                "There is no gcloud on this machine; expected Google's command line (cloud.google.com/sdk), logged in "
                "with `gcloud auth login`. Nothing was started."
            )
        try:
            return subprocess.run(
                [program, *words, "--quiet"],
                env={**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None


def folder_of(address: str, *names: str) -> str:
    """An address below a bucket's prefix."""
    return "/".join([address.rstrip("/"), *names])


def save(gcloud: Gcloud, address: str, path: Path) -> None:
    """Copy one object to a file; raises OSError if it does not arrive."""
    try:
        gcloud.copy(address, str(path))
    except LaunchError as error:
        raise OSError(str(error)) from error


def _named(words: Sequence[str]) -> str:
    return f"`gcloud {' '.join(word for word in words[:3] if not word.startswith('-'))}`"


def _error_of(done: subprocess.CompletedProcess[str] | None) -> str:
    """The error of a command as one line, which ends with a full stop."""
    if done is None:
        return "timed out."
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    first = next((n for n, line in enumerate(lines) if line.startswith("ERROR:")), max(0, len(lines) - 1))
    text = " ".join(lines[first:]).removeprefix("ERROR: ") or f"exit code {done.returncode}"
    return f"{shortened(text, 400).rstrip('.')}."
