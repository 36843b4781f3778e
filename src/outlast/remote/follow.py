"""The thread that pushes committed checkpoints to a remote during training.

Training does not wait for it. It pushes the newest checkpoint first, and older ones that are missing when it has time.
If the remote is down, full or forbidden, it reports this once, and retries with growing pauses as long as the attempt
lives.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from typing import NamedTuple

from outlast.errors import RemoteError, RemoteUnavailable, RunBusy
from outlast.folder.layout import RunFolder
from outlast.remote.base import Remote
from outlast.remote.outgoing import PushAbandoned
from outlast.remote.push import Pusher
from outlast.remote.pushed import note
from outlast.terminal import words_of

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds after a first failure, doubled after each further one up to the longest."""

REFUSED_PAUSE = 30.0
"""Seconds after a first refusal: doubled in the same way, up to ten times the longest pause."""


class Destination(NamedTuple):
    """A remote to push to, and the average rate limit in bytes per second (None: no limit)."""

    remote: Remote
    rate: float | None = None


class Follower:
    """Pushes in a thread of its own. The training thread starts and ends it; any thread may call `hear`.

    Args:
        pusher: pushes; used by this thread only after `begin`.
        address: of the remote, for messages and commands.
        folder: the run folder, for pushed.json.

    Attributes:
        told: level and sentence for the user, oldest first; the training thread removes them.
        address: as above.
        seconds: duration of the longest push so far.
        trouble: the reason why the last push failed; None if it succeeded.
    """

    def __init__(self, pusher: Pusher, address: str, folder: RunFolder) -> None:
        self.told: collections.deque[tuple[str, str]] = collections.deque()
        self.seconds = 0.0
        self.trouble: str | None = None
        self._pusher, self.address, self._folder = pusher, address, folder
        pusher.sleep = self._sleep
        self._news = threading.Condition()
        self._heard = True  # there may be something to push
        self._asked = self._answered = 0  # requests to settle
        self._shown = False  # whether this attempt has pushed a revision
        self._fresh = 0  # the request after which the records were pushed last
        self._sending = self._older = False  # a checkpoint is being pushed; and it is not the newest
        self._cut = False  # push records only
        self._stop = threading.Event()
        self._over = False
        self._failures = 0
        self._said: list[str] = []  # kinds of failure reported since the last success
        self._thread = threading.Thread(target=self._work, name="outlast-follow", daemon=True)

    @property
    def behind(self) -> list[int]:
        """Steps of the local checkpoints that the remote lacks, ascending."""
        return self._pusher.missing()

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hear(self) -> None:
        """Notify the thread of a commit. Does not wait for the remote."""
        with self._news:
            self._heard = True
            self._news.notify_all()

    def give_room(self) -> bool:
        """Give up the push of a deleted checkpoint whose files take disk space; return whether there was one."""
        found = self._pusher.open
        return found is not None and found.let_go()

    def settle(self, seconds: float, *, checkpoints: bool = True) -> bool:
        """Wait until the remote has all checkpoints and the present records, or one more push has failed.

        Args:
            seconds: timeout.
            checkpoints: False: push the records only, now and later.

        Returns:
            Whether the remote has them.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            self._asked += 1
            self._cut = not checkpoints
            self._news.notify_all()
            while self._answered < self._asked and not self._over:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(min(left, threading.TIMEOUT_MAX))
            return self.trouble is None and not self._over

    def close(self, seconds: float) -> None:
        """Stop the thread after its present request; wait at most so many seconds for it."""
        self._stop.set()
        with self._news:
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join(max(0.0, seconds))

    # in the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                with self._news:
                    asked, self._heard = self._asked, False
                if self._try(asked):
                    self._answer(asked)
                    self._wait(asked)
        finally:
            self._pusher.close()
            with self._news:
                self._over = True
                self._news.notify_all()

    def _try(self, asked: int) -> bool:
        """Push one revision, and handle failures; return whether there was nothing to push."""
        try:
            return self._push_one(asked)
        except RunBusy as error:
            self.told.append(("warning", str(error)))
            self.trouble = str(error)
            self._note()
            self._stop.set()
        except PushAbandoned:
            pass
        except Exception as error:  # noqa: BLE001 - whatever a remote does, training goes on
            self._failed(error, asked)
        return False

    def _push_one(self, asked: int) -> bool:
        """Push one revision; return whether there was nothing to push."""
        begun = time.monotonic()
        wanted = self._pusher.wanted()
        if not self._shown:  # at once, so that another attempt that pushes this run notices
            self._push(None, asked)
            self._shown = True
        elif wanted and not self._cut:
            self._push(wanted[0], asked)
            self.seconds = max(self.seconds, time.monotonic() - begun)
        elif self._fresh < asked:
            self._push(None, asked)
        else:
            return True
        return False

    def _push(self, step: int | None, asked: int) -> None:
        pusher = self._pusher
        self._sending, self._older = step is not None, step is not None and step != pusher.newest
        try:
            pusher.push(step)
        finally:
            self._sending = False
        self._fresh = asked
        self._recovered()
        self._note()
        while pusher.complaints:
            self.told.append(("warning", pusher.complaints.pop(0)))
        with contextlib.suppress(RemoteError):  # unused objects do no harm; the next push tries again
            pusher.tidy()

    def _sleep(self, seconds: float) -> None:
        """Wait; raise PushAbandoned if something else is more urgent than the present push."""
        if self._stop.wait(seconds):
            raise PushAbandoned("the attempt has ended")
        if self._sending and (self._cut or (self._older and self._heard)):
            raise PushAbandoned("something else comes first")

    def _wait(self, asked: int, seconds: float | None = None) -> None:
        """Wait for a commit, or for so many seconds. A request to settle ends both."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._news:
            while not self._stop.is_set() and self._asked == asked and not (self._heard and deadline is None):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._news.wait(left)

    def _answer(self, asked: int) -> None:
        with self._news:
            self._answered = max(self._answered, asked)
            self._news.notify_all()

    def _failed(self, error: Exception, asked: int) -> None:
        """Report each kind of failure once, and wait."""
        refused = not isinstance(error, RemoteUnavailable)
        if type(error).__name__ not in self._said:
            self._said.append(type(error).__name__)
            words = str(error) if isinstance(error, RemoteError) else f"{self.address}: {words_of(error)}."
            sentence = f"{words} Nothing is pushed to {self.address} for now; training goes on, and it is tried again."
            self.told.append(("warning", sentence))
            self.trouble = words
            self._note()
        self._answer(asked)
        longest, first = (10 * LONGEST_PAUSE, REFUSED_PAUSE) if refused else (LONGEST_PAUSE, FIRST_PAUSE)
        pause = max(min(longest, first * 2**self._failures), getattr(error, "after", None) or 0.0)
        self._wait(asked, pause)
        self._failures = min(self._failures + 1, 20)

    def _recovered(self) -> None:
        if self.trouble is not None:
            self.told.append(("info", f"{self.address} takes checkpoints again."))
        self.trouble, self._failures = None, 0
        self._said.clear()

    def _note(self) -> None:
        note(self._folder, self.address, steps=self._pusher.steps, behind=self.behind, trouble=self.trouble)
