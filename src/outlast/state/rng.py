"""The global random generators of Python, NumPy and torch.

JAX has none: its keys are part of the script's state.
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
    """Seed the global generators of Python, NumPy and, if it is imported, torch (all devices). JAX has none.

    A run records the seed. A resume with another seed is reported.
    """
    _seeded[:] = [seed]
    seed_generators(seed)


def seed_generators(seed: int) -> None:
    """As `seed_everything`, but the seed is not recorded."""
    for each in _libraries():
        each.seed(seed)


def initial_seed() -> int:
    """The seed of the program's framework, if the framework reports it; else 0."""
    given = (each.initial_seed() for each in _libraries())
    return next((seed % 2**63 for seed in given if seed is not None), 0)


@contextlib.contextmanager
def seeded_with(words: Sequence[int], *, keep: bool = True) -> Iterator[None]:
    """Seed the global generators for the body of a with statement; for torch, only those of the CPU.

    Args:
        words: four whole numbers of 32 bits.
        keep: restore the generators afterwards.
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
    """The state of the global generators of each imported library, as a tree of arrays and numbers."""
    return {name: state for each in _libraries() for name, state in each.capture().items()}


def restore(state: dict[str, Any]) -> None:
    """Set the global generators to a captured state. Libraries that are not imported are skipped.

    Raises:
        CorruptCheckpoint: it is no state of these generators. Some of them may have changed.
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
    # Every state has their generators, because the program may import them later.
    import random  # noqa: F401

    import numpy  # noqa: F401, ICN001

    return adapters.generators()
