"""What a checkpoint gives back right before the first step: random generators and gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from outlast import state
from outlast.checkpoint import OpenedCheckpoint
from outlast.checkpoint.record import LoopRecord, StateRecord
from outlast.errors import ResumeRefused
from outlast.run.continuation import GRADIENTS, RNG, Continuation
from outlast.state import rng


def continuation(*, rank: int = 0, borrowed: bool = False, gradients: Any = None) -> Continuation:
    """Of a checkpoint that holds the generators as they are now."""
    random, arrays = state.pack_value(RNG, rng.capture())
    records: dict[str, Any] = {}
    parts = {RNG: arrays}
    if gradients is not None:
        node, parts[GRADIENTS] = state.pack_value(GRADIENTS, gradients)
        records[GRADIENTS] = {"kind": "object", "state": node}
    checkpoint: Any = SimpleNamespace(manifest={"format": 2}, step=3)
    ranks: Any = SimpleNamespace(rank=rank)
    about = StateRecord(3, LoopRecord(), {}, records, random)
    return Continuation(OpenedCheckpoint(checkpoint, about, parts, borrowed), ranks)


def drawn(continued: Continuation) -> float:
    continued.restore_generators()
    return float(np.random.random())


def test_ranks_that_were_not_there_draw_numbers_of_their_own() -> None:
    np.random.seed(5)
    own = continuation(rank=1)
    second, third, again = (continuation(rank=rank, borrowed=True) for rank in (2, 3, 2))
    expected = float(np.random.random())
    assert drawn(own) == expected
    assert drawn(second) == drawn(again)
    assert len({expected, drawn(second), drawn(third)}) == 3


def test_a_gradient_that_fits_no_parameter_is_refused() -> None:
    torch = pytest.importorskip("torch")
    continued = continuation(gradients={"weight": torch.ones(2, 3)})
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    continued.restore_gradients({"weight": parameter})
    assert parameter.grad.tolist() == [[1.0] * 3] * 2
    for name, shape in (("weight", (3, 2)), ("bias", (2, 3))):
        parameter = torch.nn.Parameter(torch.zeros(shape))
        with pytest.raises(ResumeRefused, match="'weight'"):
            continued.restore_gradients({name: parameter})
        assert parameter.grad is None
