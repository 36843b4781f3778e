"""Generators and arrays inside a dataset and its transforms.

That is the random generators that they draw from, and the arrays of the samples.

Both are found by looking: at attributes, elements of containers, what functions close over, and generators among the
globals that methods name. The search has one budget, and what is deeper is not found.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import logging
import random
import types
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from outlast.state import adapters

MOST = 1000
"""Objects that are looked at."""

WIDE = 40
"""Elements of one container that are looked at."""

WHOLE = 2**20
"""Bytes of an array that are all read for its digest."""

PLACES = 64
"""Rows of a larger array that are read, from the first to the last."""

_PLAIN = (str, bytes, bytearray, int, float, complex, type(None), type, types.ModuleType, range, np.ndarray, np.generic)

_LOGGERS = (logging.Filterer, logging.LoggerAdapter)
"""Each leads to all others, and none draws."""

_SCALARS = (str, bytes, int, float, complex, type(None))
_NUMBERS = (str, int, float)
_CONTAINERS = (list, tuple, dict)
_FUNCTIONS = (functools.partial, types.MethodType, types.FunctionType)

_Step = tuple[str, Any, Any]
"""A path such as "dataset.transforms[2].rng", what lies there, and the object that it is a part of."""


def generators(**roots: Any) -> dict[str, Any]:
    """The random generators inside these objects, by path; the global ones are left out."""
    libraries = adapters.generators()
    kinds = tuple([kind for each in libraries for kind in each.kinds])
    everyones = {id(one) for each in libraries for one in each.shared()}

    def draws(value: Any) -> bool:
        kind: type = type(value)
        return _is_generator(kind, kinds) and id(value) not in everyones

    return {path: value for path, value, _ in _walk(roots, draws) if draws(value)}


@functools.lru_cache(maxsize=1000)
def _is_generator(kind: type, kinds: tuple[type, ...]) -> bool:
    return issubclass(kind, kinds) and not issubclass(kind, random.SystemRandom)


@contextlib.contextmanager
def seeded(found: Mapping[str, Any], words: Sequence[int], *, keep: bool = True) -> Iterator[None]:
    """Seed these generators, each by its path, for what happens inside.

    Args:
        found: path -> generator.
        words: whole numbers of 32 bits.
        keep: put the generators back afterwards.
    """
    known = [(path, one, library) for path, one in found.items() if (library := adapters.generators_of(one))]
    before = [(one, library, library.get_state(one)) for _, one, library in known] if keep else []
    for path, one, library in known:
        library.reseed(one, np.random.SeedSequence([*map(int, words), zlib.crc32(path.encode("utf-8", "replace"))]))
    try:
        yield
    finally:
        for one, library, state in before:
            library.set_state(one, state)


def digest(dataset: Any) -> str | None:
    """A hash of the arrays that hold a dataset's samples.

    These have at least as many rows as the dataset has samples. None where no such array is found.

    Arrays of up to 1 MiB are read whole, of larger ones 64 rows. Lists of numbers count as arrays. Files are not read.
    A dataset keeps the digest that it had first: some fill an array as they go.
    """
    key = id(dataset)
    if key not in _digests:
        try:
            forget = weakref.ref(dataset, lambda _: _digests.pop(key, None))
        except TypeError:  # a list, for one
            return _digest(dataset)
        _digests[key] = _digest(dataset), forget
    return _digests[key][0]


_digests: dict[int, tuple[str | None, Any]] = {}
"""By the dataset's id, with a weak reference that removes it when the dataset is gone."""


def _digest(dataset: Any) -> str | None:
    found = xxhash.xxh3_64()
    count = 0
    for path, value, holder in _walk({"dataset": dataset}, lambda _: False):
        try:
            samples = _samples(value)
            if samples is None:
                continue
            shape, kind, in_bytes = samples
            if not shape or not shape[0] or shape[0] < len(value if holder is None else holder):
                continue
            rows = in_bytes(_chosen(value, shape[0]))
        except Exception:  # noqa: BLE001, S112 - whatever an object of someone else's does; it is not compared then
            continue
        if (count := count + 1) > WIDE:
            break
        found.update(f"{path} {shape} {kind}\0".encode("utf-8", "replace"))
        found.update(rows)
    return found.hexdigest() if count else None


def _samples(value: Any) -> tuple[tuple[int, ...], str, Callable[[Any], bytes]] | None:
    """The shape and type of an array or a list of numbers, and what gives the bytes of one; None for anything else."""
    if type(value) is list:
        numbers = value and all(type(one) in (int, float) for one in value[:WIDE])
        return ((len(value),), "list", lambda rows: repr(rows).encode()) if numbers else None
    found = adapters.rows(value)
    return None if found is None else (tuple(value.shape), *found)


