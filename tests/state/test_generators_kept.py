"""What a program draws does not depend on the batches that are made in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from outlast.state import numpy as numpy_adapter
from outlast.state import rng

USES: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "one uniform": np.random.random,
    "one normal": np.random.standard_normal,
    "two normal": lambda: np.random.standard_normal(2),
    "a key of numbers": lambda: np.random.random(624),
    "its own seed": lambda: np.random.seed(3),
    "its own state": lambda: np.random.set_state(np.random.RandomState(9).get_state()),
    "a state with a normal number left": lambda: np.random.set_state(one_normal_left()),
    "another MT19937": lambda: np.random.set_bit_generator(np.random.MT19937(8)),
    "PCG64": lambda: np.random.set_bit_generator(np.random.PCG64(8)),
}


def one_normal_left() -> dict[str, object]:
    generator = np.random.RandomState(9)
    generator.standard_normal()
    return generator.get_state(legacy=False)


@pytest.fixture(autouse=True)
def generators_as_before() -> Iterator[None]:
    bits = np.random.get_bit_generator()
    with rng.seeded_with([0, 0, 0, 0]):
        yield
        np.random.set_bit_generator(bits)


def drawn(use: Callable[[], object], *, batches: bool) -> list[float]:
    rng.seed_generators(5)
    found: list[float] = []
    for number in range(4):
        for _ in range(2):
            if batches:
                with rng.seeded_with([number, 2, 3, 4]):
                    np.random.standard_normal()
                    random.random()
                    torch.rand(1)
        use()
        found += [np.random.standard_normal(), np.random.random(), random.random(), float(torch.rand(()))]
        if number == 2:
            found += np.random.standard_normal(3).tolist()
    return found


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_program_draws_the_same_with_batches_in_between(use: Callable[[], object]) -> None:
    bits = np.random.get_bit_generator()
    alone = drawn(use, batches=False)
    np.random.set_bit_generator(bits)
    assert drawn(use, batches=True) == alone


def test_the_same_where_the_memory_of_numpys_generator_is_not_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numpy_adapter._has_known_memory()
    alone = drawn(np.random.standard_normal, batches=False)
    monkeypatch.setattr(numpy_adapter, "_has_known_memory", lambda: False)
    assert drawn(np.random.standard_normal, batches=True) == alone


def test_an_unchanged_generator_of_numpy_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    quick = numpy_adapter._quick
    monkeypatch.setattr(numpy_adapter, "_quick", lambda state: read.append(1) or quick(state))
    np.random.seed(1)
    for _ in range(5):
        with rng.seeded_with([1, 2, 3, 4]):
            np.random.random()
    assert len(read) == 1
    np.random.random()
    with rng.seeded_with([1, 2, 3, 4]):
        pass
    assert len(read) == 2
