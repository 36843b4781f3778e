"""What `outlast prove` asks of a training by a variable: where it writes, when it ends, and a record of every step.

The record has hashes of the parts, of the global generators, and of what the script holds in variables and does not
track. Nothing of it is active without the variable.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outlast import state
from outlast.distributed import replicas
from outlast.errors import OutlastError, UsageError
from outlast.folder import durable
from outlast.run.plan import Asked, read
from outlast.state import adapters, rng

if TYPE_CHECKING:
    from outlast.run.attempt import Attempt
    from outlast.run.parts import Parts

VARIABLE = "OUTLAST_PROVE"
"""The variable: a Plan as JSON."""

HOWS = ("kill", "term", "budget")
"""How an attempt ends early: SIGKILL, SIGTERM, or as at the end of a budget."""

_MOST_NAMES = 300  # variables that are looked at
_MOST_BYTES, _MOST_ITEMS = 2**28, 10_000  # of one
_DEEPEST = 3  # objects in objects, containers and closures that are looked into
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120
_PYTHON = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (dict, list, tuple, set, frozenset)
_NO_STATE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


@dataclass(frozen=True)
class Plan(Asked):
    """What one process of a proof is to do.

    Attributes:
        root: the folder of its run folders.
        record: the file that gets a line of JSON for every step.
        steps: the step after which it stops, with a checkpoint.
        save: when to save besides, as the argument of open_run; None: as the program says.
        end: a step after which it ends early; 0: it does not.
        how: in which way, of HOWS.
        delay: the part of a step's time that it waits before it is killed, so that it is in the middle of one.
    """

    root: str
    record: str
    steps: int
    save: str | None = None
    end: int = 0
    how: str = "budget"
    delay: float = 0.0


def read_plan(variables: Mapping[str, str] = os.environ) -> Plan | None:
    """The plan in the variable, or None.

    Raises:
        UsageError: it is none.
    """
    return read(Plan, VARIABLE, "outlast prove", variables)


class Witness:
    """Records the steps of an attempt, and ends it when the plan says so.

    Args:
        plan: the plan.
        attempt: the attempt.
        parts: what it tracks.

    Raises:
        UsageError: several ranks train together. What one of them holds says nothing of the others.
    """

    def __init__(self, plan: Plan, attempt: Attempt, parts: Parts) -> None:
        if attempt.ranks.several:
            raise UsageError(
                f"`outlast prove` takes trainings of one process, and {attempt.ranks.count} train together here. Prove "
                "the same script with one."
            )
        self._plan, self._attempt, self._parts = plan, attempt, parts
        self._stride, self._spent, self._begun = 1, 0.0, time.perf_counter()
        self._at, self._last = self._begun, plan.steps

    def begin(self, step: int, total: int | None) -> None:
        """The first step is about to begin.

        Args:
            step: steps done.
            total: total number of steps. The last one is not made, so that the program does not do what it does with a
                finished run, such as publishing it.
        """
        self._note(step, start=True)
        self._last = self._plan.steps if total is None else max(1, min(self._plan.steps, total - 1))
        if step >= self._last:
            self._attempt.session.request_stop("preempted", "all steps of the proof are done")
        self._begun = self._at = time.perf_counter()
        self._spent = 0.0

    def after_step(self, step: int) -> None:
        """A step is done, and not saved yet."""
        plan, session, took = self._plan, self._attempt.session, time.perf_counter() - self._at
        if step % self._stride == 0 or step in (plan.end, self._last):
            self._note(step)
        if step == plan.end:
            if plan.how == "budget":
                session.request_stop("budget", "the proof ends this attempt here")
            elif plan.how == "term":
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                timer = threading.Timer(plan.delay * took, os.kill, (os.getpid(), signal.SIGKILL))
                timer.daemon = True
                timer.start()
        if step >= self._last:
            session.request_stop("budget", f"the proof is of {self._last} steps")
        self._at = time.perf_counter()

    def _note(self, step: int, *, start: bool = False) -> None:
        begun = time.perf_counter()
        line = {"run": self._attempt.id, "step": step, "start": start, **self._looked()}
        with open(self._plan.record, "ab") as file:  # noqa: PTH123
            durable.write_all(file.fileno(), memoryview(json.dumps(line).encode() + b"\n"))
        now = time.perf_counter()
        self._spent += now - begun
        if self._spent > 1.0 + 2 * (now - self._begun - self._spent):
            self._stride *= 2  # large states: every second step, every fourth, ...

    def _looked(self) -> dict[str, Any]:
        before = rng.capture()
        arrays, nodes, _ = self._parts.pack()
        found = replicas.fingerprints(arrays, {name: node["state"] for name, node in nodes.items()}, ())
        parts = {name: found[name] for name in nodes}
        generators = {name: _digest(value) for name, value in before.items()}
        others = dict(_others(_frame(), {id(thing) for thing in self._parts.things}))
        rng.restore(before)  # the state_dict() of some objects draws
        facts = {key: value for key, value in adapters.software().items() if "thread" in key}
        facts |= {key: os.environ[key] for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if key in os.environ}
        loaders = self._parts.loaders
        return {"parts": parts, "generators": generators, "others": others, "threads": facts, "loaders": loaders}


def _frame() -> types.FrameType | None:
    """The frame of the script that runs the loop; behind those of the framework that calls outlast, if one does."""
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001 - of this thread
    nearest = None
    while frame is not None:
        place = frame.f_code.co_filename
        if not place.startswith(_HERE):
            nearest = nearest or frame
            if not _is_library(place):
                return frame
        frame = frame.f_back
    return nearest  # a script that is itself installed


def _others(frame: types.FrameType | None, tracked: set[int]) -> Iterator[tuple[str, list[str]]]:
    """Name -> kind, class and hash of what the script's variables hold and the run does not track."""
    if frame is None:
        return
    named = {**frame.f_globals, **frame.f_locals}
    known = set(tracked)  # what is shared, or refers to itself, is described once
    for name, value in list(named.items())[:_MOST_NAMES]:
        if not name.startswith("__"):
            yield from itertools.islice(_described(name, value, known, deeper=_DEEPEST), _MOST_NAMES)


