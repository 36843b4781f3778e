"""The network and the optimizer that a config describes."""

from __future__ import annotations

import torch
from torch import nn

from outlast_recipes.common.optimizers import SGD, AdamW
from outlast_recipes.skeleton.config import Config
from outlast_recipes.skeleton.layouts import Layout
from outlast_recipes.skeleton.model import SIZES, Last


def build(config: Config, classes: int, layout: Layout, frames: int) -> nn.Module:
    model = config.model
    return Last(
        SIZES[model.size],
        classes,
        layout,
        frames=frames,
        kind=model.streams,
        shift=model.shift,
        routing=model.routing,
        attention=model.attention,
        bodies=model.bodies,
        dropout=model.dropout,
        drop_path=model.drop_path,
    )


def optimizer_of(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """Weights of convolutions and linear layers decay; all else does not."""
    decayed = [
        parameter for name, parameter in model.named_parameters() if parameter.dim() > 1 and name.endswith("weight")
    ]
    ids = {id(parameter) for parameter in decayed}
    others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    return AdamW(groups, lr=config.learning_rate)
