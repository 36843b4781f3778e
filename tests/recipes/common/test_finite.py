"""Losses and weights that are not finite end a training before they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import outlast
from outlast_recipes.common.finite import SKIPPED, Finite
from outlast_recipes.sign import training as sign
from tests import messages
from tests.durability.digits import train
from tests.recipes import signs


def test_loss_scaling_may_skip_some_steps() -> None:
    finite = Finite(torch.nn.Linear(2, 2), scaled=True)
    for step in range(SKIPPED):
        finite.check(step, {"box_loss": torch.tensor(torch.inf)})
    finite.check(SKIPPED, {"box_loss": 1.0})
    for step in range(SKIPPED):
        finite.check(step, {"box_loss": torch.tensor(torch.nan)})
    with pytest.raises(outlast.OutlastError, match=f"for {SKIPPED + 1} steps"):
        finite.check(SKIPPED, {"box_loss": torch.tensor(torch.nan)})


def test_a_weight_is_looked_at_after_the_step() -> None:
    network = torch.nn.Linear(2, 2)
    finite = Finite(network, scaled=False)
    finite.check(3, {"loss": 1.0})
    with torch.no_grad():
        network.weight[0, 1] = torch.inf
    with messages.raises(outlast.OutlastError, "training/weight-not-finite", step=4):
        finite.check(4, {"loss": 1.0})


def test_a_loss_of_signs_that_is_not_finite_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(range(1, 9))

    def ruined(*given: Any) -> dict[str, torch.Tensor]:
        return losses_of(*given) | ({"gloss_loss": torch.tensor(torch.nan)} if next(made) == 2 else {})

    losses_of = sign.losses_of
    monkeypatch.setattr(sign, "losses_of", ruined)
    with messages.raises(outlast.OutlastError, "training/loss-not-finite", losses="gloss_loss", step=2):
        train(tmp_path, recipe="sign", small={**signs.TINY, "save_every": "1 steps"})
    assert outlast.open_saved("sign", root=tmp_path).step == 1