def _described(name: str, value: Any, known: set[int], *, deeper: int) -> Iterator[tuple[str, list[str]]]:
    kind = type(value)
    if isinstance(value, types.FunctionType):
        yield from _inside(name, value, known, deeper)
        return
    if id(value) in known or isinstance(value, _NO_STATE) or kind.__module__.partition(".")[0] == "outlast":
        return
    own = callable(getattr(value, "state_dict", None))
    try:
        hashed = _digest(value.state_dict() if own else value)
    except Exception:  # noqa: BLE001 - whatever a script's objects raise: then nothing is known of them
        hashed = None
    if hashed is not None:
        yield name, ["object" if own else _kind(value), kind.__qualname__, hashed]
    elif not own:
        yield from _inside(name, value, known, deeper)


def _inside(name: str, value: Any, known: set[int], deeper: int) -> Iterator[tuple[str, list[str]]]:
    """The same of what an object, a container or a closure holds.

    Of what a library has made, only the attributes of a variable: what it counts inside, it counts for itself.
    """
    if not deeper or id(value) in known:
        return
    known.add(id(value))
    inner: Mapping[str, Any] = {}
    if isinstance(value, dict):
        inner = {f"[{key!r}]": each for key, each in value.items() if isinstance(key, str | int)}
    elif isinstance(value, list | tuple):
        inner = {f"[{number}]": each for number, each in enumerate(value[:_MOST_NAMES])}
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        inner = {f".{each}": _content(cell) for each, cell in cells}
    elif (deeper == _DEEPEST or _is_own(type(value))) and isinstance(found := getattr(value, "__dict__", None), dict):
        inner = {f".{key}": each for key, each in found.items()}
    for key, each in list(inner.items())[:_MOST_NAMES]:
        yield from _described(f"{name}{key}", each, known, deeper=deeper - 1)


def _is_own(kind: type) -> bool:
    """Whether a class is the user's own."""
    place = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return kind.__module__ == "__main__" or (bool(place) and not _is_library(place))


def _is_library(place: str) -> bool:
    return place.startswith((_HERE, _PYTHON)) or any(each in place for each in _INSTALLED)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a variable that has no value yet
        return None


def _kind(value: Any) -> str:
    """What a value is: a generator, an array, plain, or several of these."""
    if isinstance(value, _PLAIN):
        return "plain"
    if isinstance(value, _CONTAINERS):
        inner = {_kind(each) for each in (value.values() if isinstance(value, dict) else value)}
        return "arrays" if inner & {"array", "arrays"} else "plain"
    return "array" if hasattr(value, "shape") and hasattr(value, "dtype") else "generator"


def _digest(value: Any) -> str | None:
    """A hash of a value of plain containers, arrays and generators; None of anything else."""
    if getattr(value, "nbytes", 0) > _MOST_BYTES or (isinstance(value, _CONTAINERS) and len(value) > _MOST_ITEMS):
        return None
    try:
        node, arrays = state.pack_value("value", value)
    except OutlastError:
        return None
    found = replicas.fingerprints({"value": arrays}, {"value": node}, ())["value"]
    return " ".join(f"{name}:{hashed}" if len(found) > 1 else hashed for name, hashed in sorted(found.items()))[:2000]
