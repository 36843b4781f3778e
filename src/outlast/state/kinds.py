"""Selects the kind of a tracked object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.errors import ResumeRefused, StateError
from outlast.state import adapters
from outlast.state.array import Pieces
from outlast.state.objects import TrackedObject
from outlast.terminal import type_of


class Generator(TrackedObject):
    """A random generator. It has a state but no state_dict()."""

    def state(self) -> Any:
        """The generator itself, packed as it is inside other objects."""
        pieces = adapters.pack(self.thing)
        if not isinstance(pieces, Pieces):
            raise StateError(
                f"{self.part} is {type_of(self.thing)}, a random generator, which its adapter does not pack as Pieces."
            )
        return {name: value for name, value in pieces.children.items() if name != "device"}

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Set the state of the generator in place."""
        found = adapters.generators_of(self.thing)
        assert found is not None  # noqa: S101 - as above
        try:
            found.load(self.thing, state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ResumeRefused(
                f"{self.part} ({self.kind}) does not take the state in the checkpoint ({error})."
            ) from error

    def options(self, node: Any) -> dict[str, Any]:  # noqa: ARG002
        """Empty: the seed is the state itself, not an option."""
        return {}


def tracked(part: str, thing: Any) -> TrackedObject:
    """The `TrackedObject` for an object, of the class for its kind.

    Raises:
        StateError: the object has no usable state_dict().
    """
    for adapter in adapters.loaded():
        found = adapters.ask(adapter, "tracked", part, thing)
        if isinstance(found, TrackedObject):
            return found
        if found is not None:
            raise StateError(
                f"{part} cannot be tracked: the adapter {adapter.name!r} gives {type_of(found)} for it; expected a "
                "TrackedObject or None. Correct its tracked."
            )
    if adapters.is_generator(thing):
        return Generator(part, thing)
    missing = [name for name in ("state_dict", "load_state_dict") if not callable(getattr(thing, name, None))]
    if missing:
        hint = adapters.advice(thing) or (
            "Track objects that have both, lists and dicts of them, and random generators; or hand arrays over with "
            "run.restore() and run.offer()."
        )
        raise StateError(f"{part} is {type_of(thing)} without {' and '.join(missing)}(). {hint}")
    return TrackedObject(part, thing)


def members(part: str, thing: Any) -> list[tuple[str, Any]] | None:
    """The objects of a list, tuple or dict that is tracked as one part, each with its own name.

    None for other values.
    """
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
    return methods or adapters.is_generator(thing) or members("", thing) is not None
