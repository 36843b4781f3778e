"""Seeds of more than 32 bits, of which some generators take the lower half alone."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from outlast.state import rng

DRAWS: dict[str, Callable[[], float]] = {
    "python": random.random,
    "numpy": np.random.random,
    "torch": lambda: float(torch.rand(())),
}


@pytest.fixture(autouse=True)
def generators_as_before() -> Iterator[None]:
    with rng.seeded_with([0, 0, 0, 0]):
        yield


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_upper_half_of_a_seed_counts(draw: Callable[[], float]) -> None:
    drawn = []
    for seed in (5, 2**32 + 5, 2**33 + 5, 2**63 - 1, 2**32 + 5):
        rng.seed_generators(seed)
        drawn.append(draw())
    assert len(set(drawn)) == 4
    assert drawn[1] == drawn[4]


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_a_short_seed_is_the_librarys_own(seed: int) -> None:
    rng.seed_generators(seed)
    assert random.random() == random.Random(seed).random()
    assert np.random.random() == np.random.RandomState(seed).random()
    assert float(torch.rand(())) == float(torch.rand((), generator=torch.Generator().manual_seed(seed)))


def test_pythons_generator_is_seeded_before_it_is_imported() -> None:
    code = "import outlast; outlast.seed_everything(5); import random; print(random.random())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == random.Random(5).random()