def _chosen(value: Any, count: int) -> Any:
    """All of an array or a list, or some rows of a large one."""
    if type(value) is list:
        places = range(count) if count * 8 <= WHOLE else np.linspace(0, count - 1, WHOLE // 64, dtype=np.int64).tolist()
        return [value[place] for place in places]
    if value.nbytes > WHOLE:
        value = value[np.linspace(0, count - 1, PLACES, dtype=np.int64).tolist()]
        if value.nbytes > WHOLE:  # a few rows of very long ones
            value = value.reshape(PLACES, -1)[:, : WHOLE // PLACES]
    return value


def _walk(roots: Mapping[str, Any], among_globals: Callable[[Any], bool]) -> Iterator[_Step]:
    """Everything within reach, the nearest first and each object once.

    Args:
        roots: name -> object to begin with.
        among_globals: which values of module globals and of classes count; most of those belong to someone else.
    """
    waiting: collections.deque[_Step] = collections.deque((name, value, None) for name, value in roots.items())
    seen: set[int] = set()
    kinds: set[type] = set()
    kept = []  # so that no id is used twice
    while waiting and len(seen) < MOST:
        path, value, holder = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        kept.append(value)
        yield path, value, holder
        kind: type = type(value)
        if _is_closed(kind):
            continue
        try:
            inside = isinstance(value, _CONTAINERS)
            owner = holder if inside and holder is not None else value
            for name, part in _members(value, among_globals, kinds):
                if len(seen) + len(waiting) < MOST and not _is_idle(part, among_many=inside):
                    waiting.append((path + name, part, owner))
        except Exception:  # noqa: BLE001, S112 - an object that does not like to be looked at
            continue


@functools.lru_cache(maxsize=1000)
def _is_closed(kind: type) -> bool:
    """Whether the objects of a class are not looked into."""
    return issubclass(kind, _PLAIN + _LOGGERS)


def _is_idle(part: Any, *, among_many: bool) -> bool:
    """Whether nothing can be inside: scalars, what is empty, and a sample such as (path, class) among many."""
    if part is None or isinstance(part, _NUMBERS):
        return True
    if not isinstance(part, _CONTAINERS):
        return False
    return not part or (among_many and isinstance(part, tuple) and all(isinstance(one, _NUMBERS) for one in part))


def _members(value: Any, among_globals: Callable[[Any], bool], kinds: set[type]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for place, (key, part) in enumerate(itertools.islice(value.items(), WIDE)):
            yield f"[{_key(key, place)}]", part
    elif isinstance(value, (list, tuple)):
        for place, part in enumerate(value[:WIDE]):
            yield f"[{place}]", part
    elif isinstance(value, _FUNCTIONS):
        yield from _of_function(value, among_globals)
    else:
        for name, part in list(getattr(value, "__dict__", {}).items()):
            yield f".{name}", part
        whole: type = type(value)
        for kind in _with_anatomy(whole):
            yield from _slots(value, kind)
            if kind not in kinds:
                kinds.add(kind)
                yield from _of_class(kind, among_globals)


def _key(key: Any, place: int) -> str:
    """Text of a key that is the same in every process. The repr of an object may have its address."""
    plain = isinstance(key, _SCALARS) or (type(key) is tuple and all(isinstance(one, _SCALARS) for one in key))
    return f"{key!r:.60}" if plain else f"{type(key).__name__} {place}"


def _of_function(value: Any, among_globals: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield from ((".__self__", value.__self__), (".__func__", value.__func__))
    else:
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            with contextlib.suppress(ValueError):  # empty as yet
                yield f".{name}", cell.cell_contents
        for name in _named(value.__code__):
            if among_globals(part := value.__globals__.get(name)):
                yield f".globals.{name}", part


def _slots(value: Any, kind: type) -> Iterator[tuple[str, Any]]:
    for name in _anatomy(kind)[0]:
        with contextlib.suppress(AttributeError):
            yield f".{name}", getattr(value, name)


def _of_class(kind: type, among_globals: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    """What all instances of a class share."""
    _, functions, attributes = _anatomy(kind)
    for name in attributes:
        if among_globals(part := vars(kind).get(name)):
            yield f".{name}", part
    for name, globals_ in functions:
        if among_globals(part := globals_.get(name)):
            yield f".globals.{name}", part


_LIBRARIES = ("torch", "torchvision", "numpy", "datasets", "builtins", "collections", "typing", "abc", "pandas", "PIL")


@functools.lru_cache(maxsize=1000)
def _anatomy(kind: type) -> tuple[list[str], list[tuple[str, dict[str, Any]]], list[str]]:
    """Slots of a class, the globals that its methods name, and its other attributes."""
    slots = kind.__dict__.get("__slots__", ())
    slots = [slots] if isinstance(slots, str) else [name for name in slots if name not in ("__dict__", "__weakref__")]
    if kind.__module__.partition(".")[0] in _LIBRARIES:
        return slots, [], []
    functions = [part for part in vars(kind).values() if isinstance(part, types.FunctionType)]
    named = {name: part.__globals__ for part in functions for name in _named(part.__code__)}
    others = [name for name, part in vars(kind).items() if not name.startswith("__") and not callable(part)]
    return slots, list(named.items()), others


@functools.lru_cache(maxsize=1000)
def _with_anatomy(kind: type) -> tuple[type, ...]:
    """The classes of an object of this class, without those that have nothing to look at."""
    return tuple(each for each in kind.__mro__[:-1] if any(_anatomy(each)))


@functools.lru_cache(maxsize=1000)
def _named(code: types.CodeType) -> tuple[str, ...]:
    """Names that a function, and those inside it, looks up."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _named(part)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))
