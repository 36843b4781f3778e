"""The interface of a framework: one `Adapter` per framework, defined in its own file as ADAPTER.

An adapter recognises the values of its framework, packs and rebuilds them, knows which objects can be tracked, and
lists the random generators. An attribute that it does not set has a default: the framework has no such thing.
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
"""Rebuilds a pytree from its leaves, in order."""


def _never(_: Any) -> bool:
    return False


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Generators:
    """The random generators of one library: the global ones, and those that a program creates.

    Attributes:
        kinds: classes of generators that can be seeded and set.
        shared: the global generators of the CPU, as objects of these classes.
        seed: seeds all global generators, including those of devices, with one whole number.
        seed_words: seeds `shared` with four whole numbers of 32 bits. Python uses the first, NumPy the second, torch
            the last two. Other libraries mix all four with their names.
        capture: returns the state of the global generators, as a tree of arrays and numbers by name; empty if there are
            none.
        restore: sets the global generators to a result of `capture` and ignores other names in it. It may raise any
            exception.
        get_state: returns the state of a generator, for `set_state` in the same process.
        set_state: sets a generator to such a state.
        reseed: seeds a generator with a whole number or a numpy.random.SeedSequence.
        load: sets a generator to the result of the adapter's `pack`; raises KeyError, RuntimeError, TypeError or
            ValueError if it is malformed.
        initial_seed: returns the seed of the library, None if the library does not report it.
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
    """What outlast needs to know about a framework.

    Attributes:
        name: the framework's name. Checkpoints contain it: `{"as": name}` for arrays, `{"$name.form": ...}` for other
            values.
        matches: whether `pack` accepts this value: an array, a generator, a dtype. It may depend only on the value's
            class.
        pack: packs such a value: an array becomes a `FrameworkArray`, a value with several components becomes `Pieces`,
            a small value becomes text or a dict of JSON with one key `$name.form`. None: it cannot be saved. Raises
            UnsupportedArray with a reason. Any other result is refused with a StateError.
        from_array: rebuilds an array from its bytes, the JSON of `FrameworkArray.node`, and for a sharded array a
            tensor of this program that is sharded in the same way, otherwise None.
        put_together: rebuilds a value of `Pieces` or JSON from its key and its content. The values in the content were
            already rebuilt.
        tracked: returns the `TrackedObject` for a part name and an object; None if the object cannot be tracked.
        generators: its random generators.
        flatten: returns the leaves of a pytree with their paths, and a function that rebuilds it. At most one framework
            has this.
        place_like: moves a restored leaf to the device of the template's leaf.
        becomes: whether a step of this framework turns an initial leaf like the first into an array like the second.
        advice: returns what to write instead of a value, or of a pytree with a leaf, that cannot be saved.
        rows: for an array of samples, returns its dtype as text and a function that returns the bytes of such an
            array; None for other values.
        software: returns the facts on which the last bits of a result depend: versions, devices, threads. A device has
            the key "NAME device", and the value of a CPU begins with "cpu".
        use_deterministic_kernels: selects deterministic kernels.
        bound_memory: allocates no more than so many bytes of each GPU from now on.
        wait: waits until everything that was asked of the devices is computed.
        device_peaks: returns device -> most bytes that the framework has held there; without devices of which it does
            not know it, such as a CPU.
        pin: page-locks memory for copies by a device. Returns a function that unlocks it; None if no device is used.
        optimizer_places: returns the memory (`LiveMemory.place`) that only the step of an optimizer among these
            objects changes.
        before_updates: calls a function with every optimizer before each of its steps. Returns a function that stops
            this.
        regroups: whether this object adds gradients in another order after the first step of a process.
        is_sharded: whether several ranks hold blocks of this value.
        knows_shards: whether this program can have such values.
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
    bound_memory: Callable[[int], None] = _nothing
    wait: Callable[[], None] = _nothing
    device_peaks: Callable[[], dict[str, int]] = dict
    pin: Callable[[memoryview], Callable[[], None] | None] = _nothing
    optimizer_places: Callable[[Iterable[Any]], Collection[Any]] | None = None
    before_updates: Callable[[Callable[[Any], None]], Callable[[], None]] | None = None
    regroups: Callable[[Any], bool] = _never
    is_sharded: Callable[[Any], bool] = _never
    knows_shards: Callable[[], bool] | None = None
