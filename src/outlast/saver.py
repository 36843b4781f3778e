"""Decides when the state is saved, has it committed, and remembers what is safe. Asked between two steps only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outlast.checkpoint import SavePolicy, Snapshot, Store
from outlast.errors import SaveFailed
from outlast.parts import RNG, Parts
from outlast.session import Session
from outlast.tracking import Fanout, Journal

_RETRY = 60.0  # seconds until a failed save is tried again
_BEST_SHARE = 10.0  # a new best in the middle of an epoch is saved when the last save is this many times its cost ago


class Saver:
    """The saving side of a run.

    Args:
        store: where checkpoints go; its retention policy names the metric of the best.
        policy: when to save.
        session: learns the size of the state and how long a save takes.
        journal: flushed before every commit.
        shown: told of saves.
        tell: says a sentence to the user and records it.

    Attributes:
        saved_step: the step of the newest commit, -1 when there is none.
        asked: whether the script asked for a save at the end of this step.
    """

    def __init__(
        self,
        store: Store,
        policy: SavePolicy,
        session: Session,
        journal: Journal,
        shown: Fanout,
        tell: Callable[[str, str], None],
    ) -> None:
        self.saved_step = -1
        self.asked = False
        self._store, self._policy, self._session, self._journal = store, policy, session, journal
        self._shown, self._tell = shown, tell
        self._parts = Parts(None)
        self._software: Mapping[str, Any] = {}
        self._clock, self._cost = time.perf_counter(), 0.0

    def begin(self, parts: Parts, software: Mapping[str, Any]) -> None:
        """Learn what there is to save, tell the session its size, and start the clock."""
        self._parts, self._software = parts, software
        arrays, _, _ = parts.pack()
        size = sum(array.nbytes for part in arrays.values() for array in part.values())
        self._session.observe_state(size, self._stored_bytes())
        self._session.check_budget()
        self._clock = time.perf_counter()

    @property
    def next_save(self) -> float | None:
        """Seconds until the next save by time; None when saves are not by time."""
        interval = self._policy.seconds
        return None if interval is None else max(0.0, interval - (time.perf_counter() - self._clock))

    def due(self, step: int, epoch_ended: int | None, metrics: Mapping[str, Any]) -> str | None:
        """The reason to save after this step, or None."""
        since = time.perf_counter() - self._clock
        if self.asked:
            return "asked"
        reason = self._policy.due(step=step, seconds=since, epoch_ended=epoch_ended)
        if not reason and self._policy.on_best and (epoch_ended is not None or since > _BEST_SHARE * self._cost):
            reason = "best" if self._is_best(metrics) else None
        return reason

    def save(
        self, step: int, loop: Sequence[int], reason: str, metrics: Mapping[str, Any], *, must: bool = False
    ) -> float:
        """Commit unless this step is committed already.

        Returns:
            Seconds that it took.

        Raises:
            SaveFailed: it was one that must succeed; any other failure is told and tried again later.
        """
        if self.saved_step == step:
            return 0.0
        begun = time.perf_counter()
        try:
            self._commit(step, loop, reason, metrics)
        except SaveFailed as error:
            if must:
                raise
            self._tell("warning", f"{error} Training goes on and tries again.")
            interval = self._policy.seconds
            self._clock = time.perf_counter() - (interval - min(_RETRY, interval) if interval is not None else 0.0)
            return time.perf_counter() - begun
        self.saved_step, self._clock, self.asked = step, time.perf_counter(), False
        self._cost = self._clock - begun
        return self._cost

    def _commit(self, step: int, loop: Sequence[int], reason: str, metrics: Mapping[str, Any]) -> None:
        begun = time.perf_counter()
        try:
            self._journal.flush()
        except OSError as error:
            raise SaveFailed(
                f"The journal could not be written before the checkpoint at step {step}: {error.strerror} ({self._journal.path}). "
                "Earlier checkpoints are intact. Free disk space or check the folder's permissions."
            ) from error
        arrays, nodes, generators = self._parts.pack()
        snapshot = Snapshot(
            step=step,
            reason=reason,
            parts=arrays,
            state={"step": step, "loop": list(loop), "journal": self._journal.mark, "parts": nodes, RNG: generators},
            metrics={name: value for name, value in metrics.items() if isinstance(value, int | float)},
            software=self._software,
        )
        checkpoint = self._store.commit(snapshot)
        took = time.perf_counter() - begun
        self._session.observe_state(snapshot.nbytes, self._stored_bytes(), took)
        self._shown.send("saved", step, reason, took, checkpoint.nbytes)

    def _is_best(self, metrics: Mapping[str, Any]) -> bool:
        keep = self._store.retention
        value = metrics.get(keep.metric or "")
        if not keep.best or not isinstance(value, int | float):
            return False
        return keep.is_new_best(value, [checkpoint.kept for checkpoint in self._store.committed()])

    def _stored_bytes(self) -> int:
        return sum(checkpoint.nbytes for checkpoint in self._store.committed())
