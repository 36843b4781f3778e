"""Validation between two steps, which a stop may interrupt; the next attempt repeats it from the same state.

docs/decisions/0011-interrupted-validation.md says why it is a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from outlast.checkpoint import OpenedCheckpoint
from outlast.config.units import parse_interval
from outlast.data.sampler import BatchSampler
from outlast.distributed import replicas
from outlast.errors import SessionEnded, UsageError
from outlast.run.attempt import Attempt
from outlast.run.continuation import RNG
from outlast.run.metrics import Metrics
from outlast.run.parts import Parts
from outlast.run.stopping import Stopping
from outlast.state import rng
from outlast.tracking import Journal


class Validation:
    """The validation of a loop: what it is, whether it runs, and whether one was interrupted.

    Args:
        attempt: measures its time, and receives its events.
        parts: the state, which a validation must leave as it was.
        metrics: of the step; those of an interrupted validation do not count.
        stopping: decides whether it is interrupted.
        opened: the checkpoint that the attempt continues, or None for a fresh start.

    Attributes:
        running: whether it runs.
        completed: whether one was completed in this attempt.
        cut: whether the step's validation was interrupted and is still to be done.
    """

    def __init__(
        self, attempt: Attempt, parts: Parts, metrics: Metrics, stopping: Stopping, opened: OpenedCheckpoint | None
    ) -> None:
        self._attempt, self._parts, self._metrics, self._stopping = attempt, parts, metrics, stopping
        self.running = self.completed = False
        self._heard = self._further = False
        self._pending = PendingValidation.of(opened)
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
        if (
            interval is None
            or interval.seconds
            or interval.auto
            or interval.each_step
            or not (interval.steps or interval.epochs)
        ):
            raise UsageError(
                f"validate() was given every={every!r}; expected steps or epochs, such as '1 epoch' or '500 steps'."
            )
        self._function, self._steps, self._epochs = function, interval.steps, interval.epochs

    def due(self, step: int, epoch_ended: int | None) -> bool:
        """Whether to validate after this step."""
        at_epoch = bool(self._epochs and epoch_ended and epoch_ended % self._epochs == 0)
        return at_epoch or bool(self._steps and step % self._steps == 0)

    def run(self, step: int, log: Callable[[Mapping[str, Any]], None], *, further: bool) -> list[str] | None:
        """Call the function. If it is interrupted, generators, journal and metrics are what they were before.

        Args:
            step: steps done.
            log: takes the metrics that it returns.
            further: whether the run has got further in this attempt.

        Returns:
            None if it was completed; else the names of the parts that it left changed.
        """
        before, metrics = RestorePoint(self._parts, self._attempt.journal), dict(self._metrics.of_step)
        stopping, asked, self._further = self._stopping, self._stopping.asked, further
        if stopping.alone:
            stopping.asked = self._asked
        try:
            with self._attempt.watch.evaluating(inside=True) as took:
                self._call(log)
        finally:
            stopping.asked = asked
        self._attempt.shown.send("evaluated", step, took())
        if not self.cut:
            return None
        self._metrics.of_step = metrics
        return before.restore()

    def _call(self, log: Callable[[Mapping[str, Any]], None]) -> None:
        assert self._function is not None  # noqa: S101 - `due` is never true without one
        self.running, self._heard = True, False
        try:
            found = self._function()
            if isinstance(found, Mapping) and not self._heard:
                log(found)
        except SessionEnded:
            self._heard = True
        finally:
            self.running = False
        self.cut = self._heard
        self.completed = self.completed or not self._heard

    def _asked(self) -> bool:
        """`should_stop` while it runs: a function that gets True leaves it unfinished."""
        self._heard = self._heard or self._stopping.inside(further=self._further)
        return self._heard

    def evaluate(self, loader: Iterable[Any], step: int, *, inside: bool, further: bool) -> Iterator[Any]:
        """Yield the batches of a loader of validation; see `Run.evaluate`.

        Args:
            loader: gives them.
            step: steps done, or the running one.
            inside: whether it happens inside of a step.
            further: whether the run has got further in this attempt.

        Raises:
            SessionEnded: the session must end.
        """
        self._attempt.check_no_sink("evaluate")
        if self.running:  # all of it is measured
            yield from self._batches(loader, further=further)
            return
        with self._attempt.watch.evaluating(inside=inside) as took:
            yield from self._batches(loader, further=further)
        self._attempt.shown.send("evaluated", step, took())

    def _batches(self, loader: Iterable[Any], *, further: bool) -> Iterator[Any]:
        for batch in from_its_beginning(loader):
            if self._stopping.inside(further=further):
                self._heard = True
                raise self._stopping.ended()
            yield batch

    def take_pending(self, step: int) -> PendingValidation | None:
        """The validation of this step that the attempt before interrupted.

        None when there is none, when it was asked for before, or when this program has no validation, which is told.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        self.cut = False
        if self.given:
            return pending
        self._attempt.tell(
            "warning",
            f"The validation of step {step} was interrupted in the previous attempt, and this program has no "
            "validation, so it is skipped. Give one to run.validate().",
        )
        return None


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

    @classmethod
    def of(cls, opened: OpenedCheckpoint | None) -> Self | None:
        """The one that a checkpoint says is still to be done."""
        found = opened.state.loop.pending if opened else None
        if opened is None or found is None:
            return None
        return cls(found["epoch_ended"], found["epoch"], dict(opened.checkpoint.metrics))


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
