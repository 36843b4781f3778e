"""The process that sends a running run to one tracker.

Trackers' libraries take seconds to import, hold Python's lock, begin threads, draw random numbers, and wait for servers
at the end of a process. Here they do so without the training. It is told what to do by lines on its standard input, and
says what the user should know on its standard output, both JSON. It ends when it is told to, or with the training.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError, UsageError
from outlast.folder.layout import RunFolder
from outlast.terminal import words_of
from outlast.tracking.sinks.client import TRACKERS, client_of
from outlast.tracking.sinks.feed import Feed

LOOK = 2.0
"""Seconds between two looks at the journal."""

KEEP = 15.0
"""Seconds after which what was sent is made durable, if no checkpoint came before."""

LINGER = 60.0
"""Seconds that it may work after the training has ended."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds after a first error, doubled after each further one up to the longest."""

UNUSABLE = 3
"""Exit status if the tracker's library is not installed."""


class Feeder:
    """Sends a run until the training ends.

    Args:
        request: run (the run folder), to (the tracker), options, config, artifacts, parent (the training's process).
        tell: receives what the user should know: level, sentence.
    """

    def __init__(self, request: Mapping[str, Any], tell: Callable[[str, str], None]) -> None:
        self._folder, self._name = RunFolder(Path(request["run"])), request["to"]
        self._request, self._tell = request, tell
        self._words: queue.Queue[str | None] = queue.Queue()
        self._over = self._begun = False
        self._kept = time.monotonic()
        self._complained = False
        self._noted = False

    def hear(self, word: str | None) -> None:
        """Another line of the training: "look", or "end"; None if there will be no more. Any thread may call it."""
        self._words.put(word)

    def run(self) -> int:
        """Send until the training ends; returns the exit status."""
        try:
            client = client_of(self._name, self._request["options"])
        except UsageError as error:
            self._tell("warning", f"{error} This attempt is not shown there; {self._later()}")
            return UNUSABLE
        artifacts = self._request.get("artifacts")
        feed = Feed(self._folder, self._name, client, Path(artifacts) if artifacts else None)
        while not feed.take():  # the process of an earlier attempt is not done yet
            if self._over:
                return 0
            self._wait(LOOK)
        pause = 0.0
        while True:
            try:
                self._send(feed, over=self._over)
                self._note(client.notes)
                pause = 0.0
            except Exception as error:  # noqa: BLE001 - whatever a tracker's library does
                self._begun = False
                pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pause))
                self._complain(error)
            if self._over:  # only `_wait` changes it, so what the training wrote before its end is sent
                break
            self._wait(pause or LOOK)
        with contextlib.suppress(Exception):
            feed.close()
        return 0

    def _send(self, feed: Feed, *, over: bool) -> None:
        """Send what is new. Where the training is over, this is all."""
        if not self._begun:
            feed.begin(self._request.get("config"))
            self._begun = True
        sent = feed.catch_up()
        if over:
            feed.end()
        if over or (sent and time.monotonic() - self._kept > KEEP):
            feed.keep()
            self._kept = time.monotonic()

    def _note(self, notes: list[str]) -> None:
        if not self._noted:
            for sentence in notes:
                self._tell("info", f"{TRACKERS[self._name]}: {sentence}")
            self._noted = True

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            words = str(error) if isinstance(error, OutlastError) else words_of(error)
            self._tell(
                "warning",
                f"{TRACKERS[self._name]} failed ({words.removesuffix('.')}). It is tried again; the journal has all "
                f"metrics, and {self._later()}",
            )

    def _later(self) -> str:
        return f"`outlast sync {self._folder.path} --to {self._name}` sends it later."

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            word = self._words.get(timeout=seconds)
            while True:
                self._over |= word in ("end", None)
                word = self._words.get_nowait()


def main() -> None:
    """Do what the first line of the standard input asks for."""
    for number in ("SIGINT", "SIGTERM", "SIGHUP"):  # they are for the training, and this process ends with it
        if hasattr(signal, number):
            signal.signal(getattr(signal, number), signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    silent = os.open(os.devnull, os.O_RDWR)
    os.dup2(silent, 1)  # what libraries print is no answer
    os.dup2(silent, 2)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)
    request = json.loads(sys.stdin.readline())
    feeder = Feeder(request, lambda level, text: _say(answers, level, text))
    # Not whose child this is now: the training may be gone already. (On Windows, a launcher may lie between the two.)
    parent = os.getppid() if os.name == "nt" else request["parent"]
    threading.Thread(target=_listen, args=(feeder,), daemon=True).start()
    threading.Thread(target=_watch, args=(feeder, parent), daemon=True).start()
    status = feeder.run()
    os._exit(status)  # without what libraries do at the end of a process, such as to wait for a server


def _say(answers: Any, level: str, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the training has gone
        answers.write(json.dumps([level, text]) + "\n")
        answers.flush()


def _listen(feeder: Feeder) -> None:
    for line in sys.stdin:
        feeder.hear(line.strip())
        if line.strip() == "end":
            break
    feeder.hear(None)
    time.sleep(LINGER)
    os._exit(1)


def _watch(feeder: Feeder, parent: int) -> None:
    """A killed training may leave its end of the pipe to processes that it forked."""
    while os.getppid() == parent:
        time.sleep(1.0)
    feeder.hear(None)
    time.sleep(LINGER)
    os._exit(1)


if __name__ == "__main__":
    main()
