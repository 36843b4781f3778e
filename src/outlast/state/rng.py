"""The global random generators of Python, NumPy and torch.

JAX has none: its keys are part of the state that the script offers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.state import adapters
from outlast.state.adapter import Generators

_seeded: list[int] = []


def seeded() -> int | None:
    """The last seed of `seed_everything`, None if it was not called."""
    return _seeded[-1] if _seeded else None


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and (when it is loaded) torch, all devices. JAX has none to seed.

    A run remembers the seed: another one at a resume is reported.
    """
    _seeded[:] = [seed]
    seed_generators(seed)


def seed_generators(seed: int) -> None:
    """The same, and nobody remembers it."""
    for each in _libraries():
        each.seed(seed)


def initial_seed() -> int:
    """The seed of the program's framework, if the framework reports it; else 0."""
    given = (each.initial_seed() for each in _libraries())
    return next((seed % 2**63 for seed in given if seed is not None), 0)


@contextlib.contextmanager
def seeded_with(words: Sequence[int], *, keep: bool = True) -> Iterator[None]:
    """Seed the global generators (of torch, those of the CPU) for what happens inside.

    Args:
        words: four whole numbers of 32 bits.
        keep: put the generators back afterwards.
    """
    libraries = _libraries()
    before = [(each, one, each.get_state(one)) for each in libraries for one in each.shared()] if keep else []
    for each in libraries:
        each.seed_words(words)
    try:
        yield
    finally:
        for each, one, state in before:
            each.set_state(one, state)


def capture() -> dict[str, Any]:
    """The state of every global generator whose library is loaded, as a tree of arrays and numbers."""
    return {name: state for each in _libraries() for name, state in each.capture().items()}


def restore(state: dict[str, Any]) -> None:
    """Set the global generators to a captured state. A library that is not loaded now is left alone.

    Raises:
        CorruptCheckpoint: it is no state of these generators; none has been changed then, or some.
    """
    try:
        for each in _libraries():
            each.restore(state)
    except CorruptCheckpoint:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptCheckpoint(
            f"The checkpoint holds random generators that cannot be set ({type(error).__name__}: {error})."
        ) from error


def _libraries() -> list[Generators]:
    import numpy  # noqa: F401, ICN001 - its generators are in every state, also of a program that imports it later

    return adapters.generators()
