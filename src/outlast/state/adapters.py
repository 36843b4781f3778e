"""The one table of frameworks, and functions that call all of them.

A new framework needs one file with an ADAPTER (adapter.py) and one line in TABLE. Only the adapters of frameworks that
the program has imported are called. This module imports none of them.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from outlast.errors import CorruptCheckpoint, OutlastError, ResumeRefused, StateError
from outlast.state.adapter import Adapter, Generators, Rebuild
from outlast.state.array import Array, FrameworkArray, Pieces, UnsupportedArray
from outlast.terminal import clean, type_of, words_of


class Row(NamedTuple):
    """A framework in the table.

    Attributes:
        name: the adapter's name.
        library: the module that a program imports when it uses the framework.
        module: outlast's module for it, which holds ADAPTER.
    """

    name: str
    library: str
    module: str


TABLE: list[Row] = [
    Row("python", "random", "outlast.state.python"),
    Row("numpy", "numpy", "outlast.state.numpy"),
    Row("torch", "torch", "outlast.state.torch"),
    Row("jax", "jax", "outlast.state.jax"),
    Row("flax", "flax", "outlast.state.flax"),
    Row("equinox", "equinox", "outlast.state.equinox"),
]

_owners: dict[type, Adapter] = {}
"""Class of a value -> its adapter. Cached, because it is needed for every array of every save."""


def register(name: str, library: str, module: str) -> None:
    """Add a framework, or replace one of the same name.

    Args:
        name: the adapter's name.
        library: the module that a program imports when it uses the framework.
        module: the module that holds ADAPTER. It is imported only if `library` has been imported.
    """
    TABLE[:] = [row for row in TABLE if row.name != name] + [Row(name, library, module)]
    _owners.clear()
    _adapter.cache_clear()


def loaded() -> Iterator[Adapter]:
    """The adapters of the frameworks that this program has imported, in the order of the table."""
    return (_adapter(row.module) for row in tuple(TABLE) if sys.modules.get(row.library) is not None)


@functools.cache
def _adapter(module: str) -> Adapter:
    found = getattr(importlib.import_module(module), "ADAPTER", None)
    if not isinstance(found, Adapter):
        raise StateError(f"{module} has no ADAPTER; expected one of the class outlast.state.adapter.Adapter.")
    return found


def ask(adapter: Adapter, name: str, *facts: Any) -> Any:
    """Call a function of an adapter.

    Raises:
        OutlastError: the function raised it.
        StateError: the function raised another exception. The message names the adapter and the function.
    """
    try:
        return getattr(adapter, name)(*facts)
    except (OutlastError, UnsupportedArray):
        raise
    except Exception as error:
        raise StateError(f"The adapter {adapter.name!r} failed in {name} ({words_of(error)}). Correct it.") from error


def is_known(kind: type) -> bool:
    """Whether a value of this class was given to an adapter before, and belongs to it."""
    return kind in _owners


def owner(value: Any) -> Adapter | None:
    """The adapter of a value; None if the value belongs to no framework."""
    kind = type(value)
    found = _owners.get(kind)
    if found is None:
        found = next((each for each in loaded() if ask(each, "matches", value)), None)
        if found is not None:
            _owners[kind] = found
    return found


def pack(value: Any) -> FrameworkArray | Pieces | dict[str, Any] | None:
    """Pack a value; None if it belongs to no framework, or if its framework cannot save it.

    Raises:
        StateError: the adapter's `pack` returned something that its `put_together` or `from_array` would never receive.
        UnsupportedArray: see `Adapter.pack`. `pack` may also raise other exceptions.
    """
    adapter = owner(value)
    found = None if adapter is None else adapter.pack(value)
    if adapter is not None and found is not None and not _is_packed(found, adapter.name):
        raise StateError(
            f"The adapter {adapter.name!r} packs {type_of(value, full=True)} as {clean(found):.80}; expected a "
            f"FrameworkArray whose node says {{'as': {adapter.name!r}}}, or text or a dict of JSON under one key "
            f"'${adapter.name}.FORM', or Pieces of such a form. Correct its pack."
        )
    return found


def _is_packed(found: Any, name: str) -> bool:
    """Whether the adapter with this name receives this value when the checkpoint is loaded."""
    if isinstance(found, FrameworkArray):
        node = found.node
        return isinstance(found.array, Array) and type(node) is dict and node.get("as") == name and "$array" not in node
    form: Any
    content: Any
    if isinstance(found, Pieces):
        form, content = found
        takes: Any = dict
    elif type(found) is dict and len(found) == 1 and _is_json(found):
        [(form, content)] = found.items()
        takes = str | dict
    else:
        return False
    if not isinstance(content, takes):
        return False
    named = isinstance(form, str) and form.startswith(f"${name}.")
    return named and (isinstance(content, str) or all(isinstance(key, str) for key in content))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (RecursionError, TypeError, ValueError):
        return False
    return True


def _named(name: Any, what: str) -> Adapter:
    """The adapter that a checkpoint names. The adapter imports its framework.

    Raises:
        CorruptCheckpoint: no adapter has this name.
        ResumeRefused: the framework cannot be imported.
    """
    row = next((row for row in TABLE if row.name == name), None)
    if row is None:
        raise CorruptCheckpoint(f"{what} belongs to the framework {name!r:.80}, which outlast does not know.")
    try:
        return _adapter(row.module)
    except ImportError as error:
        raise ResumeRefused(
            f"{what} belongs to {name}, which cannot be imported here ({error}). Install it, or continue the run where "
            "it is installed."
        ) from error


def from_array(array: Array, node: Mapping[str, Any], like: Any = None) -> Any:
    """Rebuild a stored array on the CPU. The result owns its memory. `like`: see Adapter.from_array.

    Raises:
        CorruptCheckpoint: its framework is unknown.
        ResumeRefused: its framework cannot be imported, or refuses the array.
    """
    adapter = _named(node.get("as"), "A stored array")
    if adapter.from_array is None:
        raise CorruptCheckpoint(f"A stored array belongs to {adapter.name}, which has no arrays.")
    return adapter.from_array(array, node, like)


def put_together(key: str, content: Any, part: str) -> Any:
    """Rebuild a value that an adapter's `pack` stored under a special key; raises as `from_array` does."""
    what = f"A value of the form {key!r:.80} in the stored part {part!r}"
    adapter = _named(key[1:].partition(".")[0], what)
    if adapter.put_together is None:
        raise CorruptCheckpoint(f"{what} belongs to {adapter.name}, which has no such values.")
    return adapter.put_together(key, content)


