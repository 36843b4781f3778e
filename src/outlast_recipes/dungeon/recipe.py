"""Dungeons: rooms by latent diffusion or masked diffusion, joined by missions that can be finished.

`training` trains them. Nothing here needs a framework, so that a machine without one can launch a training elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import outlast
from outlast import Run
from outlast_recipes.dungeon.config import Config


def _train(name: str) -> Callable[[Run, Any, Mapping[str, Any]], None]:
    def train(run: Run, config: Any, inputs: Mapping[str, Any]) -> None:
        from outlast_recipes.dungeon import training

        getattr(training, name)(run, config, inputs)

    return train


def _is_masked(config: Any) -> bool:
    return bool(config.generator == "masked")


recipe = outlast.Recipe(
    name="dungeon",
    summary="dungeons that can be finished; their rooms by VQ-VAE and latent diffusion (PyTorch)",
    Config=Config,
    code=".training",
    stages=(
        outlast.Stage("vqvae", _train("train_vqvae"), metric="val_loss", mode="min", part="ema"),
        outlast.Stage(
            "diffusion", _train("train_diffusion"), after={"vqvae": "best"}, metric="val_loss", mode="min", part="ema"
        ),
        outlast.Stage(
            "joint", _train("train_joint"), after={"diffusion": "best"}, metric="val_loss", mode="min", part="ema"
        ),
        outlast.Stage("masked", _train("train_masked"), metric="val_loss", mode="min", part="ema", instead=_is_masked),
    ),
)
