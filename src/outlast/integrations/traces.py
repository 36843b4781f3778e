"""What `outlast prove` knows of a training: its record of every step, its last checkpoint, its metrics; and compares.

A training in several attempts repeats steps after a kill. The last time counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.checkpoint import CheckpointStore, open_checkpoint
from outlast.errors import CorruptCheckpoint
from outlast.folder import hashing
from outlast.folder.layout import RunFolder
from outlast.tracking import read

Seen = Mapping[str, Sequence[str]]
"""Name of a variable -> kind, class and hash of what it holds."""


@dataclass(frozen=True)
class Line:
    """A step as it was recorded, when it was done; or the state before the first step of an attempt.

    Attributes:
        step: its number.
        parts: tracked part -> array -> hash; "" is the part's JSON.
        generators: global generator -> hash.
        others: what the script's variables hold and the run does not track.
        threads: numbers of threads.
        loaders: the parts that are loaders of outlast.
    """

    step: int
    parts: Mapping[str, Mapping[str, str]]
    generators: Mapping[str, str]
    others: Seen
    threads: Mapping[str, Any]
    loaders: Sequence[str] = ()


@dataclass
class Trace:
    """A training in one process or several.

    Attributes:
        starts: for each attempt the line of before its first step.
        steps: step -> its line.
        final: part -> array or file -> hash, of the last checkpoint.
        last: step of the last checkpoint.
        metrics: step -> the rows of the journal.
    """

    starts: list[Line] = field(default_factory=list)
    steps: dict[int, Line] = field(default_factory=dict)
    final: dict[str, dict[str, str]] = field(default_factory=dict)
    last: int = 0
    metrics: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def at(self, step: int) -> Line | None:
        """The line of a step; of step 0, that of before the first one."""
        return self.steps.get(step) or next((line for line in self.starts if line.step == step), None)

    def moved(self, generator: str) -> bool:
        """Whether a global generator was drawn from while this training ran, as far as was recorded."""
        return len({line.generators.get(generator) for line in [*self.starts, *self.steps.values()]}) != 1


@dataclass(frozen=True)
class Difference:
    """Where two trainings differ first.

    Attributes:
        step: the step.
        where: what differs there, in words.
        parts: the tracked parts among it.
        generators: the global generators among it.
        metrics: names of metrics among it.
        others: variables among it.
    """

    step: int
    where: tuple[str, ...]
    parts: frozenset[str] = frozenset()
    generators: frozenset[str] = frozenset()
    metrics: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()


def trace_of(root: Path, name: str, records: Sequence[Path]) -> Trace:
    """Read what a training left.

    Args:
        root: the folder of its run folders.
        name: the run.
        records: the record of each process, in their order.

    Raises:
        CorruptCheckpoint: its last checkpoint does not verify, or it has none.
    """
    trace, folder = Trace(), RunFolder(root / name)
    for path in records:
        for each in _lines(path):
            if each["run"] != name:
                continue
            facts = ("step", "parts", "generators", "others", "threads", "loaders")
            line = Line(**{fact: each[fact] for fact in facts})
            if each["start"]:
                trace.starts.append(line)
                trace.steps = {step: known for step, known in trace.steps.items() if step <= line.step}
            else:
                trace.steps[line.step] = line
    found = CheckpointStore(folder).committed()
    if not found:
        raise CorruptCheckpoint(f"{folder.path} has no checkpoint.")
    trace.last, trace.final = found[-1].step, contents(found[-1].path)
    if trace.last in trace.steps:
        del trace.final["generators"]  # the line of the last step has each of them
    for row in read(folder.journal):
        trace.metrics.setdefault(row.get("step", 0), []).append(row)
    return trace


def contents(path: Path) -> dict[str, dict[str, str]]:
    """Part -> name -> hash of all that a checkpoint holds, every byte of it read.

    Raises:
        CorruptCheckpoint: it does not verify.
    """
    opened = open_checkpoint(path)
    nodes = {name: record["state"] for name, record in opened.state.parts.items()} | {"generators": opened.state.rng}
    found: dict[str, dict[str, str]] = {}
    for part, node in nodes.items():
        arrays = opened.arrays("rng" if part == "generators" else part)
        found[part] = {
            name: f"{array.dtype} {list(array.shape)} {hashing.digest(array.data)}" for name, array in arrays.items()
        }
        found[part][""] = hashing.digest(json.dumps(node, sort_keys=True).encode())
    return found


def _lines(path: Path) -> Iterator[Any]:
    if path.exists():
        for text in path.read_bytes().split(b"\n"):
            try:
                yield json.loads(text)
            except ValueError:  # a line that a kill has cut
                continue


def first_difference(one: Trace, other: Trace, without: frozenset[str] = frozenset()) -> Difference | None:
    """Where two trainings differ first; None if all that is compared is equal.

    Args:
        one: a training.
        other: the other one.
        without: names of metrics and variables that are not compared.
    """
    for step in sorted(one.steps.keys() | other.steps.keys() | one.metrics.keys() | other.metrics.keys()):
        if found := _at(step, one, other, without):
            return found
    if one.last != other.last:
        return Difference(min(one.last, other.last), (f"the last step ({one.last} and {other.last})",))
    parts = _unlike(one.final, other.final)
    others = lasting(one.at(one.last), other.at(other.last), without)
    if parts or others:
        return Difference(one.last, (*_words(parts), *(f"{name} (not tracked)" for name in sorted(others))),
                          parts=frozenset(parts), others=others)  # fmt: skip
    return None


def _at(step: int, one: Trace, other: Trace, without: frozenset[str]) -> Difference | None:
    metrics = _metrics(one.metrics.get(step, []), other.metrics.get(step, []), without)
    mine, theirs = one.steps.get(step), other.steps.get(step)
    parts, generators = dict[str, list[str]](), set[str]()
    if mine and theirs:
        parts = _unlike(mine.parts, theirs.parts)
        generators = {name for name in unequal(mine.generators, theirs.generators) if drawn(name, one, other)}
    if not (metrics or parts or generators):
        return None
    where = [*_words(parts), *(f"metric {name}" for name in sorted(metrics))]
    where += [f"{words_of(name)} generator" for name in sorted(generators)]
    return Difference(step, tuple(where), frozenset(parts), frozenset(generators), frozenset(metrics))


def words_of(generator: str) -> str:
    """The name of a global generator, for a sentence."""
    return {"python": "Python's", "numpy": "NumPy's", "torch": "torch's"}.get(generator, f"{generator}'s")


def drawn(generator: str, *traces: Trace) -> bool:
    """Whether any training has drawn from a global generator. Of others it does not matter whether they are seeded."""
    return any(trace.moved(generator) for trace in traces)


def unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The names in both of which the values differ."""
    return {name for name in one.keys() & other.keys() if one[name] != other[name]}


