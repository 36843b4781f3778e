"""A room as a few codes: a vector-quantised autoencoder (VQ-VAE) of the tiles of a room.

After van den Oord et al. 2017, arXiv:1711.00937; `quantizers` says what a code is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outlast_recipes.dungeon.conditions import OWN
from outlast_recipes.dungeon.quantizers import LEVELS, Codebook, Rounding
from outlast_recipes.dungeon.tiles import ELEMENT_BLOCK, ELEMENT_FLOOR, HEIGHT, MONSTER, STAIR, TILES, WALL, WIDTH

RARE = (MONSTER, ELEMENT_FLOOR, ELEMENT_BLOCK, STAIR)
"""Tiles of which the corpus has less than one in a hundred."""
_PADDED = 12
"""Columns of a room with one more of wall, so that both sides can be halved twice."""


@dataclass(frozen=True)
class VQConfig:
    """Sizes of a `RoomAutoencoder`.

    Attributes:
        latent_dim: numbers of each code's vector.
        num_embeddings: codes. FSQ knows the keys of `LEVELS`, and has the product of these levels.
        halvings: 2 for 4 x 3 codes a room, 1 for 8 x 6.
        width: channels at 8 x 6; there are 1.5 times as many at 4 x 3.
        quantizer: "ema" or "fsq".
        decay: of the moving averages of the codebook.
        commitment: weight of the distance between the encoder's output and its code.
        restart_after: batches in which a code may be unused, before it is put elsewhere.
        rare_weight: weight of a `RARE` tile in the loss.

    Raises:
        ValueError: `quantizer="fsq"` with another `num_embeddings`.
    """

    latent_dim: int = 64
    num_embeddings: int = 512
    halvings: Literal[1, 2] = 2
    width: int = 64
    quantizer: Literal["ema", "fsq"] = "ema"
    decay: float = 0.99
    commitment: float = 0.25
    restart_after: int = 100
    rare_weight: float = 5.0

    def __post_init__(self) -> None:
        """Refuse sizes for which FSQ has no levels."""
        if self.quantizer == "fsq" and self.num_embeddings not in LEVELS:
            known = ", ".join(map(str, LEVELS))
            raise ValueError(f"num_embeddings is {self.num_embeddings}; FSQ has {known}. Choose one, or quantizer ema.")

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return math.prod(LEVELS[self.num_embeddings]) if self.quantizer == "fsq" else self.num_embeddings

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a room's codes."""
        return HEIGHT >> self.halvings, _PADDED >> self.halvings


