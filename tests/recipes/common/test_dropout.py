"""Dropout on a CPU: shares, scale, gradients, and numbers that are torch's state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from outlast_recipes.common.dropout import Dropout, ReluDropout

RATES = (0.1, 0.5, 0.9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rate", RATES)
def test_a_share_is_zero_and_the_mean_stays(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(501, 199, dtype=dtype, requires_grad=True)
    given = Dropout(rate)(x)
    dropped = given == 0
    assert given.dtype == dtype
    assert abs(float(dropped.float().mean()) - rate) < 0.005
    assert len(given.unique()) == 2
    torch.testing.assert_close(given.max(), torch.tensor(1 / (1 - rate), dtype=dtype), rtol=0.005, atol=0)
    shares = dropped.float().mean(0)  # of each column: of 501 values
    assert abs(float(shares.std()) - (rate * (1 - rate) / 501) ** 0.5) < 0.005
    given.sum().backward()
    assert torch.equal(x.grad, given)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.3)(torch.ones(100_000)) == 0).double()
    for lag in range(1, 9):  # four values share a word
        together = float((dropped[lag:] * dropped[:-lag]).mean())
        assert abs(together - 0.09) < 0.005, lag


def test_relu_and_dropout_are_what_two_layers_are() -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 101, requires_grad=True)
    torch.manual_seed(1)
    given = ReluDropout(0.2)(x)
    given.sin().sum().backward()
    gradient, x.grad = x.grad, None
    torch.manual_seed(1)
    apart = Dropout(0.2)(x.relu())
    apart.sin().sum().backward()
    assert torch.equal(given, apart)
    torch.testing.assert_close(gradient, x.grad)


@pytest.mark.parametrize("layer", [Dropout(0.4), ReluDropout(0.4)])
def test_numbers_come_from_torchs_generator(layer: nn.Module) -> None:
    x = torch.ones(64)
    state = torch.get_rng_state()
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer(x), second)


def test_without_training_or_rate_nothing_is_dropped() -> None:
    x = torch.randn(50)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(ReluDropout(0.5).eval()(x), x.relu())
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(ReluDropout(0.0)(x), x.relu())
    assert not Dropout(1.0)(x).any()
    assert Dropout(0.5)(torch.ones(0)).shape == (0,)
