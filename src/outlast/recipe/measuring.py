"""Measures a training before a session is spent on it: a few steps of the real recipe, with the user's values.

They are made in a process of its own (`outlast.recipe.measured`), or in several that train together as torchrun starts
them, within a time and within a part of the memory that is free, so that neither a training that hangs nor a batch that
is too large harms the machine.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from outlast.checkpoint.memory import available
from outlast.config.units import format_bytes, format_seconds
from outlast.distributed import torchrun
from outlast.environment.base import clock
from outlast.errors import UsageError
from outlast.recipe import measured
from outlast.recipe.prepare import Request
from outlast.run import measure

SHARE = 0.9
"""Part of the free memory that a measured training may take."""

_LOOK = 0.05  # seconds between two looks at its memory
_ENDS = 30.0  # seconds that it may take to end after its last step, besides the time that it has
_NOTES = 3.0  # seconds that the other ranks have to say what happened, when one has failed
_KEPT = ("OUTLAST_SESSION_ENDS", "OUTLAST_INPUTS")

_FAILURES = ("memory", "error", "rank", "last")

Why = Literal["ok", "memory", "time", "error"]


@dataclass(frozen=True)
class Bounds:
    """What a measurement may take.

    Attributes:
        steps: steps after the first one.
        seconds: time for them.
        within: seconds for all of it, from the start of the processes.
        memory: bytes of memory, of all its processes; None: not bounded.
        hard: bytes that one of them can allocate at all.
        why: what bounds the memory.
    """

    steps: int = 50
    seconds: float = 10.0
    within: float = 300.0
    memory: int | None = None
    hard: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        why: "ok", or why it ended: it needs more "memory" than there is, more "time", or an "error".
        words: what happened, if not "ok".
        start: seconds from the start of the process to the first step.
        first: seconds of the first step, which compiles and warms up; None if there was none.
        steps: seconds of the steps after it.
        total: total number of steps; None if the recipe does not say.
        memory: most bytes of memory of its processes together. What several ranks share may be counted in each.
        devices: device -> most bytes there.
        checkpoint: bytes of a checkpoint; None if none was written.
        save: seconds until it was on the disk.
        software: versions, devices and threads.
        ranks: processes that trained together. Times are those of the first one, which the others wait for.
    """

    why: Why
    words: str = ""
    start: float | None = None
    first: float | None = None
    steps: Sequence[float] = ()
    total: int | None = None
    memory: int = 0
    devices: Mapping[str, int] = field(default_factory=dict)
    checkpoint: int | None = None
    save: float | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    ranks: int = 1

    @property
    def step(self) -> float | None:
        """Median of the seconds of a step; of the first one alone if there is no other."""
        return statistics.median(self.steps) if self.steps else self.first

    @property
    def device(self) -> str:
        """The device that it computed on, such as "cpu" or the name of a GPU."""
        return next((value for key, value in self.software.items() if key.endswith(" device")), "unknown")


def bound(within: float, ram: int, place: str = "") -> Bounds:
    """What a measurement may take on this machine.

    Args:
        within: seconds for all of it.
        ram: bytes that a process may use here.
        place: where that is stated; empty if it was measured.
    """
    free = available()
    if free is None:
        return Bounds(within=within)
    least = min(ram, free)
    what = f"the {format_bytes(ram)} that {place} states" if place else f"the {format_bytes(ram)} of this machine"
    why = f"{SHARE:.0%} of " + (f"the {format_bytes(free)} that are free now" if free < ram else what)
    return Bounds(within=within, memory=int(SHARE * least), hard=free, why=why)


def run(
    source: str,
    request: Request,
    place: Path,
    bounds: Bounds,
    batch: tuple[str, int] | None = None,
    ranks: int = 1,
) -> Measured:
    """Measure a training.

    Args:
        source: that of the recipe.
        request: the user's values.
        place: the folder of the runs: a checkpoint is written on its disk, and deleted again.
        bounds: what it may take.
        batch: key of the batch size, and another value for it.
        ranks: processes that train together.

    Raises:
        UsageError: nothing can be written there.
    """
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".outlast-doctor-") as folder:
            records = [Path(folder) / f"record-{rank}.jsonl" for rank in range(ranks)]
            plans = [
                measure.Plan(folder, str(each), bounds.steps, bounds.seconds, clock(), os.getpid()) for each in records
            ]
            ended, peak = _in_processes(plans, measured.as_text(source, request, batch, bounds.hard), bounds)
            return _read([_lines(each) for each in records], ended, peak, bounds)
    except OSError as error:
        raise UsageError(
            f"A checkpoint could not be tried in {place}: {error.strerror or error}. Give another folder to "
            "--checkpoint-dir."
        ) from error


