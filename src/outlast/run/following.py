"""The remote of an attempt: read at the start, pushed to during training, and waited for at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from outlast.errors import RemoteError
from outlast.folder.layout import RunFolder
from outlast.run.session import Session, now
from outlast.terminal import command

if TYPE_CHECKING:
    from outlast.checkpoint import CheckpointStore, Identity
    from outlast.remote.follow import Destination, Follower
    from outlast.remote.revision import PushedRun

_WAITS = {"preempted": 25.0, "cancelled": 10.0, "failed": 30.0}
"""End reason -> longest wait for a remote, in seconds. Other reasons wait until the session's end."""

_SPARE = 0.5  # seconds of the session that are left after the wait
_LAST = 2.0  # seconds reserved for the push of the attempt's end
_SILENT = 1.0  # seconds of waiting that are not reported


def _ignored(_sentence: str) -> None:
    """Nobody waits for the service."""


class FollowingRemote:
    """The remote that follows a run. Without a remote, all methods do nothing.

    Args:
        follow: the remote, or None.
        folder: the run folder.
        session: the session, which limits the wait at the end.
        tell: reports a level and a sentence to the user. For the training thread.
    """

    def __init__(
        self, follow: Destination | None, folder: RunFolder, session: Session, tell: Callable[[str, str], None]
    ) -> None:
        self._follow, self._folder, self._session, self._tell = follow, folder, session, tell
        self._pushed: PushedRun | None = None
        self._follower: Follower | None = None

    def find(self) -> list[PushedRun]:
        """The run in the remote, for gathering.

        Raises:
            RemoteError: the remote does not answer, or refuses to be listed.
        """
        if self._follow:
            from outlast.remote.revision import PushedRun

            try:
                self._pushed = PushedRun(self._follow.remote, self._folder.path.name)
            except RemoteError as error:
                raise type(error)(
                    f"{error} So the newest checkpoint is not known, and training does not start. Start it again, or "
                    f"without the remote to continue from {self._folder.path}.",
                    error.reason,
                ) from error
        return [self._pushed] if self._pushed else []

    def join(self, identity: Identity, told: list[str]) -> Identity:
        """Go on as the run that the remote knows, if it left no checkpoint; returns the identity of the run.

        Args:
            identity: the identity of the run here.
            told: receives sentences for the user.

        Raises:
            RemoteUnavailable, SaveFailed: see `outlast.remote.beginning.join`.
        """
        if self._pushed is None:
            return identity
        from outlast.remote.beginning import join

        return join(self._folder, self._pushed, identity, told)

    def judge(self, rejected: Sequence[str], identity: Identity) -> list[str]:
        """Do not push to a remote that holds another run or history; return a sentence in this case.

        Args:
            rejected: addresses of copies that were not taken.
            identity: the identity of the run.
        """
        pushed = self._pushed
        if pushed is None:
            return []
        there = pushed.revision
        apart = pushed.place.address() in rejected
        if not apart and (there is None or there.run == identity.uid):
            return []
        self._pushed = None
        what = "another history of this run" if apart else "another run of this name"
        sentence = (
            f"Nothing is pushed to {pushed.address()}: it holds {what}. The checkpoints stay in {self._folder.path}. "
            "To push them, use another remote, or another name for the run."
        )
        return [sentence]

    def begin(self, identity: Identity, attempt: str, store: CheckpointStore, continued: int) -> None:
        """Start to push, when the loop begins.

        Args:
            identity: the identity of the run.
            attempt: the attempt's id.
            store: the checkpoints here, with their retention policy.
            continued: step of the checkpoint that the attempt continues, -1 without one.
        """
        if self._follow is None or self._pushed is None:
            return
        from outlast.checkpoint.pins import unpinned
        from outlast.remote.follow import Follower
        from outlast.remote.push import Pusher

        pusher = Pusher(
            self._folder,
            self._pushed,
            identity=identity,
            attempt=attempt,
            removable=lambda kept: unpinned(self._folder, store.retention.removable(kept)),
            continued=continued,
            rate=self._follow.rate,
        )
        remote = self._follow.remote
        self._tell_silence(_ignored)  # training does not wait; the follower reports failed pushes
        self._follower = Follower(pusher, remote.typed or remote.address(), self._folder)
        self._follower.begin()

    def hear(self) -> None:
        """Notify the follower of a commit. For any thread."""
        if self._follower:
            self._follower.hear()

    def give_room(self) -> bool:
        """Free the disk space of a deleted checkpoint that is being pushed. For any thread."""
        return self._follower is not None and self._follower.give_room()

    def heed(self) -> None:
        """Report the follower's messages, and add the duration of a push to the session's reserve."""
        follower = self._follower
        if follower is None:
            return
        while follower.told:
            self._tell(*follower.told.popleft())
        self._session.observe_push(follower.seconds)

    def finish(self, reason: str) -> None:
        """Wait for missing checkpoints, as long as session and end reason allow; report those that stay missing."""
        follower = self._follower
        if follower is None:
            return
        seconds = self._seconds(reason) - _LAST
        settled = follower.settle(min(_SILENT, seconds))
        if not settled and seconds > _SILENT and follower.behind and not follower.trouble:
            self._wait_visibly(follower, self._seconds(reason) - _LAST)
        self.heed()
        if behind := follower.behind:
            again = command("outlast", "push", self._folder.path.name, follower.address)
            self._tell(
                "warning",
                f"{_steps(behind)} {'are' if len(behind) > 1 else 'is'} not at {follower.address} yet"
                f"{f' ({follower.trouble})' if follower.trouble else ''}, only in {self._folder.path}. The next "
                f"attempt with this remote pushes what is missing, or: {again}",
            )

    def _wait_visibly(self, follower: Follower, seconds: float) -> None:
        behind = follower.behind
        what = f"{_steps(behind)} {'are' if len(behind) > 1 else 'is'} pushed to {follower.address}"
        most = f", for {seconds:.0f} s at most" if math.isfinite(seconds) else " or a try fails"
        self._tell("info", f"waiting until {what}{most}")
        self._tell_silence(lambda sentence: self._tell("info", sentence))  # the training thread is in settle
        follower.settle(seconds)
        self._tell_silence(_ignored)

    def _tell_silence(self, tell: Callable[[str], None]) -> None:
        if self._follow:
            self._follow.remote.tell_silence(tell)

    def close(self, reason: str | None) -> None:
        """Push the records with the end of the attempt, and stop.

        Args:
            reason: the end reason; None: push nothing more.
        """
        follower, self._follower = self._follower, None
        if follower is None:
            return
        left = 0.0 if reason is None else max(0.0, min(self._seconds(reason), 10.0))
        if left and not follower.settle(left, checkpoints=False) and not follower.behind:
            self._tell("warning", f"The end of this attempt could not be pushed to {follower.address}.")
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
