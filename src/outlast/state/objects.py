"""The interface of a tracked object.

A framework has its own kinds (torch/). A kind packs and loads its objects, and knows which facts are stored with their
state and which options the program chose when it built them.
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
"""The JSON of a part, and its arrays by name."""

_MOST_OPTIONS = 500  # most scalars of one object that are compared as options


class TooEarly(Exception):
    """A stored state cannot be matched yet, because an object that it needs is not tracked yet."""


class TrackedObject:
    """An object with `state_dict()` and `load_state_dict()`.

    Args:
        part: the name under which it is tracked.
        thing: the object.

    Attributes:
        bare: the object without wrappers. The names in its state are the same in every session.
        repairable: whether it can be loaded twice.
        names: id of a parameter of a tracked module -> its name.
        named: name -> parameter, for the same parameters.
        settled: whether all objects are tracked.
        group_order: of an optimizer and its schedulers: the number of the stored group for each group; None if the
            order is the same.
        copies: whether a load copies its input and leaves it unchanged.
    """

    in_facts: tuple[str, ...] = ()
    """Names of attributes that `facts` holds."""

    turn = 1
    """Order of loading and comparison: 0 before the others, 2 after them."""

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
        """Name of its class, for messages and checkpoints."""
        return type(self.bare).__qualname__

    def check(self) -> None:
        """Refuse, before training starts, an object that could be saved but not loaded; raises StateError."""

    def state(self) -> Any:
        """Its state; raises StateError if its state_dict() fails."""
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
        """Pack its state."""
        encoder = Encoder(self.part)
        state = self.state()
        self._check_form(state)
        if isinstance(state, Mapping):
            state = dict(state)  # the class of the outermost container does not matter: the object accepts any mapping
        return encoder.encode(state), encoder.arrays

    def _check_form(self, state: Any) -> None:
        """Refuse a state whose type differs from that of the first one, because it could not be loaded."""
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
        """The tensors of its state of which each rank holds a block, by the names of their arrays."""
        encoder = Encoder(self.part)
        encoder.encode(self.state())
        return encoder.sharded

    def decode(self, node: Any, arrays: Mapping[str, Array]) -> Any:
        """Rebuild its stored state; raises CorruptCheckpoint or ResumeRefused."""
        return Decoder(self.part, arrays, self.sharded() if adapters.knows_shards() else {}).decode(node)

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """The stored state in the order of this program; raises ResumeRefused if another kind of object stored it."""
        return state

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Load a decoded state.

        Raises:
            ResumeRefused: the object's load_state_dict() raised an exception.
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
        """JSON that is saved with its state."""
        return {"class": self.kind}

    def parameters(self) -> Iterable[tuple[str, Any]]:
        """Its parameters by name, so that optimizers can be matched. Only modules have parameters."""
        return ()

    def unsaved(self) -> list[str]:
        """Values of the object that have changed and that its state does not contain."""
        return []

    def attributes(self) -> dict[str, dict[str, Any]]:
        """The attributes of the object and its parts, as they are now and will be: by the part's name, "" for itself.

        Empty where it is not known what the state leaves out.
        """
        return {}

    def may_save(self, number: str) -> bool:  # noqa: ARG002
        """Whether code that is not the framework's may put this number of `attributes` into the state."""
        return False

    def unused_gradients(self) -> Iterable[tuple[Any, Any]]:
        """Parameters that it updates and that have a gradient, with the gradient. Only optimizers have them."""
        return ()

    def rates(self) -> list[Any] | None:
        """Learning rates that the program chose, before any schedule; None if the object has none."""
        return None

    def take_rates(self, rates: Sequence[Any], others: Iterable[TrackedObject]) -> None:
        """Set learning rates from a result of `rates`, at the current point of the schedule."""

    def lacks_schedule(self, others: Iterable[TrackedObject]) -> bool:  # noqa: ARG002
        """Whether a scheduler was built for it that is not among `others`."""
        return False

    def follow(self, others: Iterable[TrackedObject]) -> bool:  # noqa: ARG002
        """Use the group order of the object that it belongs to; returns whether its order changed."""
        return False

    def remarks(self) -> list[str]:
        """Messages for the user about the load."""
        return []

    def doubts(self) -> list[str]:
        """Reasons why the load cannot be called exact, even if the comparison finds no difference."""
        return []

    def arrange(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored options, under their paths in this program."""
        return options

    def rates_at(self, steps: Iterable[int]) -> list[list[Any]]:  # noqa: ARG002
        """The values of its functions at some steps. Only schedulers have functions."""
        return []

    def arrange_rates(self, values: list[Any]) -> list[Any]:
        """Stored rates, in the group order of this program."""
        return values

    def options(self, node: Any) -> dict[str, Any]:
        """Values that the program set when it built the object: path -> value as JSON.

        They are read from the packed state of the new object.
        """
        if not any(callable(getattr(self.bare, name, None)) for name in ("step", "update")):
            return {}  # neither a scheduler nor an average: its values are results, not options
        found = dict(_scalars(node))
        return found if len(found) <= _MOST_OPTIONS else {}


def _scalars(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a packed state that are not arrays, by path."""
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
