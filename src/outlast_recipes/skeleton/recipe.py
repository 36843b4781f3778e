"""Actions from skeletons with LAST. `training` trains it.

Nothing here needs a framework, so that a machine without one can launch a training elsewhere.
"""

from __future__ import annotations

import outlast
from outlast_recipes.skeleton.config import Config

RENAMED = {
    "val_accuracy": "val_top1",
    "test_accuracy": "test_top1",
    "best_test_accuracy": "best_test_top1",
    "distance": "distillation_loss",
}
"""Metrics that version 0.4 and before logged under other names."""

recipe = outlast.Recipe(
    name="skeleton",
    summary="actions from skeletons with LAST, a light transformer that shifts (PyTorch)",
    Config=Config,
    code=".training",
    metric="val_top1",
    renamed=RENAMED,
    part="ema",
    ranks=True,
)