def software() -> dict[str, Any]:
    """The facts on which the last bits of a result depend, for the frameworks that this program has imported.

    Raises:
        StateError: an adapter returned something that is not JSON.
    """
    facts: dict[str, Any] = {}
    for adapter in loaded():
        found = ask(adapter, "software")
        if type(found) is not dict or not all(isinstance(key, str) for key in found) or not _is_json(found):
            raise StateError(
                f"The adapter {adapter.name!r} says {clean(found):.80} in software; expected a dict of text and JSON."
            )
        facts |= found
    return facts


def generators() -> list[Generators]:
    """The random generators of the frameworks that this program has imported."""
    return [each.generators for each in loaded() if each.generators is not None]


def generators_of(value: Any) -> Generators | None:
    """The `Generators` that a random generator belongs to; None for other values."""
    return next((each for each in generators() if isinstance(value, each.kinds)), None)


def is_generator(value: Any) -> bool:
    """Whether a value is a random generator whose state can be saved."""
    return generators_of(value) is not None and owner(value) is not None


def advice(value: Any) -> str | None:
    """What to write instead of a value, or a pytree, that cannot be saved; None if its library is unknown."""
    return next((words for each in loaded() if (words := each.advice(value))), None)


def flatten(tree: Any) -> tuple[list[tuple[str, Any]], Rebuild] | None:
    """The leaves of a pytree with their paths, and its `Rebuild`; None if no framework has rules for pytrees."""
    rules = next((each.flatten for each in loaded() if each.flatten is not None), None)
    return None if rules is None else rules(tree)


def place_like(value: Any, template: Any) -> Any:
    """Move a restored leaf to the device of the template's leaf."""
    for each in loaded():
        if each.place_like is not None:
            value = each.place_like(value, template)
    return value


def becomes(initial: Any, later: Any) -> bool:
    """Whether a step may turn the initial leaf into the later one: a number into a 0-d array, float64 into float32."""
    return any(each.becomes is not None and each.becomes(initial, later) for each in loaded())


def is_sharded(value: Any) -> bool:
    """Whether several ranks hold blocks of this value."""
    return any(each.is_sharded(value) for each in loaded())


def knows_shards() -> bool:
    """Whether this program can have values of which several ranks hold blocks."""
    return any(each.knows_shards is not None and each.knows_shards() for each in loaded())


def sharded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of which several ranks hold blocks."""
    return {name: value for name, value in values.items() if is_sharded(value)} if knows_shards() else {}


def rows(value: Any) -> tuple[str, Callable[[Any], bytes]] | None:
    """See Adapter.rows."""
    return next((found for each in loaded() if (found := each.rows(value)) is not None), None)


def optimizer_places(things: Iterable[Any]) -> set[Any]:
    """Memory (`LiveMemory.place`) that changes only in the step of an optimizer among these objects."""
    things = list(things)
    return {place for each in loaded() if each.optimizer_places is not None for place in each.optimizer_places(things)}


def before_updates(call: Callable[[Any], None]) -> Callable[[], None]:
    """Call a function with every optimizer before each of its steps. Returns a function that stops this."""
    ends = [ask(each, "before_updates", call) for each in loaded() if each.before_updates is not None]

    def end() -> None:
        for one in ends:
            one()

    return end


def regroups(thing: Any) -> bool:
    """Whether this object adds gradients in another order after the first step of a process."""
    return any(each.regroups(thing) for each in loaded())


def pin(memory: memoryview) -> Callable[[], None] | None:
    """Page-lock memory for copies by a device. Returns a function that unlocks it; None if no device is used."""
    return next((undo for each in loaded() if (undo := each.pin(memory)) is not None), None)
