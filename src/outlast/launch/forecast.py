"""What a training needs of a provider's sessions: from what was measured here, and the provider's limits.

What a machine has measured says little of another one: a step on a CPU says nothing of a GPU. So the time of a step is
used only for sessions on this machine, or if the user states it; otherwise the forecast says how long a step may take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from outlast.checkpoint.policy import LONGEST, SavePolicy
from outlast.config.units import format_bytes, format_seconds, parse_interval
from outlast.launch.provider import Capabilities, Limits
from outlast.recipe.measuring import Measured
from outlast.run.session import reserve_for

Row = tuple[Literal["ok", "!", "-"], str, str]
"""A mark, the name of a check, and its result."""


@dataclass(frozen=True)
class Need:
    """What a training asks for.

    Attributes:
        left: steps that are left; None if their number is not known.
        keep: checkpoints that are kept.
        save_every: the value of the config.
        remote: whether checkpoints are pushed during training.
        failure_seconds: mean time between two ends of such a machine without notice.
        stated: seconds of a step there, as the user states it; None if not.
        ranks: ranks that train in a session; None if their number is not known.
    """

    left: int | None
    keep: int
    save_every: str
    remote: bool
    failure_seconds: float
    stated: float | None = None
    ranks: int | None = 1


@dataclass(frozen=True)
class Forecast:
    """The numbers; None for what is not known.

    Attributes:
        session, training: seconds of a session, and those of them that train.
        step: seconds of a step there.
        steps_left: steps of the run that are left.
        steps_per_session: steps that a session makes at most.
        sessions: sessions that the run needs at least.
        slowest: seconds that a step may take so that all steps fit into one session.
        disk: bytes that the run needs at most.
        lost: seconds of training that are lost at worst when a session is cut off.
    """

    session: float
    training: float
    step: float | None
    steps_left: int | None
    steps_per_session: int | None
    sessions: int | None
    slowest: float | None
    disk: int | None
    lost: float | None

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)


def reckon(found: Measured, limits: Limits, training: float, need: Need) -> Forecast:
    """The numbers of a training in sessions with these limits.

    Args:
        found: what was measured here.
        limits: of a session.
        training: seconds that a session trains.
        need: what the training asks for.
    """
    start = (found.start or 0.0) + (found.first or 0.0)
    useful = training - start - reserve_for(found.checkpoint or 0, found.save or 0.0)
    step = need.stated or (found.step if limits.here and need.ranks == found.ranks else None)
    per = None if step is None else max(0, int(useful / step))
    sessions = None
    if per is not None and need.left is not None:
        sessions = math.ceil(need.left / per) if per else None
    size = found.checkpoint
    return Forecast(
        limits.session,
        training,
        step,
        need.left,
        per,
        sessions,
        useful / need.left if need.left and useful > 0 else None,
        None if size is None else size * (need.keep + 1),
        lost(found, limits, need, step),
    )


def lost(found: Measured, limits: Limits, need: Need, step: float | None) -> float | None:
    """Seconds of training that are lost at worst: the longest time between two saves, and one save.

    No more than a session has.
    """
    every = parse_interval(need.save_every)
    bounds = [every.seconds] if every.seconds else []
    if every.auto:
        policy = SavePolicy(auto=True)
        known = limits.here and found.save is not None
        bounds.append(policy.interval(found.save or 0.0, need.failure_seconds) or LONGEST if known else LONGEST)
    if every.steps and step is not None:
        bounds.append(every.steps * step)
    return min(limits.session, min(bounds) + (found.save or 0.0) + (step or 0.0)) if bounds else None


def here(found: Measured) -> Iterator[Row]:
    """What was measured here."""
    if found.why != "ok":
        yield "!", "measured here", found.words
    if found.first is not None:
        times = f"; then {_milli(found.step or 0)} (median of {len(found.steps)}, " if found.steps else ""
        spread = f"{_milli(min(found.steps))} to {_milli(max(found.steps))})" if found.steps else ""
        together = f"{found.ranks} ranks together, " if found.ranks > 1 else ""
        yield "ok", "measured here", f"{together}on {found.device}: first step {_milli(found.first)}{times}{spread}"
    if found.start is not None:
        yield "-", "", f"{found.start:.1f} s from the start of the program to its first step"
    if found.memory:
        devices = "".join(f"; {format_bytes(nbytes)} on {name}" for name, nbytes in found.devices.items())
        shared = ", what the ranks share counted in each" if found.ranks > 1 else ""
        yield "-", "", f"{format_bytes(found.memory)} of memory at most, with the copy for a save{shared}{devices}"
    if found.checkpoint is not None:
        yield "-", "", f"a checkpoint of {format_bytes(found.checkpoint)}, on this disk in {found.save or 0:.2f} s"
    elif found.why == "ok":
        yield "!", "measured here", "no checkpoint was written, so neither its size nor its time is known"


def there(
    found: Measured, limits: Limits, known: Capabilities, title: str, need: Need, numbers: Forecast
) -> Iterator[Row]:
    """What it means for sessions of a provider.

    Args:
        found: what was measured here.
        limits: of a session.
        known: what the provider can do.
        title: its name.
        need: what the training asks for.
        numbers: those of `reckon`.
    """
    whole, trains = format_seconds(limits.session), format_seconds(max(0.0, numbers.training))
    words = f"a session of {whole} on {limits.accelerator} trains {trains}"
    yield "ok" if numbers.training > 0 else "!", title, words
    yield from _ranks(found, limits, need)
    yield from _steps(found, limits, title, need, numbers)
    if numbers.disk is not None:
        kept = f"{need.keep} checkpoints and the one that is being written: {format_bytes(numbers.disk)} at most"
        if limits.disk is None:
            yield "-", "disk there", f"{kept}; how much there is is not known"
        else:
            fits = numbers.disk < limits.disk
            yield (
                "ok" if fits else "!",
                "disk there",
                f"{kept}, of {format_bytes(limits.disk)}" + ("" if fits else ". Keep fewer: --keep-last 2"),
            )
    same = f"the same machine: {format_bytes(found.memory)} at most"
    if limits.here and need.ranks != found.ranks:
        same = f"the same machine, but not the same ranks: {found.ranks} took {format_bytes(found.memory)}"
    yield "-", "memory there", same if limits.here else "not known: what is free there was not asked"
    yield "-", "lost at worst", _lost(known, need, numbers)


def _ranks(found: Measured, limits: Limits, need: Need) -> Iterator[Row]:
    """How many ranks train there, and what of them was not measured."""
    if need.ranks == found.ranks:
        if found.ranks > 1:
            yield "ok", "ranks there", f"{found.ranks}, as measured here"
        return
    rest = (
        "How long their steps together take, and the memory that each needs for its share of a batch, are in none of "
        "these numbers"
    )
    if need.ranks is None:
        there = "one for each GPU of a session, whose number is not known before"
        yield "-", "ranks there", f"{there}; measured here: {found.ranks}. {rest}"
        return
    words = f"{need.ranks} on {limits.accelerator}; measured here: {found.ranks}. {rest}"
    yield "-", "ranks there", f"{words}; --nproc {need.ranks} measures as many together here"


def _steps(found: Measured, limits: Limits, title: str, need: Need, numbers: Forecast) -> Iterator[Row]:
    if numbers.step is None:
        words = (
            f"not known: a step was timed on {found.device} of this machine, which says nothing of "
            f"{limits.accelerator} ({title}). Time it there, and give --step-time"
        )
        if limits.here:
            words = f"not known: a step was timed with {found.ranks} of the ranks of a session, not with all of them"
        yield "-", "steps there", words
        if numbers.slowest is not None and need.left:
            one, two, ten = (_milli(times * numbers.slowest) for times in (1, 2, 10))
            words = (
                f"the {need.left:,} steps that are left fit into 1 session if a step takes {one} at most there, "
                f"into 2 with {two}, into 10 with {ten}"
            )
            yield "-", "", words
        return
    whose = "as you state" if need.stated else "as measured here"
    if not numbers.steps_per_session:
        yield (
            "!",
            "steps there",
            (
                f"no step fits into a session: one takes {_milli(numbers.step)} ({whose}), and "
                f"{format_seconds(numbers.training)} have to hold the start and the last save too"
            ),
        )
        return
    yield (
        "ok",
        "steps there",
        (
            f"{numbers.steps_per_session:,} in a session at most, with {_milli(numbers.step)} a step ({whose}); "
            "validations are not in it"
        ),
    )
    if need.left == 0:
        yield "ok", "sessions", "none: all steps are done"
    elif numbers.sessions is not None:
        ends = "1 session" if numbers.sessions == 1 else f"{numbers.sessions:,} sessions"
        yield "ok", "sessions", f"{ends} at least for the {need.left:,} steps that are left"
    else:
        yield "-", "sessions", "not known: the recipe does not say how many steps it makes"


def _lost(known: Capabilities, need: Need, numbers: Forecast) -> str:
    if numbers.lost is None:
        cut = f"what was trained since the last save (save_every is {need.save_every})"
    else:
        cut = f"{format_seconds(numbers.lost)} of training (save_every is {need.save_every})"
    if need.remote or known.folders:
        return f"when a session is cut off without notice: {cut}; at its planned end: nothing"
    kept = {
        "completed": "Only a session that ends by itself hands its files on, so one that is cut off can lose all of it",
        "ended": "Its files are handed on when it ends or is stopped; if its machine is lost, they are",
        "none": "Its files are lost with it",
    }[known.inputs]
    return f"at the planned end nothing; without notice {cut}, if its disk is kept. {kept}; --remote keeps a copy"


def _milli(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
