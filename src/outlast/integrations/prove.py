"""`outlast prove`: a training undisturbed, and once more with interruptions, must be the same.

A command that uses outlast is told by a variable (`outlast.run.witness`) where its run folder is, when it stops, and
when it is interrupted. Its own run folders are not touched.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN, OutlastError, UsageError
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.integrations import causes, child
from outlast.integrations.traces import Trace, first_difference, lasting, trace_of
from outlast.run.witness import VARIABLE, Plan
from outlast.terminal import counted

WORDS = {"kill": "kill -9", "term": "SIGTERM", "budget": "the end of a budget"}
"""How an attempt is ended -> in words."""

_NOT_GIVEN = ("OUTLAST_ROOT", "OUTLAST_BUDGET", "OUTLAST_REMOTE", "OUTLAST_RESUME_FROM")
_TAIL = 2000  # characters of the output of a command that failed
_SAVES = 8  # checkpoints of the interrupted training, besides those of its interruptions


@dataclass(frozen=True)
class Asked:
    """What is proved.

    Attributes:
        argv: the command.
        folder: where it runs.
        place: an empty folder for run folders and output.
        steps: steps of the training.
        kills: number of interruptions.
        seed: chooses the moments.
        tell: shows the user a line of progress.
    """

    argv: tuple[str, ...]
    folder: Path
    place: Path
    steps: int
    kills: int
    seed: int
    tell: Callable[[str], None]


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        identical: whether the trainings are the same.
        lines: sentences for the user.
        cause: the name of the likely cause, or None.
        step: the first step that differs, or None.
    """

    identical: bool
    lines: tuple[str, ...]
    cause: str | None = None
    step: int | None = None


def prove(asked: Asked) -> Verdict:
    """Train and compare.

    Raises:
        UsageError: the command opens no run, is too short to be interrupted, or was never interrupted after a
            checkpoint.
        OutlastError: it fails.
    """
    whole = _Training(asked, "undisturbed")
    whole.start()
    name, one = whole.name, whole.trace()
    if one.last < 2:
        raise UsageError(f"The training has {one.last} steps, too few to be interrupted. Nothing was proved.")
    cut = _Training(asked, "interrupted")
    ends = _moments(one.last, asked)
    for number, (step, how, delay) in enumerate(ends, 1):
        cut.start(step, how, delay)
        asked.tell(f"interruption {number} of {len(ends)}: {WORDS[how]} after step {step}")
    cut.start()
    other = cut.trace(name)
    resumed = [line.step for line in other.starts[1:]]
    did = (
        f"{one.last} steps of {name}; "
        + ", ".join(f"{WORDS[how]} after step {step}" for step, how, _ in ends)
        + f"; resumed at {', '.join(map(str, resumed))}"
    )
    if not any(resumed):
        raise UsageError(
            f"Every interruption came before the first checkpoint was complete ({did}), so nothing was resumed and "
            "nothing was proved. Give more --kills or --steps, or another --kill-seed."
        )
    found = first_difference(one, other)
    if found is None:
        return Verdict(True, (f"identical: {did}", _compared(one)))
    asked.tell("they differ; training undisturbed once more, to see whether it equals itself")
    twice = _Training(asked, "again")
    twice.start()
    again = twice.trace(name)
    noise = _noise(one, again)
    if noise and (found := first_difference(one, other, noise)) is None:
        left = f"not compared, because undisturbed trainings differ in it: {', '.join(sorted(noise))}"
        return Verdict(True, (f"identical: {did}", _compared(one), left))
    assert found is not None  # noqa: S101 - it was there without noise
    cause = causes.cause_of(one, other, again, found)
    kept = "" if found.parts or found.generators or found.metrics else "; all that is tracked is identical"
    lines = (
        f"differs: first at step {found.step}, in {', '.join(found.where[:4])}{kept}",
        f"cause: {cause.name}. {cause.words}",
        f"trained: {did}",
    )
    return Verdict(False, lines, cause.name, found.step)


