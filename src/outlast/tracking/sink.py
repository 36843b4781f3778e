"""The events of a run, and the base class of their receivers."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from outlast.tracking.timing import TimeSpent

_NEAR = 0.8  # likeness of two names, from which one may be meant for the other: "loggd", not "log"
_SECRET = re.compile(r"(?i)(^|[_.-])(api_?keys?|keys?|secrets?|tokens?|credentials?|passwords?|passwd)([_.-]|$)")


class RunFacts(NamedTuple):
    """The facts of a run when its loop begins.

    Attributes:
        id: the run's name.
        uid: 32 hex digits, the same in every copy of the run; None if unknown.
        folder: the run folder.
        attempt: number of this attempt, from 1.
        step: number of completed steps.
        total_steps: total number of steps, None if unknown.
        recipe: name or path of the recipe, None for a script.
        grade: the grade of a resume: "exact", "statistical" or "restart-epoch".
        resumed_from: step of the checkpoint that this attempt continues, None for a fresh start.
        artifacts: the folder of the run's artifacts; None if unknown.
        stages: in a chain, the stages up to this one, such as "vqvae finished at step 1200 -> diffusion"; else empty.
    """

    id: str
    folder: Path
    attempt: int
    step: int
    total_steps: int | None = None
    recipe: str | None = None
    grade: str = "exact"
    resumed_from: int | None = None
    uid: str | None = None
    stages: str = ""
    artifacts: Path | None = None


class SaveFacts(NamedTuple):
    """The facts of a committed checkpoint.

    Attributes:
        step: its step.
        reason: the reason of the save.
        seconds: time from the request until it was durable.
        held: seconds that training waited for it.
        size: bytes of its files.
        staged: bytes that were copied in memory, so that training continued during the write; 0 if training waited.
    """

    step: int
    reason: str
    seconds: float
    size: int
    held: float = 0.0
    staged: int = 0


class Progress(NamedTuple):
    """The progress of a run, for a line on a screen.

    Attributes:
        step: number of completed steps.
        total: total number of steps, None if unknown.
        epoch: the running epoch, 1-based, None for step loops.
        rate: recent steps per second in this attempt.
        metrics: the last logged values.
        seconds_left: time until the session ends, None if nothing ends it.
        next_save: seconds until the next save by time, None if saves are not by time.
    """

    step: int
    total: int | None
    epoch: int | None
    rate: float
    metrics: Mapping[str, Any]
    seconds_left: float | None
    next_save: float | None

    @property
    def eta(self) -> float | None:
        """Seconds to the last step at the present rate."""
        return (self.total - self.step) / self.rate if self.total and self.rate > 0 else None


class Sink:
    """Base class of all sinks; every method does nothing.

    Each sink of `open_run(sinks=[...])` has its own thread, which calls its methods one event after the other, so a
    slow sink does not slow training. A method that raises an error is called again with the same event after a pause:
    1 s, doubled after each further error up to 60 s, until an event is taken. After five errors, the event is counted
    as lost, and the next one is sent; `started` is never lost, and no event of the loop is sent before it. A sink must
    not change the facts, call methods of the run that log or save, nor draw from the global random generators, which
    belong to the training.

    Attributes:
        time: Unix time of the event, which may be earlier than its delivery.
    """

    time: float = 0.0

    @property
    def title(self) -> str:
        """The name of the sink in messages."""
        return type(self).__name__

    def started(self, facts: RunFacts, config: Mapping[str, Any]) -> None:
        """The loop begins. `config` has dotted keys, without text whose key is named like a secret.

        Empty for a script.
        """

    def rewound(self, step: int) -> None:
        """Metrics after this step are no longer part of the run: the training logs them again."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A journal line was added: step, epoch if any, and the metrics."""

    def progressed(self, progress: Progress) -> None:
        """A step is done. Sent at most every 0.2 s; if a sink is behind, only the newest event is kept."""

    def epoch_ended(self, epoch: int) -> None:
        """The last step of an epoch (1-based) is done, and saved if a save was due."""

    def evaluated(self, step: int, seconds: float) -> None:
        """An evaluation has ended: `run.evaluate`, or the function of `run.validate`."""

    def timed(self, step: int, rate: float, spent: TimeSpent) -> None:
        """Recent steps per second, and the time of this attempt by activity.

        Sent once a minute and at the end.
        """

    def saved(self, save: SaveFacts) -> None:
        """A checkpoint was committed."""

    def artifact(self, name: str, path: Path) -> None:
        """A named output, a file or a folder, is complete at its path."""

    def told(self, level: str, sentence: str) -> None:
        """A message for the user: level "info" or "warning"."""

    def stopping(self, reason: str, sentence: str) -> None:
        """A stop was requested.

        Receivers in the training thread are called inside a signal handler: do not take locks there.
        """

    def ended(self, reason: str, step: int, total: int | None) -> None:
        """The attempt is over."""

    def closed(self) -> None:
        """The last event."""


class NotingSink(Sink):
    """A sink that has sentences for the user.

    Attributes:
        notes: level and sentence; the training thread takes them out.
    """

    def __init__(self) -> None:
        self.notes: deque[tuple[str, str]] = deque()


def hears(sink: Sink, event: str) -> bool:
    """Whether a sink handles an event; True also if this cannot be determined, as the call then shows the error."""
    try:
        found = getattr(sink, event)
    except (Exception, SystemExit):  # noqa: BLE001 - whatever a sink does, training continues
        return True
    return getattr(found, "__func__", None) is not getattr(Sink, event)


def title_of(sink: Sink) -> str:
    """The title of a sink; the name of its class if it has none that is text."""
    try:
        title = sink.title
    except (Exception, SystemExit):  # noqa: BLE001 - as above
        title = ""
    return title if title and isinstance(title, str) else type(sink).__name__


def misspelt(sink: Sink) -> list[str]:
    """Warnings about methods of a sink whose name is nearly that of an event."""
    import difflib  # there may be no sink

    events = [name for name, value in vars(Sink).items() if callable(value) and not name.startswith("_")]
    kind, told = type(sink), list[str]()
    for name in sorted(set(dir(kind)) - set(dir(Sink))):
        close = difflib.get_close_matches(name, events, 1, _NEAR) if not name.startswith("_") else []
        if close and callable(getattr(kind, name)) and not hears(sink, close[0]):
            told.append(
                f"The sink {title_of(sink)} has the method {name!r}, which no event calls. Did you mean {close[0]!r}? "
                f"Events: {', '.join(events)}."
            )
    return told


def without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """A config without text under keys that are named like secrets, such as `wandb.api_key` or `token`."""
    return {name: value for name, value in values.items() if not (isinstance(value, str) and _SECRET.search(name))}