class RoomAutoencoder(nn.Module):
    """Rooms to codes and back. It reads the doors and stairs of a condition, not the neighbours.

    In training mode, `loss` also moves the codebook; what it needs for that are buffers, so a state that is loaded goes
    on as it was. Several processes would each move their own: train it in one.
    """

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        wide, deep = config.width, config.width * 3 // 2
        inner = deep if config.halvings == 2 else wide
        # Two channels more than tiles: the place of each tile (CoordConv, Liu et al. 2018, arXiv:1807.03247).
        self.stem = nn.Conv2d(len(TILES) + 2, wide, 4, 2, 1)
        self.encoder = nn.ModuleList([_Block(wide)])
        self.decoder = nn.ModuleList([_Block(wide)])
        if config.halvings == 2:
            self.encoder.extend([nn.Conv2d(wide, deep, 4, 2, 1), _Block(deep)])
            self.decoder = nn.ModuleList([_Block(deep), nn.ConvTranspose2d(deep, wide, 4, 2, 1), _Block(wide)])
        self.to_latent = nn.Conv2d(inner, config.latent_dim, 1)
        self.from_latent = nn.Conv2d(config.latent_dim, inner, 1)
        self.head = nn.ConvTranspose2d(wide, len(TILES), 4, 2, 1)
        self.quantizer = (
            Rounding(config.latent_dim, LEVELS[config.num_embeddings])
            if config.quantizer == "fsq"
            else Codebook(config.latent_dim, config.num_embeddings, config.decay, config.restart_after)
        )
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, _PADDED), indexing="ij")
        self.register_buffer("places", torch.stack([rows, columns]), persistent=False)
        weights = torch.ones(len(TILES))
        weights[list(RARE)] = config.rare_weight
        self.register_buffer("weights", weights, persistent=False)

    def encode(self, rooms: Tensor, conditions: Tensor) -> Tensor:
        """The codes (N, h, w), int64, of rooms (N, 16, 11), int64, with conditions (N, ENCODED)."""
        codes: Tensor = self.quantizer.codes(self._encoded(rooms, conditions))
        return codes

    def decode(self, codes: Tensor, conditions: Tensor) -> Tensor:
        """The logits (N, 10, 16, 11) of the tiles of codes (N, h, w) with conditions (N, ENCODED)."""
        return self.decode_latents(self.embed(codes), conditions)

    def embed(self, codes: Tensor) -> Tensor:
        """The vectors (N, latent_dim, h, w) of codes (N, h, w)."""
        vectors: Tensor = self.quantizer.vectors(codes).movedim(-1, 1)
        return vectors

    def nearest_codes(self, latents: Tensor) -> Tensor:
        """The codes (N, h, w) that are nearest to vectors (N, latent_dim, h, w)."""
        codes: Tensor = self.quantizer.nearest(latents)
        return codes

    def decode_latents(self, latents: Tensor, conditions: Tensor) -> Tensor:
        """The logits (N, 10, 16, 11) of the tiles of vectors (N, latent_dim, h, w)."""
        x = self.from_latent(latents)
        for layer in self.decoder:
            x = layer(x, conditions[:, :OWN]) if isinstance(layer, _Block) else layer(x)
        logits: Tensor = self.head(F.silu(x))[..., :WIDTH]
        return logits

    def loss(
        self, rooms: Tensor, conditions: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and figures of the batch.

        Args:
            rooms: (N, 16, 11) int64.
            conditions: (N, ENCODED).
            generator: on the CPU, for the codes that are put elsewhere; None for torch's global one.

        Returns:
            The loss, and without gradients: `reconstruction` (weighted cross-entropy, nats a tile), `commitment`,
            `accuracy` (share of tiles that are right), `balanced_accuracy` (mean over the tiles that occur), and
            `perplexity` of the codes (1 to the number of codes).
        """
        latents = self._encoded(rooms, conditions)
        quantized, codes, commitment = self.quantizer(latents, generator)
        logits = self.decode_latents(quantized, conditions)
        reconstruction = tile_losses(logits, rooms, self.weights).mean()
        right, found = tile_counts(logits.detach(), rooms)
        shares = torch.bincount(codes.flatten(), minlength=self.config.codes) / codes.numel()
        return reconstruction + self.config.commitment * commitment, {
            "reconstruction": reconstruction.detach(),
            "commitment": commitment.detach(),
            "accuracy": right.sum() / found.sum(),
            "balanced_accuracy": balanced_accuracy(right, found),
            "perplexity": torch.exp(torch.special.entr(shares).sum()),
        }

    def _encoded(self, rooms: Tensor, conditions: Tensor) -> Tensor:
        padded = F.pad(rooms, (0, _PADDED - WIDTH), value=WALL)
        tiles = F.one_hot(padded, len(TILES)).movedim(-1, 1).to(self.places.dtype)
        x = self.stem(torch.cat([tiles, self.places.expand(len(rooms), -1, -1, -1)], 1))
        for layer in self.encoder:
            x = layer(x, conditions[:, :OWN]) if isinstance(layer, _Block) else layer(F.silu(x))
        latents: Tensor = self.to_latent(F.silu(x))
        return latents


def tile_losses(logits: Tensor, rooms: Tensor, weights: Tensor | None = None) -> Tensor:
    """The cross-entropy of each room, (N,), in nats a tile; the mean of its tiles, each times the weight of its kind.

    The weights are not divided by their sum, so a room's loss does not depend on the other rooms.
    """
    losses = F.cross_entropy(logits, rooms, reduction="none")
    if weights is not None:
        losses = losses * weights[rooms]
    return losses.mean((1, 2))


def tile_counts(logits: Tensor, rooms: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles of each kind are right, and how many there are: (10,) each. Those of batches can be added."""
    hits = rooms[logits.argmax(1) == rooms]
    return torch.bincount(hits, minlength=len(TILES)), torch.bincount(rooms.flatten(), minlength=len(TILES))


def balanced_accuracy(right: Tensor, found: Tensor) -> Tensor:
    """Mean share of the tiles of a kind that are right, over the kinds that occur."""
    return (right[found > 0] / found[found > 0]).mean()


class _Block(nn.Module):
    """A residual convolution, scaled and shifted by doors and stairs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.film = nn.Linear(OWN, 2 * width)
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.inner_norm = nn.GroupNorm(math.gcd(8, width), width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, asked: Tensor) -> Tensor:
        scale, shift = self.film(asked)[..., None, None].chunk(2, 1)
        inner = self.near(F.silu(self.norm(x) * (1 + scale) + shift))
        changed: Tensor = self.out(F.silu(self.inner_norm(inner)))
        return x + changed
