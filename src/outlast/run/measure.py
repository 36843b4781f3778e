"""What `outlast doctor` asks of a training by a variable: how long its steps take, and the memory that they need.

A few steps are made in a folder of their own, then the training stops with a checkpoint, as at the end of a session.
Nothing of it is active without the variable.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outlast import state
from outlast.checkpoint.memory import peak
from outlast.environment.base import clock
from outlast.folder import durable
from outlast.run.agreement import STEPS
from outlast.run.plan import Asked, read
from outlast.tracking import Sink

if TYPE_CHECKING:
    from outlast.run.attempt import Attempt
    from outlast.tracking.sink import SaveFacts

VARIABLE = "OUTLAST_MEASURE"
"""The variable: a Plan as JSON."""


@dataclass(frozen=True)
class Plan(Asked):
    """What one process is to measure.

    Attributes:
        root: the folder of its run folder.
        record: the file that gets a line of JSON for each thing measured.
        steps: steps to make after the first one.
        seconds: time after which no further step is begun, counted from the end of the first one.
        begun: when the process was started, on `outlast.environment.base.clock`.
        parent: number of the process that started it.
    """

    root: str
    record: str
    steps: int
    seconds: float
    begun: float
    parent: int


def read_plan(variables: Mapping[str, str] = os.environ) -> Plan | None:
    """The plan in the variable, or None.

    Raises:
        UsageError: it is none.
    """
    return read(Plan, VARIABLE, "outlast doctor", variables)


def note(record: str, **facts: Any) -> None:
    """Add a line to the record, which whoever started this process reads even when it is killed."""
    with open(record, "ab") as file:  # noqa: PTH123
        durable.write_all(file.fileno(), memoryview(json.dumps(facts).encode() + b"\n"))


class Measure:
    """Times the steps of an attempt, and stops it after a few.

    Args:
        plan: the plan.
        attempt: the attempt.
    """

    def __init__(self, plan: Plan, attempt: Attempt) -> None:
        self._plan, self._attempt = plan, attempt
        self._begun = self._at = time.perf_counter()
        self._steps, self._done = plan.steps + 1, 0

    def begin(self, step: int, total: int | None) -> None:
        """The first step is about to begin.

        Args:
            step: steps done.
            total: total number of steps. The last one is not made, unless it is the only one, so that the program does
                not do what it does with a finished run. Several ranks agree to stop some steps later, so they ask
                as many earlier.
        """
        software = {key: str(value) for key, value in state.software().items()}
        since = clock() - self._plan.begun
        note(self._plan.record, kind="begin", total=total, since=since, software=software)
        if total is not None:
            later = STEPS if self._attempt.ranks.several else 0
            self._steps = max(1, min(self._steps, total - step - 1 - later))
        self._at = time.perf_counter()

    def after_step(self, step: int) -> None:
        """A step is done; the devices are waited for, because they compute while the program goes on."""
        state.wait_for_devices()
        now = time.perf_counter()
        self._done += 1
        if self._done == 1:
            self._begun = now
        note(self._plan.record, kind="step", step=step, seconds=now - self._at, **memory())
        if self._done >= self._steps or (self._done > 1 and now - self._begun >= self._plan.seconds):
            self._attempt.session.request_stop("budget", f"{self._done} steps are measured")
        self._at = time.perf_counter()


def memory() -> dict[str, Any]:
    """Most memory that this process has had, in bytes: of the machine, and of each device by its name."""
    return {"peak": peak(), "devices": state.device_peaks()}


class Saves(Sink):
    """Records what saves take.

    Args:
        record: the file of the plan.
    """

    def __init__(self, record: str) -> None:
        self._record = record

    def saved(self, save: SaveFacts) -> None:
        """A checkpoint is on the disk."""
        note(self._record, kind="saved", seconds=save.seconds, size=save.size, held=save.held, **memory())
