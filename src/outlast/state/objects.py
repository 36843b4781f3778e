"""The interface of tracked objects, and the choice of the kind of one.

A framework has kinds of its own (torch/). A kind knows how its objects are packed and loaded, what is
stored beside their state, and what the program chose when it built them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from outlast.errors import OutlastError, ResumeRefused, StateError
from outlast.state import adapters
from outlast.state.array import Array
from outlast.state.tree import Decoder, Encoder

Packed = tuple[Any, dict[str, Array]]
"""The JSON of a part and its arrays by name."""

_MOST_OPTIONS = 500  # scalars of one object that are compared as options


class TooEarly(Exception):
    """Not everything is tracked yet that a stored state has to be matched with."""


class TrackedObject:
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
        group_order: of an optimizer, and of what drives it, for each group the number of the stored one; None when they
            stand alike.
        copies: whether a load copies out of what it is given, and leaves that as it is.
    """

    turn = 1
    """When it is loaded and compared among others: 0 before, 2 after them."""

    def __init__(self, part: str, thing: Any) -> None:
        self.part, self.thing, self.bare = part, thing, thing
        self.repairable = not (hasattr(thing, "__iter__") or hasattr(thing, "__next__"))
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
                f"{self.part} ({self.kind}): its state_dict() failed with {type(error).__name__}: {error}. Nothing was "
                "saved."
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
                f"{self.part} ({self.kind}): its state_dict() gives {given}{earlier}, which could not be loaded "
                "again. Earlier checkpoints are intact."
            )

    def sharded(self) -> dict[str, Any]:
        """The tensors of its state that lie on several ranks, by the names of their arrays."""
        encoder = Encoder(self.part)
        encoder.encode(self.state())
        return encoder.sharded

    def decode(self, node: Any, arrays: Mapping[str, Array]) -> Any:
        """Put its stored state together; raises CorruptCheckpoint or ResumeRefused."""
        return Decoder(self.part, arrays, self.sharded() if adapters.knows_shards() else {}).decode(node)

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """The stored state in the order of this program.

        Raises ResumeRefused when it belongs to another kind of thing.
        """
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
                f"{self.part} ({self.kind}) does not take the state in the checkpoint ({type(error).__name__}: "
                f"{error}). What is tracked "
                "under a name must stay the same kind of thing from one attempt to the next."
            ) from error

    def facts(self) -> dict[str, Any]:
        """JSON that is saved in addition to its state."""
        return {"class": self.kind}

    def parameters(self) -> Iterable[tuple[str, Any]]:
        """Its parameters by their names, for optimizers to be matched by; only modules have such."""
        return ()

    def unsaved(self) -> list[str]:
        """Changed values of the object that no state contains."""
        return []

    def unused_gradients(self) -> Iterable[tuple[Any, Any]]:
        """Parameters that it updates and that have a gradient, and the gradient; only optimizers have such."""
        return ()

    def rates(self) -> list[Any] | None:
        """Learning rates as the program built them, before any schedule; None for what has none."""
        return None

    def take_rates(self, rates: Sequence[Any], others: Iterable[TrackedObject]) -> None:
        """Take over what `rates` gave, at the present point of the schedule."""

    def lacks_schedule(self, others: Iterable[TrackedObject]) -> bool:  # noqa: ARG002
        """Whether a schedule was built for it, and none of these is it."""
        return False

    def follow(self, others: Iterable[TrackedObject]) -> bool:  # noqa: ARG002
        """Take over an order from those that it belongs to; returns whether that is another one than before."""
        return False

    def remarks(self) -> list[str]:
        """Messages for the user about the load."""
        return []

    def doubts(self) -> list[str]:
        """Why a load cannot be called exact, whatever the comparison says."""
        return []

    def arrange(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored options under the paths that they have in this program."""
        return options

    def rates_at(self, steps: Iterable[int]) -> list[list[Any]]:  # noqa: ARG002
        """The values of its functions at some steps; only schedules have functions."""
        return []

    def arrange_rates(self, values: list[Any]) -> list[Any]:
        """Stored rates in the order that their groups have in this program."""
        return values

    def options(self, node: Any) -> dict[str, Any]:
        """Values that the program set when it built the object: path -> value as JSON.

        It is taken out of the packed state of the new object.
        """
        if not any(callable(getattr(self.bare, name, None)) for name in ("step", "update")):
            return {}  # neither a schedule nor an average: its values are results
        found = dict(_scalars(node))
        return found if len(found) <= _MOST_OPTIONS else {}


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
