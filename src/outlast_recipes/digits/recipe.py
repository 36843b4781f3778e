"""Handwritten digits with a small convolutional net: the starter to copy. `training` trains it.

Data: 1,797 real 8x8 digits of the UCI optical recognition set, shipped inside scikit-learn. Hardware and time: 2 CPU
cores, about 20 s. Expected: 99 % on the test split. Resume grade: exact.
"""

from __future__ import annotations

from typing import Literal

import outlast
from outlast import Section, setting


class Data(Section):
    augment: bool = setting(default=True, help="whether training batches are shifted by up to one pixel")
    samples: int | None = setting(None, "number of training samples; all when not given", ge=64)


class Model(Section):
    width: int = setting(32, "width: channels of the first layer; the others have twice as many", ge=1)
    dropout: float = setting(0.3, "dropout rate of the last features", ge=0, lt=1)
    activation: Literal["relu", "gelu"] = setting("relu", "activation function")


class Config(outlast.SupervisedConfig):
    epochs: int = setting(40, "passes over the data", on_resume="free", flags=("-e",), aliases=("max_epochs",), ge=1)
    learning_rate: float = setting(3e-3, "peak learning rate", flags=("--lr",), aliases=("lr",), ge=0)
    warmup: float = setting(0.1, "warm-up, as a share of the steps", ge=0, le=1)
    weight_decay: float = setting(1e-2, "weight decay of AdamW", ge=0)
    ema: float = setting(0.99, "decay of the exponential moving average of the weights (EMA)", ge=0, lt=1)
    accumulate: int = setting(1, "gradient accumulation: batches per optimizer step", ge=1)
    data: Data = setting(Data(), "data", on_resume="fixed")
    model: Model = setting(Model(), "model", on_resume="fixed")


recipe = outlast.Recipe(
    name="digits",
    summary="handwritten digits with a small convolutional net in PyTorch: the starter to copy",
    Config=Config,
    code=".training",
    metric="val_accuracy",
    part="ema",
)
