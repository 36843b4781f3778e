"""The network and the optimizer that a config describes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

import outlast
from outlast_recipes.common.optimizers import Adam, AdamW
from outlast_recipes.sign.config import ModelName, Network, SignConfig
from outlast_recipes.sign.heads import Head
from outlast_recipes.sign.iv3_gru import InceptionV3GRU, units
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.part_conv import PartConvFormer
from outlast_recipes.sign.transformer import HIDDEN, SignTransformer

CLASS_NAMES: dict[ModelName, str] = {
    "part_conv": PartConvFormer.__name__,
    "transformer": SignTransformer.__name__,
    "iv3_gru": InceptionV3GRU.__name__,
}
DROPOUT: dict[ModelName, float] = {"part_conv": 0.2, "transformer": 0.1, "iv3_gru": 0.3}
WIDTH: dict[ModelName, int] = {"part_conv": 128, "transformer": 256}


def build(config: Network, category_of: Sequence[int], categories: int) -> SignNetwork:
    """The network.

    Args:
        config: its values.
        category_of: category of each gloss; -1 for a gloss that belongs to none.
        categories: number of them.

    Raises:
        outlast.ConfigError: the values do not go together.
    """
    dropout = DROPOUT[config.name] if config.dropout is None else config.dropout

    def head(channels: int, hidden: int | None = None) -> Head:
        apart = config.category == "independent"
        return Head(channels, category_of, categories, dropout, hidden=hidden, apart=apart)

    if config.name == "iv3_gru":
        return InceptionV3GRU(
            head(units(config.hidden2, bidirectional=config.bidirectional)),
            hidden=(config.hidden1, config.hidden2),
            bidirectional=config.bidirectional,
            summary=config.summary,
            input_norm=config.input_norm,
            dropout=dropout,
        )
    width = WIDTH[config.name] if config.width is None else config.width
    if config.name == "transformer":
        if width % config.heads:
            raise outlast.ConfigError(
                f"--network.width is {width}, and --network.heads is {config.heads}; expected a width that is "
                "a multiple of the heads."
            )
        return SignTransformer(
            head(width, HIDDEN),
            width=width,
            layers=config.layers,
            heads=config.heads,
            feedforward=config.feedforward,
            pooling=config.pooling,
            seen=config.seen,
            dropout=dropout,
        )
    return PartConvFormer(
        head(2 * width),
        width=width,
        dropout=dropout,
        drop_path=config.drop_path,
        shapes=config.shapes,
    )


def optimizer_of(config: SignConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Matrices decay; norms, biases and embeddings do not."""
    decayed = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    kind = AdamW if config.optimizer == "adamw" else Adam
    return kind(groups, lr=config.learning_rate, fused=True)
