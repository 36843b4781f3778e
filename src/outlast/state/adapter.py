"""The interface of a framework: one `Adapter` per framework, defined in its own file as ADAPTER.

A framework says which values are its own, how they are packed and put together, which of its objects can be
tracked, and which random generators it has. What it does not say keeps the default, which means: it has no such thing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outlast.state.array import Array, FrameworkArray, Pieces

if TYPE_CHECKING:
    from outlast.state.objects import TrackedObject

Json = dict[str, Any]

Rebuild = Callable[[list[Any]], Any]
"""Puts a pytree together out of its leaves, in their order."""


def _never(_: Any) -> bool:
    return False


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Generators:
    """The random generators of one library: the global ones, and those that a program makes.

    Attributes:
        kinds: the classes of generators that can be seeded and set.
        shared: the global generators that a CPU draws from, as objects of these classes.
        seed: seeds all global generators, those of devices included, with one whole number.
        seed_words: seeds `shared` with four whole numbers of 32 bits, of which each library takes its own: Python the
            first, NumPy the second, torch the last two. Another library mixes all four with its name.
        capture: the state of the global generators, as a tree of arrays and numbers by name. Empty when there is none.
        restore: sets the global generators to what `capture` gave; other names in it are ignored. It may raise
            anything.
        get_state: the state of a generator, for `set_state` in the same process.
        set_state: sets a generator to such a state.
        reseed: seeds a generator with a whole number or a numpy.random.SeedSequence.
        load: sets a generator to what the adapter's `pack` said of it; raises KeyError, RuntimeError, TypeError, or
            ValueError when it is malformed.
        initial_seed: what the library was seeded with, None when it does not say.
    """

    kinds: tuple[type, ...]
    shared: Callable[[], Collection[Any]]
    seed: Callable[[int], None]
    seed_words: Callable[[Sequence[int]], None]
    capture: Callable[[], dict[str, Any]]
    restore: Callable[[Mapping[str, Any]], None]
    get_state: Callable[[Any], Any]
    set_state: Callable[[Any, Any], None]
    reseed: Callable[[Any, Any], None]
    load: Callable[[Any, Mapping[str, Any]], None]
    initial_seed: Callable[[], int | None] = _nothing


@dataclass(frozen=True)
class Adapter:
    """A framework, as the rest of outlast sees it.

    Attributes:
        name: the framework's name. It is in checkpoints: arrays are `{"as": name}` and other values `{"$name.form":
            ...}`.
        matches: whether `pack` takes this value: an array, a generator, a dtype. It has to be a matter of the value's
            class alone.
        pack: takes such a value apart: an array becomes a `FrameworkArray`, a value with several components becomes
            `Pieces`, a small value becomes text or a dict of JSON under one key `$name.form`. None: it cannot be saved.
            Raises UnsupportedArray with a reason. Anything else is refused with a StateError.
        from_array: rebuilds an array from its bytes, the JSON of `FrameworkArray.node`, and, for a sharded array, a
            tensor of this program that is sharded in the same way, else None.
        put_together: rebuilds a value from `Pieces` or JSON: from its key and its content, the values of which are
            rebuilt already.
        tracked: what is known of an object that can be tracked, by part name and object; None for any other object.
        generators: its random generators.
        flatten: the leaves of a pytree with their paths, and what puts them together again. At most one framework has
            it.
        place_like: puts a restored leaf onto the device where the leaf of the template is.
        becomes: whether a step of this framework turns such an initial leaf (first) into such an array (second).
        advice: what to write instead of a value, or of a pytree with a leaf, that cannot be saved.
        rows: of an array of samples: its dtype as text, and a function that gives the bytes of such an array; None for
            anything else.
        software: what decides the last bits of a result: versions, devices, threads. A device is under the key "NAME
            device", and a CPU's value begins with "cpu".
        use_deterministic_kernels: asks for kernels that give the same bits every time.
        pin: locks memory for copies by a device; returns what undoes it, None where there is nothing to lock it for.
        optimizer_places: the memory (`LiveMemory.place`) that only a step of an optimizer among these objects changes.
        before_updates: has a function called with every optimizer before each of its steps; returns what ends that.
        regroups: whether this object adds gradients in another order after the first step of a process.
        is_sharded: whether a value lies on several ranks.
        knows_shards: whether there can be such values in this program.
    """

    name: str
    matches: Callable[[Any], bool] = _never
    pack: Callable[[Any], FrameworkArray | Pieces | Json | None] = _nothing
    from_array: Callable[[Array, Mapping[str, Any], Any], Any] | None = None
    put_together: Callable[[str, Any], Any] | None = None
    tracked: Callable[[str, Any], TrackedObject | None] = _nothing
    generators: Generators | None = None
    flatten: Callable[[Any], tuple[list[tuple[str, Any]], Rebuild]] | None = None
    place_like: Callable[[Any, Any], Any] | None = None
    becomes: Callable[[Any, Any], bool] | None = None
    advice: Callable[[Any], str | None] = _nothing
    rows: Callable[[Any], tuple[str, Callable[[Any], bytes]] | None] = _nothing
    software: Callable[[], dict[str, Any]] = dict
    use_deterministic_kernels: Callable[[], None] = _nothing
    pin: Callable[[memoryview], Callable[[], None] | None] = _nothing
    optimizer_places: Callable[[Iterable[Any]], Collection[Any]] | None = None
    before_updates: Callable[[Callable[[Any], None]], Callable[[], None]] | None = None
    regroups: Callable[[Any], bool] = _never
    is_sharded: Callable[[Any], bool] = _never
    knows_shards: Callable[[], bool] | None = None
