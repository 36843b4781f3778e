"""Tracked objects: what is asked of any of them, and which kind a given one is.

The kinds of a framework are in one table (torch/). A kind knows how its objects are taken apart and loaded, what is
stored beside their state, and what the program chose when it built them.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from outlast.data import feed, foreign
from outlast.errors import OutlastError, ResumeRefused, StateError
from outlast.state import adapters
from outlast.state.array import Array
from outlast.state.tree import Decoder, Encoder

Packed = tuple[Any, dict[str, Array]]
"""The JSON of a part and its arrays by name."""

_TRIED_WHOLE = 2**16  # bytes of an array up to which its way back is tried with all of it
_MOST_OPTIONS = 500  # scalars of one object that are compared as options


class TooEarly(Exception):
    """Not everything is tracked yet that a stored state has to be matched with."""


class Tracked:
    """An object with `state_dict()` and `load_state_dict()`.

    Args:
        part: the name under which it is tracked.
        thing: the object.

    Attributes:
        bare: the object without wrappers, whose state has the same names in every session.
        repairable: whether loading it twice is harmless.
        names: the names of parameters of tracked modules, by identity.
        named: those parameters by their names.
        settled: whether everything is tracked.
        group_order: of an optimizer, and of what drives it, for each group the number of the stored one; None when they stand alike.
        copies: whether a load copies out of what it is given, and leaves that as it is.
    """

    turn = 1
    """When it is loaded and compared among others: 0 before, 2 after them."""

    def __init__(self, part: str, thing: Any) -> None:
        self.part, self.thing, self.bare = part, thing, thing
        self.repairable = feed.own(thing) is not None or not (hasattr(thing, "__iter__") or hasattr(thing, "__next__"))
        self.names: Mapping[int, str] = {}
        self.named: Mapping[str, Any] = {}
        self._form: Any = None
        self.settled = False
        self.copies = False
        self.group_order: list[int] | None = None

    @property
    def kind(self) -> str:
        """Its class, as messages and checkpoints name it."""
        return type(self.bare).__qualname__

    def check(self) -> None:
        """Refuse what could be saved and never loaded, before training starts; raises StateError."""

    def state(self) -> Any:
        """Its state; raises StateError when its own state_dict() fails."""
        try:
            return self.bare.state_dict()
        except OutlastError:
            raise
        except (Exception, SystemExit, GeneratorExit) as error:
            raise StateError(
                f"{self.part} ({self.kind}): its state_dict() failed with {type(error).__name__}: {error}. Nothing was saved."
            ) from error

    def pack(self) -> Packed:
        """Take its state apart."""
        encoder = Encoder(self.part)
        state = self.state()
        self._check_form(state)
        if isinstance(state, Mapping):
            state = dict(state)  # the outermost container belongs to the object, which takes any
        return encoder.encode(state), encoder.arrays

    def _check_form(self, state: Any) -> None:
        """Refuse a state of another kind than the first one, which could not be loaded."""
        form = Mapping if isinstance(state, Mapping) else type(state)
        before, self._form = self._form, self._form or form
        if state is None or form is not self._form:
            given = "None" if state is None else f"a {form.__name__}"
            earlier = f" after a {before.__name__} before" if before else ""
            raise StateError(
                f"{self.part} ({self.kind}): its state_dict() gives {given}{earlier}, which could not be loaded again. Checkpoints of before are "
                "intact."
            )

    def sharded(self) -> dict[str, Any]:
        """The tensors of its state that lie on several ranks, by the names of their arrays."""
        encoder = Encoder(self.part)
        encoder.encode(self.state())
        return encoder.sharded

    def decode(self, node: Any, arrays: Mapping[str, Array]) -> Any:
        """Put its stored state together; raises CorruptCheckpoint or ResumeRefused."""
        sharded: dict[str, Any] = {}
        if "torch" in sys.modules:
            from outlast.state.torch import tensors as torch

            if torch.knows_shards():
                sharded = self.sharded()
        return Decoder(self.part, arrays, sharded).decode(node)

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """The stored state in the order of this program; raises ResumeRefused when it belongs to another kind of thing."""
        foreign.check_state(self.part, self.thing, state)
        return state

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Load a decoded state.

        Raises:
            ResumeRefused: the object does not take it, whatever it raises.
        """
        try:
            self.bare.load_state_dict(state)
        except OutlastError:
            raise
        except (Exception, SystemExit, GeneratorExit) as error:
            raise ResumeRefused(
                f"{self.part} ({self.kind}) does not take the state in the checkpoint ({type(error).__name__}: {error}). What is tracked "
                "under a name must stay the same kind of thing from one attempt to the next."
            ) from error

    def facts(self) -> dict[str, Any]:
        """What is stored beside its state: JSON."""
        return {"class": self.kind}

    def parameters(self) -> Iterable[tuple[str, Any]]:
        """Its parameters by their names, for optimizers to be matched by; only modules have such."""
        return ()

    def unsaved(self) -> list[str]:
        """What of it has changed and is in no state."""
        return []

    def unused_gradients(self) -> Iterable[tuple[Any, Any]]:
        """Parameters that it updates and that have a gradient, and the gradient; only optimizers have such."""
        return ()

    def rates(self) -> list[Any] | None:
        """Learning rates as the program built them, before any schedule; None for what has none."""
        return None

    def take_rates(self, rates: Sequence[Any], others: Iterable[Tracked]) -> None:
        """Take over what `rates` gave, at the present point of the schedule."""

    def lacks_schedule(self, others: Iterable[Tracked]) -> bool:  # noqa: ARG002
        """Whether a schedule was built for it, and none of these is it."""
        return False

    def follow(self, others: Iterable[Tracked]) -> bool:  # noqa: ARG002
        """Take over an order from those that it belongs to; returns whether that is another one than before."""
        return False

    def remarks(self) -> list[str]:
        """What the user should know of the load."""
        return []

    def doubts(self) -> list[str]:
        """Why a load cannot be called exact, whatever the comparison says."""
        return []

    def arrange(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored options under the paths that they have in this program."""
        return options

    def rates_at(self, steps: Iterable[int]) -> list[list[Any]]:  # noqa: ARG002
        """What functions in it give at some steps; only schedules have such."""
        return []

    def arrange_rates(self, values: list[Any]) -> list[Any]:
        """Stored rates in the order that their groups have in this program."""
        return values

    def options(self, node: Any) -> dict[str, Any]:
        """What the program chose when it built the object: path -> value as JSON, out of the packed state of the new object."""
        if not any(callable(getattr(self.bare, name, None)) for name in ("step", "update")):
            return {}  # neither a schedule nor an average: its values are results
        found = dict(_scalars(node))
        return found if len(found) <= _MOST_OPTIONS else {}


class Generator(Tracked):
    """A random generator of torch, NumPy or Python, which has a state and no state_dict()."""

    def state(self) -> Any:
        """Its state, as it is stored inside of other objects."""
        parts = adapters.take_apart(self.thing)
        return {} if parts is None else {name: value for name, value in parts.children.items() if name != "device"}

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Set it, in place."""
        try:
            if type(self.thing) is random.Random:
                self.thing.setstate((state["version"], tuple(state["words"]), state["gauss"]))
            elif hasattr(self.thing, "bit_generator"):
                from outlast.state import numpy

                numpy.set_bits(self.thing.bit_generator, state["state"])
            elif type(self.thing).__module__.startswith("numpy"):
                from outlast.state import numpy

                numpy.set_random_state(self.thing, state["state"])
            else:
                self.thing.set_state(state["state"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ResumeRefused(
                f"{self.part} ({self.kind}) does not take the state in the checkpoint ({error})."
            ) from error

    def options(self, node: Any) -> dict[str, Any]:  # noqa: ARG002
        """None: a seed is no option that a checkpoint overrides in silence; it is the state itself."""
        return {}


def tracked(part: str, thing: Any) -> Tracked:
    """What is known of an object by its kind.

    Raises:
        StateError: it has no usable state_dict().
    """
    if "torch" in sys.modules:
        from outlast.state import torch as torch_objects

        if (found := torch_objects.tracked(part, thing)) is not None:
            return found
    if _is_generator(thing):
        return Generator(part, thing)
    missing = [name for name in ("state_dict", "load_state_dict") if not callable(getattr(thing, name, None))]
    if missing:
        hint = adapters.advice(thing) or (
            "For a torch DataLoader use outlast.DataLoader or torchdata's StatefulDataLoader, which know their position."
            if type(thing).__name__ == "DataLoader"
            else "Track objects that have both, lists and dicts of them, and random generators; or hand arrays over with run.restore() "
            "and run.offer()."
        )
        raise StateError(f"{part} is a {type(thing).__qualname__} without {' and '.join(missing)}(). {hint}")
    return Tracked(part, thing)


def members(part: str, thing: Any) -> list[tuple[str, Any]] | None:
    """The objects of a list, tuple or dict that is tracked as one, each under a name of its own; None for anything else."""
    pairs: list[tuple[Any, Any]] = []
    if type(thing) in (list, tuple):
        pairs = list(enumerate(thing))
    elif type(thing) is dict:
        pairs = list(thing.items())
    return (
        [(f"{part}.{key}", item) for key, item in pairs]
        if pairs and all(_has_state(item) for _, item in pairs)
        else None
    )


def _has_state(thing: Any) -> bool:
    methods = all(callable(getattr(thing, name, None)) for name in ("state_dict", "load_state_dict"))
    return methods or _is_generator(thing) or members("", thing) is not None


def try_way_back(part: str, packed: Packed) -> None:
    """Take what was packed through JSON and put it together and apart again, so that no state is saved that cannot come back.

    Raises:
        StateError: names what does not come back as it was.
    """
    from outlast.state.compare import differences

    try:
        text = json.dumps(packed[0], ensure_ascii=False, allow_nan=False)
        text.encode()
        node = json.loads(text)
        arrays = dict(packed[1])
        node = _sampled(node, arrays)
        encoder = Encoder(part)
        again = encoder.encode(Decoder(part, arrays).decode(node))
    except StateError:
        raise
    except Exception as error:
        raise StateError(
            f"{part} cannot be saved: its state does not come back ({type(error).__name__}: {error})."
        ) from error
    found = differences(part, (node, arrays), (again, encoder.arrays)).found
    if found:
        raise StateError(f"{part} cannot be saved: its state comes back as something else. {found[0]}")


def _sampled(node: Any, arrays: dict[str, Array]) -> Any:
    """The same JSON, over one element of each large array: how an array comes back depends on its type alone."""
    if isinstance(node, list):
        return [_sampled(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    if "$array" not in node:
        return {key: _sampled(child, arrays) for key, child in node.items()}
    array = arrays[node["$array"]]
    if array.shard is not None or (array.nbytes > _TRIED_WHOLE and len(array.shape)):
        arrays[node["$array"]] = array = _one_element(array, keeps_last="dtype" in node or "key" in node)
    if array.live is None:
        return {key: value for key, value in node.items() if key not in ("stride", "layout")}
    return node


def _one_element(array: Array, *, keeps_last: bool) -> Array:
    """An array of the same type with one element of zeros; an empty one stays empty.

    Args:
        array: the array.
        keeps_last: the last dimension is part of the element.
    """
    if not array.nbytes:
        return Array(array.dtype, array.shape, b"")
    shape = tuple(1 for _ in array.shape)
    if keeps_last:
        shape = (*shape[:-1], array.shape[-1])
    return Array(array.dtype, shape, bytes(array.nbytes * math.prod(shape) // math.prod(array.shape)))


def _is_generator(thing: Any) -> bool:
    if type(thing) is random.Random:
        return True
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and isinstance(thing, numpy.random.Generator | numpy.random.RandomState):
        return True
    return torch is not None and isinstance(thing, torch.Generator)


def _scalars(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a packed state that are no arrays, by their paths."""
    if isinstance(node, dict):
        if "$array" in node:
            return
        if next(iter(node), "").startswith("$"):
            if len(text := json.dumps(node)) <= 200 and "$array" not in text:
                yield path, node
            return
        for key, child in node.items():
            yield from _scalars(child, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _scalars(child, f"{path}.{index}" if path else str(index))
    else:
        yield path, node
