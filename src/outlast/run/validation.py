"""Validation between two steps, which a stop may interrupt; the next attempt repeats it from the same state.

docs/decisions/0011-interrupted-validation.md says why it is a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outlast.checkpoint import OpenedCheckpoint
from outlast.config.units import parse_interval
from outlast.data.sampler import BatchSampler
from outlast.distributed import replicas
from outlast.errors import SessionEnded, UsageError
from outlast.run.continuation import RNG
from outlast.run.parts import Parts
from outlast.state import rng
from outlast.tracking import Journal

PENDING = "pending"
"""Key of state.json: that the step's validation is still to be done, and what it is to be done with."""


class Validation:
    """The validation of a loop: what it is, whether it runs, and whether one was interrupted.

    Args:
        opened: the checkpoint that the attempt continues, or None for a fresh start.

    Attributes:
        running: whether it runs.
        heard: whether it was stopped by the session's end, and is therefore not complete.
        completed: whether one was completed in this attempt.
        cut: whether the step's validation was interrupted and is still to be done.
    """

    def __init__(self, opened: OpenedCheckpoint | None) -> None:
        self.running = self.heard = self.completed = False
        self._pending = _pending_of(opened.state) if opened else None
        self._metrics = opened.checkpoint.metrics if opened else {}
        self.cut = self._pending is not None
        self._function: Callable[[], Mapping[str, Any] | None] | None = None
        self._steps: int | None = None
        self._epochs: int | None = None

    @property
    def given(self) -> bool:
        """Whether the program has one."""
        return self._function is not None

    def give(self, function: Callable[[], Mapping[str, Any] | None], every: str) -> None:
        """Take the function that a script gives to `Run.validate`.

        Args:
            function: takes nothing; returns metrics, or nothing.
            every: "1 epoch", "500 steps", or both.

        Raises:
            UsageError: there is one already; it cannot be called; or `every` is another interval.
        """
        if self._function:
            raise UsageError("validate() was called twice; a run has one validation, which may do several things.")
        if not callable(function):
            raise UsageError(f"validate() was given {function!r:.80}; expected a function without arguments.")
        try:
            interval = parse_interval(every) if isinstance(every, str) else None
        except ValueError:
            interval = None
        if interval is None or interval.seconds or interval.auto or not (interval.steps or interval.epochs):
            raise UsageError(
                f"validate() was given every={every!r}; expected steps or epochs, such as '1 epoch' or '500 steps'."
            )
        self._function, self._steps, self._epochs = function, interval.steps, interval.epochs

    def due(self, step: int, epoch_ended: int | None) -> bool:
        """Whether to validate after this step."""
        at_epoch = bool(self._epochs and epoch_ended and epoch_ended % self._epochs == 0)
        return at_epoch or bool(self._steps and step % self._steps == 0)

    def call(self, log: Callable[[Mapping[str, Any]], None]) -> bool:
        """Call the function; returns whether it was completed.

        Args:
            log: takes the metrics that it returns.
        """
        assert self._function is not None  # noqa: S101 - `due` is never true without one
        self.running, self.heard = True, False
        try:
            found = self._function()
            if isinstance(found, Mapping) and not self.heard:
                log(found)
        except SessionEnded:
            self.heard = True
        finally:
            self.running = False
        self.cut = self.heard
        self.completed = self.completed or not self.heard
        return not self.heard

    def take_pending(self) -> PendingValidation | None:
        """The validation that the attempt before interrupted.

        None when there is none, or when it was asked for before.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        self.cut = False
        return PendingValidation(pending["epoch_ended"], pending["epoch"], dict(self._metrics))


@dataclass(frozen=True)
class PendingValidation:
    """A validation that is still to be done.

    Attributes:
        epoch_ended: the number of the epoch that its step ended, or None.
        epoch: the epoch of its step, or None in loops without epochs.
        metrics: what its step had logged.
    """

    epoch_ended: int | None
    epoch: int | None
    metrics: dict[str, Any]

    @staticmethod
    def record(epoch_ended: int | None, epoch: int | None) -> dict[str, Any]:
        """The entry in state.json."""
        return {PENDING: {"epoch_ended": epoch_ended, "epoch": epoch}}


class RestorePoint:
    """The state at the beginning of a validation, to which an interrupted one is reset.

    Args:
        parts: of the state.
        journal: the journal.
    """

    def __init__(self, parts: Parts, journal: Journal) -> None:
        self._parts, self._journal = parts, journal
        self._generators = rng.capture()
        self._lines = journal.remember()
        self._prints = self._take_prints()

    def restore(self) -> list[str]:
        """Put generators and journal back; returns the parts of the state that are not what they were."""
        rng.restore(self._generators)
        self._journal.take_back(self._lines)
        now = self._take_prints()
        return sorted(name for name in now if now[name] != self._prints.get(name))

    def _take_prints(self) -> Mapping[str, Any]:
        arrays, nodes, _ = self._parts.pack()
        arrays.pop(RNG)
        return replicas.fingerprints(arrays, nodes, ())


def from_its_beginning(loader: Any) -> Iterator[Any]:
    """Iterate a loader of validation.

    One of ours always gives the batches of its first epoch, so that a repeated validation is the same.
    """
    if isinstance(getattr(loader, "sampler", None), BatchSampler):
        loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": 0})
    try:
        return iter(loader)
    except TypeError:
        if hasattr(loader, "__iter__") or hasattr(loader, "__getitem__"):
            raise  # of its own
        kind = type(loader).__qualname__
        raise UsageError(
            f"evaluate() was given {'None' if loader is None else f'a {kind}'}; expected a loader, or another iterable "
            "of batches."
        ) from None


def _pending_of(state: Mapping[str, Any]) -> dict[str, int | None] | None:
    """The pending validation in a state.json: `epoch_ended` and `epoch`.

    None when there is none.
    """
    found = state.get(PENDING)
    if not isinstance(found, Mapping):
        return None
    return {key: found[key] if type(found.get(key)) is int else None for key in ("epoch_ended", "epoch")}
