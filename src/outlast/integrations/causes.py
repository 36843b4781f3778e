"""Why two trainings differ, as far as their records tell.

What was lost at a stop is already different right after the resume, before the next step: a variable that the run does
not track. If all is equal there, the next step has read other data. If already two undisturbed trainings differ, no
resume is to blame.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from outlast.integrations.traces import Difference, Line, Trace, drawn, first_difference, lasting, unequal, words_of

_EMA = re.compile(r"(?i:(?<![a-z])(ema|swa)(?![a-z])|averag|shadow|polyak)|Ema(?![a-z])|EMA|SWA")
_SCHEDULER = re.compile(r"sched|LR\b|(^|_|\.)lr(_|$)|learning_rate|warm_?up|anneal|plateau|cosine|decay", re.IGNORECASE)
_SHOWN = re.compile(r"loss|acc(uracy)?($|_)|metric|best|score|total|running|elapsed|time|histor", re.IGNORECASE)
"""Names of numbers that a script shows, or compares validations by. No step depends on most of them."""
_DATA = re.compile(
    r"(^|_|\.)(x|y|xb|yb|data\w*|batch\w*|loader|sampler|order|perm\w*|ind(ex|ices)|idx|cursor|pos\w*|offset|epoch|queue|"
    r"images?|labels?|inputs?|targets?|tokens?|samples?|rows?)($|_|\.| |[0-9])|Loader|Sampler",
)


@dataclass(frozen=True)
class Cause:
    """The likely cause of a difference.

    Attributes:
        name: "data order", "generator", "scheduler not tracked", "EMA not tracked", "state not tracked",
            "nondeterministic kernel", "another number of threads", "part not restored" or "unknown".
        words: sentences: what was seen, and what to do.
    """

    name: str
    words: str


def cause_of(whole: Trace, cut: Trace, again: Trace, found: Difference) -> Cause:
    """The likely cause.

    Args:
        whole: the undisturbed training.
        cut: the interrupted one.
        again: the undisturbed one, trained once more.
        found: where the first two differ first.
    """
    by_itself = first_difference(whole, again)
    start = _resumed(cut, found)
    lost = _lost(whole, start, again) if start else []
    strong = _strong(lost, start, found, whole, cut) if start else []
    if by_itself and (by_itself.parts or by_itself.generators) and not strong:
        return _of_itself(whole, again, by_itself)
    if strong and start:
        return _not_tracked(strong, start)
    if threads := _threads(whole, cut):
        return Cause("another number of threads", threads)
    if start is None:
        return Cause("unknown", "The trainings differ before the first interruption, and two undisturbed ones do not.")
    before = whole.at(start.step)
    if before and (parts := [name for name in start.parts if start.parts[name] != before.parts.get(name)]):
        return Cause(
            "part not restored",
            f"{_named(parts)} is not at step {start.step} what it was: its load_state_dict() does not restore all that "
            "its state_dict() returns.",
        )
    moved = unequal(before.generators, start.generators) if before else set()
    if moved := {name for name in moved if drawn(name, whole, cut)}:
        return Cause(
            "generator",
            f"{_generators(moved)} {_is(moved)} not as in the checkpoint after the resume at step {start.step}: the "
            "program seeds it, or draws from it, after the loop has begun.",
        )
    return _after_resume(whole, cut, start, found, lost)


def _resumed(cut: Trace, found: Difference) -> Line | None:
    """The start of the attempt in which the difference begins."""
    for line in reversed(cut.starts[1:]):
        if line.step < found.step:
            return line
    return None


def _lost(whole: Trace, start: Line, again: Trace) -> list[str]:
    """Variables that had another value after the resume than in the undisturbed training at this step."""
    before, repeated = whole.at(start.step), again.at(start.step)
    if not before:
        return []
    noisy = unequal(before.others, repeated.others) if repeated else set()
    return [
        name
        for name in before.others
        if name in start.others
        and name not in noisy
        and before.others[name][:2] == start.others[name][:2]
        and before.others[name] != start.others[name]
    ]


def _strong(lost: Sequence[str], start: Line, found: Difference, whole: Trace, cut: Trace) -> list[str]:
    """Lost variables that explain a difference: by what they are, or else by their names.

    A number explains nothing by its name when an object, a generator or an array was lost as well, or when the step
    has read other data; nor do numbers that are only shown.
    """
    held = [name for name in lost if start.others[name][0] != "plain"]
    if held or any(map(_DATA.search, _read(whole, cut, found))):
        return held
    patterns = (_EMA, _SCHEDULER, _DATA)
    return [
        name
        for name in lost
        if any(each.search(f"{name} {start.others[name][1]}") for each in patterns) and not _SHOWN.search(name)
    ]


def _read(whole: Trace, cut: Trace, found: Difference) -> list[str]:
    """Arrays and objects of the script that differ when the difference begins, such as its batch; that first."""
    one, other = whole.at(found.step), cut.at(found.step)
    read = sorted(name for name in lasting(one, other) if name not in found.parts) if one and other else []
    return sorted(read, key=lambda name: not _DATA.search(name))


def _kind(name: str, line: Line) -> str:
    kind, words, _ = line.others[name]
    text = f"{name} {words}"
    if kind == "generator":
        return "generator"
    if kind == "plain" and _SHOWN.search(name):
        return "state not tracked"
    for cause, pattern in (("EMA not tracked", _EMA), ("scheduler not tracked", _SCHEDULER), ("data order", _DATA)):
        if pattern.search(text) and not (cause == "data order" and kind == "plain" and line.loaders):
            return cause  # where a tracked loader decides what is read, a number such as `epoch` does not
    return "state not tracked"


_TURNS = ("scheduler not tracked", "EMA not tracked", "generator", "data order", "state not tracked")


def _not_tracked(names: Sequence[str], start: Line) -> Cause:
    kinds = {name: _kind(name, start) for name in names}
    chief = min(kinds.values(), key=_TURNS.index)
    mine = [name for name in names if kinds[name] == chief]
    rest = [name for name in names if kinds[name] != chief]
    seen = ", ".join(f"`{name}` ({start.others[name][1]})" for name in mine[:3])
    words = f"{seen} is not tracked: after the resume at step {start.step} it was not what it had been at that step."
    words += f" The same is true of {_named(rest)}." if rest else ""
    if start.others[mine[0]][0] in ("object", "generator"):
        return Cause(chief, f"{words} Add it: run.track(..., {mine[0].rpartition('.')[2]}={mine[0]}).")
    return Cause(
        chief,
        f"{words} Compute it from the step, or put it into the state_dict() and load_state_dict() of an object, and "
        "track that.",
    )


def _of_itself(whole: Trace, again: Trace, found: Difference) -> Cause:
    """Two undisturbed trainings differ."""
    one, other = whole.at(0), again.at(0)
    both = f"Two undisturbed trainings differ from each other, first at step {found.step}"
    unseeded = unequal(one.generators, other.generators) if one and other else set()
    early = one and other and (one.parts != other.parts or lasting(one, other))  # drawn before the loop
    if unseeded := {name for name in unseeded if early or drawn(name, whole, again)}:
        return Cause(
            "generator",
            f"{both}: {_generators(unseeded)} {_is(unseeded)} not seeded. Call outlast.seed_everything(0) before "
            "anything is drawn.",
        )
    if one and (free := [name for name in lasting(one, other) if one.others[name][0] == "generator"]):
        return Cause("generator", f"{both}: `{free[0]}` is not seeded. Give it a fixed seed.")
    mine, theirs = whole.at(found.step), again.at(found.step)
    read = sorted(name for name in lasting(mine, theirs) if _DATA.search(name)) if mine and theirs else []
    if read:
        return Cause(
            "data order",
            f"{both}, in what they read: `{read[0]}`. An order that depends on the system, such as that of files in a "
            "folder, of a set, or of threads, must be sorted.",
        )
    if found.generators:
        return Cause(
            "generator", f"{both}: {_generators(found.generators)} {_is(found.generators)} moved differently each time."
        )
    return Cause(
        "nondeterministic kernel",
        f"{both}, in {found.where[0]}, with the same generators: an operation gives other last bits each time, such "
        "as a sum whose order is open. Use open_run(..., deterministic=True), and one thread to be sure.",
    )


def _threads(whole: Trace, cut: Trace) -> str:
    """A sentence if attempts had different numbers of threads."""
    lines = [*whole.starts, *cut.starts]
    for key in sorted({key for line in lines for key in line.threads}):
        values = [line.threads.get(key) for line in lines]
        if len(set(map(str, values))) > 1:
            said = ", ".join(str(value) for value in values[1:])
            return (
                f"The undisturbed training had {values[0]} {_thread_words(key)}, and the attempts of the other one had "
                f"{said}: sums are split otherwise, so their last bits differ. Set the same number everywhere "
                "(OMP_NUM_THREADS, torch.set_num_threads)."
            )
    return ""


def _thread_words(key: str) -> str:
    return f"as {key}" if key.isupper() else key if "threads" in key.split() else f"threads ({key})"


def _after_resume(whole: Trace, cut: Trace, start: Line, found: Difference, lost: Sequence[str]) -> Cause:
    """All that was seen was equal after the resume, and a later step was not."""
    read = _read(whole, cut, found)
    data = [name for name in read if _DATA.search(name)]
    if start.loaders and not (found.generators or data or lost) and not found.parts & {*start.loaders}:
        return Cause(
            "state not tracked",
            f"At step {found.step}, {found.step - start.step} after the resume, the step computed something else, "
            f"although {_named(start.loaders)} went on where it was, and all else that outlast sees was the same. It "
            "does not see what a callback counts, for example. Compute that from the step, or put it into the "
            "state_dict() and load_state_dict() of an object, and track that.",
        )
    if found.generators or data or (not lost and (read or found.step == start.step + 1)):
        seen = [f"`{name}` was different" for name in (data or read)[:1]]
        seen += (
            [f"{_generators(found.generators)} {_is(found.generators)} moved by other draws"]
            if found.generators
            else []
        )
        return Cause(
            "data order",
            f"At step {found.step}, {found.step - start.step} after the resume, "
            f"{' and '.join(seen) or 'the step read something else'}, although all that is tracked had been restored. "
            "A loader that begins anew does this. Use outlast.DataLoader, and track it: run.track(..., data=loader)."
            + (
                "" if data or found.generators else " So does what outlast cannot see, such as a counter in a callback."
            ),
        )
    if lost:
        return _not_tracked(lost, start)
    return Cause(
        "unknown",
        f"All that was seen was equal until step {found.step - 1}; the training was resumed at step {start.step}.",
    )


def _generators(names: Iterable[str]) -> str:
    return " and ".join(f"{words_of(name)} generator" for name in sorted(names))


def _is(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more
