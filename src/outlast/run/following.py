"""The copy of a run in a remote, from an attempt's side: found at the start, followed, and waited for at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from outlast.checkpoint import Identity, Retention
from outlast.folder.layout import RunFolder
from outlast.remote.follow import Destination, Follower
from outlast.remote.gather import GatherResult
from outlast.remote.push import Pusher
from outlast.remote.revision import PushedRun
from outlast.run.session import Session, now
from outlast.terminal import command

_WAITS = {"preempted": 25.0, "cancelled": 10.0, "failed": 30.0}
"""Seconds that an end of this reason waits for a remote at most; others wait until the session's end."""

_SPARE = 0.5  # seconds of the session that are left when the wait is over
_LAST = 2.0  # seconds of it that the record of the end may take on its way
_SILENT = 1.0  # seconds of waiting of which nothing is said


class FollowingRemote:
    """Finds, follows and waits; does nothing without a remote.

    Args:
        follow: the remote, or None.
        folder: the run folder.
        session: the lease of the machine, whose end no wait may miss.
        tell: says something to the user: level, sentence. For the training thread.
    """

    def __init__(
        self, follow: Destination | None, folder: RunFolder, session: Session, tell: Callable[[str, str], None]
    ) -> None:
        self._follow, self._folder, self._session, self._tell = follow, folder, session, tell
        self._pushed: PushedRun | None = None
        self._follower: Follower | None = None

    def find(self) -> list[PushedRun]:
        """The run as the remote holds it, for gathering.

        Raises:
            RemoteError: the remote does not answer, or refuses to be listed.
        """
        if self._follow:
            self._pushed = PushedRun(self._follow.remote, self._folder.path.name)
        return [self._pushed] if self._pushed else []

    def judge(self, brought: GatherResult, identity: Identity) -> list[str]:
        """Follow nothing where the remote holds another history; returns a sentence then.

        Args:
            brought: what became of the copies elsewhere.
            identity: the run that goes on here.
        """
        pushed = self._pushed
        if pushed is None:
            return []
        there = pushed.revision
        apart = pushed.place.address() in brought.rejected
        if not apart and (there is None or there.run == identity.uid):
            return []
        self._pushed = None
        what = "another history of this run" if apart else "another run of this name"
        sentence = (
            f"Nothing is pushed to {pushed.address()}: it holds {what}. What is saved stays in {self._folder.path}. "
            "Choose another name or another remote to have it pushed."
        )
        return [sentence]

    def begin(self, identity: Identity, attempt: str, retention: Retention, continued: int) -> None:
        """The loop begins.

        Args:
            identity: which run it is.
            attempt: the attempt's id.
            retention: what to keep, also in the remote.
            continued: step of the checkpoint that the attempt continues, -1 when there is none.
        """
        if self._follow is None or self._pushed is None:
            return
        pusher = Pusher(
            self._folder,
            self._pushed,
            identity=identity,
            attempt=attempt,
            removable=retention.removable,
            continued=continued,
            rate=self._follow.rate,
        )
        self._follower = Follower(pusher, self._follow.remote.address(), self._folder.pushed)
        self._follower.begin()

    def hear(self) -> None:
        """Something was committed; for any thread."""
        if self._follower:
            self._follower.hear()

    def give_room(self) -> bool:
        """The disk is full: give up what only lives on because it is being sent; for any thread."""
        return self._follower is not None and self._follower.give_room()

    def heed(self) -> None:
        """Say what the follower has to say, and let the session keep back the time that a push takes."""
        follower = self._follower
        if follower is None:
            return
        while follower.told:
            self._tell(*follower.told.popleft())
        self._session.observe_push(follower.seconds)

    def finish(self, reason: str) -> None:
        """Wait for what is behind, as long as the session and the reason of the end allow; say what stays behind."""
        follower = self._follower
        if follower is None:
            return
        seconds = self._seconds(reason) - _LAST
        settled = follower.settle(min(_SILENT, seconds))
        if not settled and seconds > _SILENT and follower.behind and not follower.trouble:
            self._tell("info", f"waits until {follower.address} has {_steps(follower.behind)}")
            follower.settle(self._seconds(reason) - _LAST)
        self.heed()
        if behind := follower.behind:
            again = command("outlast", "push", self._folder.path.name, follower.address)
            self._tell(
                "warning",
                f"{_steps(behind)} {'are' if len(behind) > 1 else 'is'} not at {follower.address} yet"
                f"{f' ({follower.trouble})' if follower.trouble else ''}: only {self._folder.path} has "
                f"{'them' if len(behind) > 1 else 'it'}. The next attempt sends what is missing, or: {again}",
            )

    def close(self, reason: str | None) -> None:
        """Push the records, which say now how the attempt ended, and stop.

        Args:
            reason: of the end; None: nothing may be pushed any more.
        """
        follower, self._follower = self._follower, None
        if follower is None:
            return
        left = 0.0 if reason is None else max(0.0, min(self._seconds(reason), 10.0))
        if left and not follower.settle(left, checkpoints=False) and not follower.behind:
            self._tell("warning", f"How this attempt ended could not be pushed to {follower.address}.")
        follower.close(_SPARE)
        if self._follow:
            self._follow.remote.close()

    def _seconds(self, reason: str) -> float:
        ends = self._session.ends
        left = math.inf if ends is None else ends - _SPARE - now()
        return max(0.0, min(left, _WAITS.get(reason, math.inf)))


def _steps(behind: Sequence[int]) -> str:
    """Some checkpoints, counted and named."""
    named = ", ".join(map(str, behind[:10])) + (", ..." if len(behind) > 10 else "")
    return f"{len(behind)} checkpoints (steps {named})" if len(behind) > 1 else f"the checkpoint at step {named}"