def _in_processes(plans: Sequence[measure.Plan], asked: str, bounds: Bounds) -> tuple[str | int, int]:
    """How the processes ended: "memory", "time", or an exit code; and the most memory that they had."""
    kept = {
        key: value
        for key, value in torchrun.without(os.environ).items()
        if key in _KEPT or not key.startswith("OUTLAST_")
    }
    port = torchrun.free_port() if len(plans) > 1 else 0
    processes: list[subprocess.Popen[str]] = []
    with contextlib.ExitStack() as files:
        errors = [files.enter_context(tempfile.TemporaryFile()) for _ in plans]
        try:
            for rank, (plan, output) in enumerate(zip(plans, errors, strict=True)):
                own = torchrun.variables(rank, len(plans), port) if len(plans) > 1 else {}
                own |= {measure.VARIABLE: plan.as_text(), "PYTHONUNBUFFERED": "1"}
                processes.append(_started({**kept, **own}, asked, output))
            ended, peak = _watch(processes, bounds)
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for plan, output in zip(plans, errors, strict=True):
            output.seek(0)
            last = output.read()[-4000:].decode(errors="replace").strip().splitlines()
            if ended not in (0, "memory", "time") and last:
                measure.note(plan.record, kind="last", words=last[-1][:300])
    return ended, peak


def _started(variables: Mapping[str, str], asked: str, errors: IO[bytes]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "outlast.recipe.measured"], env=variables, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
    )  # fmt: skip
    with contextlib.suppress(OSError):  # the kernel takes this one first when memory is short
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000", encoding="ascii")
    assert process.stdin  # noqa: S101 - a pipe
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(asked)
        process.stdin.close()
    return process


def _watch(processes: Sequence[subprocess.Popen[str]], bounds: Bounds) -> tuple[str | int, int]:
    begun, peak, failed = time.monotonic(), 0, math.inf
    while True:
        codes = [process.poll() for process in processes]
        now = sum(_memory([pid for process in processes for pid in _family(process.pid)]))
        peak = max(peak, now)
        if bounds.memory is not None and now > bounds.memory:
            return "memory", peak
        if any(codes):  # the others may say why
            failed = min(failed, time.monotonic())
        if None not in codes or time.monotonic() - failed > _NOTES:
            return -signal.SIGKILL if -signal.SIGKILL in codes else next(filter(None, codes), 0), peak
        if time.monotonic() - begun > bounds.within:
            return "time", peak
        time.sleep(_LOOK)


def _family(pid: int) -> list[int]:
    """A process and all that it started."""
    found, new = [pid], [pid]
    while new:
        children: list[int] = []
        for each in new:
            with contextlib.suppress(OSError, ValueError):
                for task in Path(f"/proc/{each}/task").iterdir():
                    children += map(int, (task / "children").read_text(encoding="ascii").split())
        found += children
        new = children
    return found


def _memory(pids: Sequence[int]) -> Iterator[int]:
    """Bytes of each process; of several, memory that they share is divided among them."""
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            if len(pids) == 1:
                yield int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf(
                    "SC_PAGE_SIZE"
                )
                continue
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    yield int(line.split()[1]) * 1024


def _lines(record: Path) -> list[dict[str, Any]]:
    """What a process wrote down."""
    lines: list[dict[str, Any]] = []
    if record.exists():
        for line in record.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the process was killed while it wrote
                lines.append(json.loads(line))
    return lines


def _read(records: Sequence[Sequence[dict[str, Any]]], ended: str | int, peak: int, bounds: Bounds) -> Measured:
    """What the processes wrote down, of which the first one leads."""
    found: dict[str, list[dict[str, Any]]] = {}
    devices: dict[str, int] = {}
    for lines in records:
        for each in lines:
            if lines is records[0] or each["kind"] in _FAILURES:
                found.setdefault(each["kind"], []).append(each)
            for name, nbytes in each.get("devices", {}).items():
                devices[name] = max(devices.get(name, 0), nbytes)
    peaks = (max((each.get("peak", 0) for each in lines), default=0) for lines in records)
    begin = (found.get("begin") or [{}])[0]
    steps = [each["seconds"] for each in found.get("step", ())]
    saved = (found.get("saved") or [{}])[-1]
    one = Measured(
        "ok",
        start=begin.get("since"),
        first=steps[0] if steps else None,
        steps=steps[1:],
        total=begin.get("total"),
        memory=max(peak, sum(peaks)),
        devices=devices,
        checkpoint=saved.get("size"),
        save=saved.get("seconds"),
        software=begin.get("software", {}),
        ranks=len(records),
    )
    why, words = _why(ended, found, one, bounds)
    return replace(one, why=why, words=words)


def _why(ended: str | int, found: Mapping[str, list[dict[str, Any]]], one: Measured, bounds: Bounds) -> tuple[Why, str]:
    if ended == "memory":
        return "memory", f"it was ended at {format_bytes(one.memory)}: more than {bounds.why}"
    if "memory" in found:
        return "memory", found["memory"][0]["words"]
    if ended == -signal.SIGKILL:
        return (
            "memory",
            f"the system killed it at {format_bytes(one.memory)} (SIGKILL), as it does when memory is short",
        )
    if ended == "time":
        done = len(one.steps) + (one.first is not None)
        far = f"{done} steps were made" if done else "it had begun its first step" if one.start else "no step had begun"
        return "time", f"it was ended after {format_seconds(bounds.within)}: {far}. --within gives it longer"
    for kind in ("error", "rank"):  # that another rank is gone says less than what happened there
        if kind in found:
            return "error", found[kind][0]["words"]
    if one.first is None:
        last = found["last"][0]["words"] if "last" in found else f"exit code {ended}"
        return "error", f"it ended before its first step: {last}"
    return ("ok", "") if ended == 0 else ("error", f"it ended with exit code {ended} after its steps")