def _moments(last: int, asked: Asked) -> list[tuple[int, str, float]]:
    """Steps after which the training is interrupted, how, and the part of a step's time that a kill waits."""
    draw, hows = random.Random(asked.seed), list(WORDS)  # noqa: S311 - moments, no secrets
    steps = sorted(draw.sample(range(1, last), min(asked.kills, last - 1)))
    return [(step, hows[number % len(hows)], draw.random()) for number, step in enumerate(steps)]


def _compared(trace: Trace) -> str:
    rows = sum(map(len, trace.metrics.values()))
    parts = [name for name in trace.final if name != "generators"]
    return f"compared byte for byte: {', '.join(parts)}, the global generators, {counted(rows, 'row')} of metrics"


def _noise(one: Trace, again: Trace) -> frozenset[str]:
    """Metrics and variables in which already undisturbed trainings differ, if nothing tracked does."""
    found, noise = first_difference(one, again), frozenset[str]()
    while found and not (found.parts or found.generators) and (found.metrics | found.others) - noise:
        noise |= found.metrics | found.others
        found = first_difference(one, again, noise)
    return noise | lasting(one.at(one.last), again.at(again.last))


class _Training:
    """A training in one process or several, one after the other."""

    def __init__(self, asked: Asked, what: str) -> None:
        self._asked, self._what = asked, what
        self._root, self._records, self._name = asked.place / what, list[Path](), ""
        durable.make_folder(self._root)

    @property
    def name(self) -> str:
        """The run's name."""
        names = sorted(path.name for path in self._root.iterdir() if RunFolder(path).run.is_file())
        if len(names) != 1:
            raise UsageError(
                f"The command opened {' and '.join(names) or 'no run'}, and `outlast prove` "
                "compares one run. Of a command that does not use outlast, name the files that it writes: "
                "outlast prove --keep out -- COMMAND."
            )
        return names[0]

    def start(self, end: int = 0, how: str = "budget", delay: float = 0.0) -> None:
        """Start a process and wait for its end."""
        asked, number = self._asked, len(self._records) + 1
        record, output = (asked.place / f"{self._what}-{number}.{kind}" for kind in ("jsonl", "log"))
        self._records.append(record)
        plan = Plan(str(self._root), str(record), asked.steps, end=end, how=how, delay=delay)
        if self._what == "interrupted":
            plan = replace(plan, save=f"{max(1, asked.steps // _SAVES)} steps")
        others = {name: value for name, value in os.environ.items() if name not in _NOT_GIVEN}
        variables = {**others, VARIABLE: plan.as_text()}
        begun = time.monotonic()
        code = run_process(asked.argv, asked.folder, variables, output)
        if code not in (EXIT_FINISHED, EXIT_RUN_AGAIN) and not (end and how == "kill" and is_killed(code)):
            raise OutlastError(
                f"The command failed ({child.words_of(code)}) in the {self._what} training, process {number}. Its "
                f"output ends with:\n{tail_of(output)}"
            )
        if not end:
            asked.tell(f"{self._what}: done in {time.monotonic() - begun:.1f} s")

    def trace(self, name: str = "") -> Trace:
        """What it left."""
        return trace_of(self._root, name or self.name, self._records)


def run_process(argv: Sequence[str], folder: Path, variables: Mapping[str, str], output: Path) -> int:
    """Run a command to its end, with its output in a file; returns its exit code.

    Raises:
        UsageError: it cannot be started.
    """
    with open(output, "wb") as file:  # noqa: PTH123
        try:
            process = subprocess.Popen(
                argv, cwd=folder, env=dict(variables), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"{argv[0]!r:.200} cannot be started: {error.strerror}. Nothing was started.") from error
        try:
            return process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has left running, or all of it after Ctrl-C
            process.wait()


def is_killed(code: int) -> bool:
    """Whether SIGKILL ended a process, or the one that the process stands for."""
    return child.killed_by(code) == "SIGKILL"


def tail_of(output: Path) -> str:
    """The end of a file of output."""
    return output.read_bytes()[-_TAIL:].decode(errors="replace").strip()
