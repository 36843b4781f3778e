"""The original's transformer for keypoints: a linear layer, sinusoidal places, layers with their norms first, pooling.

Own code after the figures in seed-systems.md (004). `seen` is what the original lacks: without it a hidden hand looks
like one in the top left corner of the picture.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from outlast_recipes.common.dropout import Dropout
from outlast_recipes.sign.batch import POINTS
from outlast_recipes.sign.heads import Head
from outlast_recipes.sign.layers import EncoderLayer, max_over_time, mean_over_time
from outlast_recipes.sign.network import SignNetwork

HIDDEN = 128  # units of the heads


class SignTransformer(SignNetwork):
    """The original's transformer for keypoints.

    Args:
        head: of `width` channels.
        width: channels.
        layers, heads, feedforward: of the transformer.
        pooling: over time.
        seen: whether the network reads which keypoints were seen.
        dropout: rate.
    """

    def __init__(
        self,
        head: Head,
        *,
        width: int = 256,
        layers: int = 4,
        heads: int = 8,
        feedforward: int = 1024,
        pooling: Literal["mean", "max", "cls"] = "mean",
        seen: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pooling, self.seen = pooling, seen
        self.project = nn.Linear(POINTS * (3 if seen else 2), width)
        self.token = nn.Parameter(0.02 * torch.randn(width)) if pooling == "cls" else None
        self.drop, self.norm = Dropout(dropout), nn.LayerNorm(width)
        self.layers = nn.ModuleList([EncoderLayer(width, heads, feedforward, dropout) for _ in range(layers)])
        self.head = head

    def encoded(self, *inputs: Tensor) -> Tensor:
        points, seen, lengths = inputs
        flat = points.flatten(2)
        x = self.project(torch.cat([flat, seen.to(flat.dtype)], 2) if self.seen else flat)
        if self.token is not None:  # a first frame of every clip
            x, lengths = torch.cat([self.token.expand(len(x), 1, -1).to(x.dtype), x], 1), lengths + 1
        x = self.norm(self.drop(x + places(x.shape[1], x.shape[2], x.device).to(x.dtype)))
        for layer in self.layers:
            x = layer(x, lengths)
        return x

    def pooled(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        if self.pooling == "cls":
            return encoded[:, 0]
        return max_over_time(encoded, lengths) if self.pooling == "max" else mean_over_time(encoded, lengths)


def places(frames: int, channels: int, device: torch.device) -> Tensor:
    """(frames, channels): sines and cosines of each place (Vaswani et al., 2017), for any number of frames."""
    frequency = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(10_000.0) / channels))
    angle = torch.arange(frames, device=device)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
