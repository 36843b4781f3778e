"""Says that a service does not answer: what is waited for, and for how long at most.

A command that waits in silence looks like one that hangs. One thread looks at all waits of the process once a second.
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from outlast.terminal import counted, say

PATIENCE = 5.0
"""Seconds without an answer after which it is said."""

AGAIN = 60.0
"""Seconds in which the same service is reported once at most."""

Tell = Callable[[str], None]


def on_stderr(sentence: str) -> None:
    """Print a sentence on stderr, if it is open."""
    with contextlib.suppress(OSError, ValueError):
        say(sentence, error=True)


class Silence:
    """The waits for one service. Any thread may use it.

    Args:
        what: is waited for, such as an address.
        most: seconds for which nothing is heard at most, until the operation ends with an error.
        tell: is given the sentence. It is called by a thread of its own.

    Attributes:
        tell: as above.
    """

    def __init__(self, what: str, most: float, tell: Tell = on_stderr) -> None:
        self.tell = tell
        self._what, self.most = what, most
        self._mine = threading.local()
        self._last = -math.inf  # something was heard
        self._told = -math.inf

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Wait]:
        """Wait for the service in this block. An inner block of the same thread belongs to the outer one."""
        outer: Wait | None = getattr(self._mine, "wait", None)
        if outer is not None:
            yield outer
            return
        with self.apart() as wait:
            self._mine.wait = wait
            try:
                yield wait
            finally:
                self._mine.wait = None

    @contextlib.contextmanager
    def apart(self) -> Iterator[Wait]:
        """As `waiting`, for a block in which the caller may begin other waits, such as that of a generator."""
        wait = Wait(self)
        _waits[id(wait)] = wait
        _watch()
        try:
            yield wait
        finally:
            del _waits[id(wait)]

    def heard(self) -> None:
        """Note that the service has answered something, or taken some bytes."""
        self._last = time.monotonic()

    def seconds_of(self, wait: Wait) -> float:
        """Seconds for which a wait has heard nothing."""
        since = wait.since
        return 0.0 if since is None else time.monotonic() - max(since, self._last)

    def look(self, wait: Wait) -> None:
        """Tell it, when a wait has heard nothing for long."""
        seconds = self.seconds_of(wait)
        if seconds < PATIENCE or time.monotonic() - self._told < AGAIN:
            return
        self._told = time.monotonic()
        most = f"{counted(math.ceil(max(self.most - seconds, 1.0) / 60), 'minute')} at most"
        if wait.reason:
            self.tell(f"{self._what} is not available now: {wait.reason}. It is asked again, for {most}.")
        else:
            self.tell(f"{self._what} has not answered for {seconds:.0f} s. Waiting for it, {most}.")


class Wait:
    """One operation that waits for a service.

    Attributes:
        silence: the waits that it belongs to.
        since: when it began to wait, by the monotonic clock; None while it waits for nothing.
        reason: why the last try failed; "" before.
    """

    def __init__(self, silence: Silence) -> None:
        self.silence = silence
        self.since: float | None = time.monotonic()
        self.reason = ""

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Do something else in this block, such as using what has come."""
        self.since = None
        try:
            yield
        finally:
            self.since, self.reason = time.monotonic(), ""

    def expect(self, seconds: float) -> None:
        """Do not count so many seconds from now: they are what the operation takes when all is well."""
        if self.since is not None:
            self.since = time.monotonic() + seconds

    def lasts(self, seconds: float) -> bool:
        """Whether one more try of so many seconds fits into the bound that is told."""
        return self.silence.seconds_of(self) + seconds <= self.silence.most


class SentFile(io.FileIO):
    """A file that a connection reads to send it.

    Args:
        file: a descriptor, which is closed with this.
        read_some: is called before each read: what was read before was taken.
    """

    def __init__(self, file: int, read_some: Callable[[], None]) -> None:
        super().__init__(file, "rb")
        self._read_some = read_some

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes, or all that are left."""
        self._read_some()
        return super().read(-1 if size is None else size) or b""

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer."""
        self._read_some()
        return super().readinto(buffer) or 0


_waits: dict[int, Wait] = {}
"""Those of the process. Each operation on it is atomic."""
_news = threading.Event()
_lock = threading.Lock()
_threads: list[threading.Thread] = []


def _watch() -> None:
    _news.set()
    if _alive():
        return
    with _lock, contextlib.suppress(RuntimeError):  # the interpreter shuts down
        if not _alive():
            _threads[:] = [threading.Thread(target=_look, name="outlast-waiting", daemon=True)]
            _threads[0].start()


def _alive() -> bool:
    """Whether the thread runs; in a fork it does not."""
    return bool(_threads) and _threads[0].is_alive()


def _look() -> None:
    while True:
        _news.wait()
        _news.clear()
        while _waits:
            time.sleep(min(1.0, PATIENCE / 4))
            for wait in list(_waits.values()):
                wait.silence.look(wait)
