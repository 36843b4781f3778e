"""Objects and corners in pictures. `training` trains it.

Nothing here needs a framework, so that a machine without one can launch a training elsewhere.
"""

from __future__ import annotations

import outlast
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.packages import packages

recipe = outlast.Recipe(
    name="yolo",
    summary="objects and corners in pictures with YOLO (PyTorch; ultralytics, AGPL-3.0)",
    Config=YoloConfig,
    code=".training",
    metric="val_map",
    part="ema",
    ranks=True,
    packages=packages,
)
