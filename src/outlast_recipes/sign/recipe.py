"""Signs from keypoints or image features. `training` trains it.

Nothing here needs a framework, so that a machine without one can launch a training elsewhere.
"""

from __future__ import annotations

import outlast
from outlast_recipes.sign.config import SignConfig

recipe = outlast.Recipe(
    name="sign",
    summary="gloss and category of signs from keypoints or image features (PyTorch)",
    Config=SignConfig,
    code=".training",
    metric="val_gloss_top1",
    part="ema",
    ranks=False,
)
