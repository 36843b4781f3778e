"""Networks of the comparison that are not the recipe's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from outlast_recipes.sign.batch import POINTS, SignData
from outlast_recipes.sign.config import Network, SignConfig
from outlast_recipes.sign.heads import Head
from outlast_recipes.sign.iv3_gru import InceptionV3GRU, units
from outlast_recipes.sign.layers import inside
from outlast_recipes.sign.network import SignNetwork

LONGEST = 256  # places that are learned


class Spoter(SignNetwork):
    """A network of SPOTER's class (Boháček and Hrúz, WACV workshops, 2022), own code: learned places, a transformer's
    encoder over frames, and a decoder in which one learned query reads the clip. 12 heads divide its 156 channels.
    """

    def __init__(self, head: Head, *, layers: int = 6, inner: int = 2048, dropout: float = 0.1) -> None:
        super().__init__()
        width = 2 * POINTS
        self.places = nn.Parameter(torch.rand(LONGEST, width))
        self.query = nn.Parameter(torch.rand(1, width))
        options = {"nhead": 12, "dim_feedforward": inner, "dropout": dropout, "batch_first": True}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, **options), layers, enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, **options), layers)
        self.head = head

    @staticmethod
    def width() -> int:
        return 2 * POINTS

    def encoded(self, *inputs: Tensor) -> Tensor:
        points, _, lengths = inputs
        x = points.flatten(2) + self.places[: points.shape[1]]
        return self.encoder(x, src_key_padding_mask=~inside(lengths.clamp(min=1), x.shape[1]))

    def pooled(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        padding = ~inside(lengths.clamp(min=1), encoded.shape[1])
        query = self.query.repeat(len(encoded), 1, 1)
        return self.decoder(query, encoded, memory_key_padding_mask=padding)[:, 0]


class GruOfKeypoints(InceptionV3GRU):
    """The recipe's GRUs with keypoints instead of image features, which the shared data do not have."""

    def encoded(self, *inputs: Tensor) -> Tensor:
        points, _, lengths = inputs
        return super().encoded(points.flatten(2), lengths)


def spoter(_config: SignConfig, data: SignData) -> SignNetwork:
    return Spoter(Head(Spoter.width(), data.category_of, len(data.categories), 0.0))


def spoter_small(_config: SignConfig, data: SignData) -> SignNetwork:
    """With a quarter of the inner channels, for a comparison on few cores."""
    return Spoter(Head(Spoter.width(), data.category_of, len(data.categories), 0.0), inner=512)


def gru(config: SignConfig, data: SignData) -> SignNetwork:
    """With the config's values for iv3_gru."""
    values: Network = config.network
    dropout = 0.3 if values.dropout is None else values.dropout
    channels = units(values.hidden2, bidirectional=values.bidirectional)
    apart = values.category == "independent"
    return GruOfKeypoints(
        Head(channels, data.category_of, len(data.categories), dropout, apart=apart),
        features=2 * POINTS,
        hidden=(values.hidden1, values.hidden2),
        bidirectional=values.bidirectional,
        summary=values.summary,
        input_norm=values.input_norm,
        dropout=dropout,
    )
