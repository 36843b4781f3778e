"""What is compared: each network with its builder and the values of its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.sign.networks import gru, spoter, spoter_small

from outlast_recipes.sign.training import of_config

NO_AUGMENTATION = {
    f"augment.{name}": "0"
    for name in (
        "rotate",
        "squeeze",
        "perspective",
        "arms",
        "limbs",
        "trunk",
        "warp",
        "crop",
        "drop_frames",
        "noise",
        "occlude",
        "timing",
        "shoulders",
        "reach",
        "fingers",
    )
}
ORIGINAL = {
    "data.normalise": False,
    "network.category": "independent",
    "optimizer": "adam",
    "weight_decay": "0",
    "scheduler": "plateau",
    "warmup": "0",
    "alpha": "0.5",
    "beta": "0.5",
    "label_smoothing": "0",
    "ema": "0",
    **NO_AUGMENTATION,
}
"""The original's training: coordinates of the picture, no mask, no augmentation, Adam, plateau."""

RATES = ("3e-4", "1e-3", "3e-3")
"""Learning rates that are tried for every network. The choice is by validation."""


@dataclass(frozen=True)
class Contender:
    """A network and its training.

    Attributes:
        words: what it is, for the table.
        flags: values of the recipe.
        build: builds it.
    """

    words: str
    flags: dict[str, Any] = field(default_factory=dict)
    build: Callable[..., Any] = of_config


CONTENDERS = {
    "seed_transformer": Contender(
        "the original's Transformer and training",
        {"network.name": "transformer", "network.seen": False, **ORIGINAL},
    ),
    "seed_gru": Contender(
        "the original's GRUs (16, 12) and training, on keypoints: there are no image features",
        {
            "network.name": "transformer",  # so that keypoints are read
            "network.hidden1": "16",
            "network.hidden2": "12",
            "network.bidirectional": False,
            "network.summary": "last",
            "network.input_norm": False,
            **ORIGINAL,
        },
        gru,
    ),
    "transformer": Contender("the same Transformer, repaired, our training", {"network.name": "transformer"}),
    "gru": Contender("the GRUs, repaired, our training, on keypoints", {"network.name": "transformer"}, gru),
    "spoter": Contender("SPOTER's class, our training", {"network.name": "transformer"}, spoter),
    "spoter_small": Contender(
        "SPOTER's class with 512 inner channels, our training", {"network.name": "transformer"}, spoter_small
    ),
    "part_conv": Contender("part_conv, our training"),
}

_LESS = {
    "augment.rotate": "13",
    "augment.squeeze": "0.15",
    "augment.perspective": "0.1",
    "augment.arms": "4",
    "augment.noise": "0.005",
}
ANOTHER = {"augment.timing": "0.7", "augment.shoulders": "0.2", "augment.reach": "0.25", "augment.fingers": "20"}
_SHORT = {"augment.occlude": "0.3", "augment.occlude_span": "0.6"}
CANDIDATES: dict[str, dict[str, Any]] = {
    "default": {},
    "less space, less hidden": {**_LESS, **_SHORT},
    "less space": _LESS,
    "no limbs": {"augment.limbs": "0"},
    "no trunk": {"augment.trunk": "0"},
    "another signer": ANOTHER,
    "twice the width": {"network.width": "256"},
    "twice the width, another signer": {"network.width": "256", **ANOTHER},
}
"""Values of part_conv that are compared on validation clips."""