def lasting(one: Line | None, other: Line | None, without: frozenset[str] = frozenset()) -> frozenset[str]:
    """Variables with a state that differ: objects, generators and arrays, but no plain numbers and texts."""
    if one is None or other is None:
        return frozenset()
    return frozenset(
        name
        for name in unequal(one.others, other.others) - without
        if one.others[name][:2] == other.others[name][:2] and one.others[name][0] != "plain"
    )


def _metrics(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], without: frozenset[str]) -> set[str]:
    if len(one) != len(other):
        return {name for row in [*one, *other] for name in row if name not in ("step", "epoch")} - without
    pairs = zip(one, other, strict=True)
    return {
        name
        for mine, theirs in pairs
        for name in mine.keys() | theirs.keys()
        if name not in without and json.dumps(mine.get(name)) != json.dumps(theirs.get(name))
    }


def _unlike(one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Part -> names of arrays that differ."""
    found = {}
    for part in dict.fromkeys([*one, *other]):
        mine, theirs = one.get(part, {}), other.get(part, {})
        names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        if names:
            found[part] = names
    return found


def _words(parts: Mapping[str, Sequence[str]]) -> list[str]:
    words = []
    for part, names in parts.items():
        named = [name for name in names if name]
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        words.append(f"{part} ({named[0]}{more})" if named else part)
    return words
