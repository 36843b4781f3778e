"""Rooms by absorbing-state discrete diffusion: tiles are masked, and a network learns to restore them.

With one tile a step it is an any-order autoregressive model (Hoogeboom et al. 2022, Autoregressive Diffusion Models,
arXiv:2110.02037), whose loss is the continuous-time one of masked diffusion (Sahoo et al. 2024, arXiv:2406.07524).
Only the 12 x 7 tiles within the wall are modelled: in every room of the corpus, walls and doors follow from the doors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outlast_recipes.dungeon.conditions import ENCODED, INSIDE_SHAPE, UNKNOWN
from outlast_recipes.dungeon.tiles import TILES

CELLS = INSIDE_SHAPE[0] * INSIDE_SHAPE[1]
_ROOMS_AT_ONCE = 32  # what the network holds of them fits the cache of a core


class _Block(nn.Module):
    """A residual convolution, scaled and shifted by the condition; then what rows, columns and mirrored places have.

    Rooms are symmetric more often than not, and a convolution of few layers does not reach from one side to the other.
    """

    def __init__(self, width: int, dropout: float, dilation: int) -> None:
        super().__init__()
        self.film = nn.Linear(width, 2 * width)
        self.norm = nn.GroupNorm(1, width)
        self.near = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.inner_norm = nn.GroupNorm(1, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv2d(width, width, 1)
        self.far_norm = nn.GroupNorm(1, width)
        self.far = nn.Conv2d(6 * width, width, 1)
        for layer in (self.film, self.out, self.far):  # a block begins as the identity
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
        inner = self.near(F.silu(self.norm(x) * (1 + scale) + shift))
        x = x + self.out(self.dropout(F.silu(self.inner_norm(inner))))
        return x + self._far(self.far_norm(x))

    def _far(self, y: Tensor) -> Tensor:
        """`far` of the means of columns, of rows and of all, and of the three mirror images, in this order.

        Means are multiplied before they are spread over the tiles, and mirror images after it: a third less work than
        one convolution of all six, in which most numbers would occur many times.
        """
        weights = self.far.weight[..., 0, 0].chunk(6, 1)
        columns, rows = y.mean(2), y.mean(3)
        everywhere = F.linear(columns.mean(2), weights[2], self.far.bias)[..., None]
        means = (weights[0] @ columns + everywhere)[:, :, None] + (weights[1] @ rows)[..., None]
        upright, across, both = F.conv2d(y, torch.cat(weights[3:])[..., None, None]).chunk(3, 1)
        return means + upright.flip(2) + across.flip(3) + both.flip((2, 3))


class MaskedDenoiser(nn.Module):
    """A convolutional network over the tiles within the wall.

    Args:
        width: channels.
        layers: residual blocks; every second one has a dilation of 2.
        dropout: rate.
    """

    def __init__(self, width: int = 48, layers: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.tile = nn.Embedding(len(TILES) + 1, width)
        self.place = nn.Parameter(0.3 * torch.randn(width, *INSIDE_SHAPE))
        self.condition = nn.Sequential(nn.Linear(ENCODED + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(_Block(width, dropout, 1 + number % 2) for number in range(layers))
        self.norm = nn.GroupNorm(1, width)
        self.head = nn.Conv2d(width, len(TILES), 1)

    def forward(self, tiles: Tensor, condition: Tensor) -> Tensor:
        """The logits of every tile.

        Args:
            tiles: (B, 12, 7) int64, `UNKNOWN` where a tile is masked.
            condition: (B, ENCODED).

        Returns:
            (B, 12, 7, 10).
        """
        masked = (tiles == UNKNOWN).float().mean((1, 2))[:, None]
        about = self.condition(torch.cat([condition, masked], 1))
        x = (self.tile(tiles).movedim(-1, 1) + self.place).contiguous()
        for block in self.blocks:
            x = block(x, about)
        logits: Tensor = self.head(F.silu(self.norm(x))).movedim(1, -1)
        return logits


def mask(tiles: Tensor, kept: Tensor, order: Tensor) -> Tensor:
    """Tiles of which some are masked.

    Args:
        tiles: (B, 12, 7) int64.
        kept: (B,) number of tiles that stay, below 84.
        order: (B, 84) random numbers; the tiles with the smallest ones stay.
    """
    stay = order.argsort(1).argsort(1) < kept[:, None]
    return torch.where(stay.view_as(tiles), tiles, UNKNOWN)


def masked_loss(logits: Tensor, tiles: Tensor, given: Tensor) -> Tensor:
    """The mean negative log-likelihood of the masked tiles of each room: (B,), in nats a tile.

    Its expectation over a uniform number of kept tiles is a bound of the negative log-likelihood of a tile.
    """
    losses = F.cross_entropy(logits.movedim(-1, 1), tiles, reduction="none")
    hidden = given == UNKNOWN
    return (losses * hidden).sum((1, 2)) / hidden.sum((1, 2))


@torch.no_grad()
def sample(
    network: MaskedDenoiser,
    condition: Tensor,
    chance: torch.Generator,
    *,
    entropy: float = 0.0,
    at_once: int = CELLS,
    temperature: float = 1.0,
    guidance: float = 1.0,
) -> Tensor:
    """Draw the tiles within the wall, in a random order of its own for each room.

    Tiles that are drawn in one step do not see each other. How much that may cost is bounded by their entropies: as
    many of the next ones are drawn as have `entropy` together, the most uncertain one not counted. What a network is
    sure of takes no step of its own. The bound is that of Ben-Hamu et al. 2025, Accelerated Sampling from Masked
    Diffusion Models via Entropy Bounded Unmasking, arXiv:2505.24857, who draw the most certain tiles first.

    Args:
        network: in evaluation mode.
        condition: (N, ENCODED).
        chance: on the CPU, so that every device draws the same numbers. The n-th room has the same ones for any N.
        entropy: bound of a step, in nats; 0 draws the tiles one by one.
        at_once: tiles of a room that are drawn in one step at most.
        temperature: of the distribution of a tile.
        guidance: scale of classifier-free guidance; 1 for none.

    Returns:
        (N, 12, 7) int64.
    """
    found = []
    for asked in condition.split(_ROOMS_AT_ONCE):
        numbers = torch.rand(len(asked), CELLS, 1 + len(TILES), generator=chance, dtype=torch.float64)
        order = numbers[..., 0].argsort(1).to(condition.device)
        noise = -(-numbers[..., 1:].clamp_min(1e-12).log()).log()  # Gumbel's: the largest sum with it is a draw
        logits = _Guided(network, temperature, guidance)
        found.append(_sampled(logits, asked, order, noise.to(condition.device), entropy, at_once))
    return (
        torch.cat(found).view(-1, *INSIDE_SHAPE) if found else condition.new_empty(0, *INSIDE_SHAPE, dtype=torch.int64)
    )


class _Guided:
    """Logarithms of the probabilities of tiles: (N, 84, 10) of tiles (N, 84) and conditions."""

    def __init__(self, network: MaskedDenoiser, temperature: float, guidance: float) -> None:
        self._network, self._temperature, self._guidance = network, temperature, guidance

    def __call__(self, tiles: Tensor, condition: Tensor) -> Tensor:
        given = tiles.view(-1, *INSIDE_SHAPE)
        logits = self._network(given, condition)
        if self._guidance != 1.0:
            free = self._network(given, torch.zeros_like(condition))
            logits = free + self._guidance * (logits - free)
        return (logits.flatten(1, 2) / self._temperature).log_softmax(-1)


def _sampled(network: _Guided, condition: Tensor, order: Tensor, noise: Tensor, entropy: float, at_once: int) -> Tensor:
    """Tiles (N, 84). `order`: (N, 84) places; `noise`: (N, 84, 10). Rooms that are done leave the batch."""
    tiles = torch.full_like(order, UNKNOWN)
    rank = order.argsort(1)
    drawn = torch.zeros_like(order[:, 0])  # how many tiles of each room, which are the first ones of its order
    open_rooms = torch.arange(len(order), device=order.device)
    while len(open_rooms):
        chances = network(tiles[open_rooms], condition[open_rooms])
        begin = drawn[open_rooms, None]
        uncertain = -(chances.exp() * chances).nan_to_num().sum(-1).gather(1, order[open_rooms])
        number = torch.arange(CELLS, device=order.device).expand_as(uncertain)
        uncertain = uncertain.where(number >= begin, 0)
        cost = uncertain.cumsum(1) - uncertain.cummax(1).values
        near = (cost <= entropy) & (number < begin + at_once) & (number >= begin)
        count = near.sum(1).clamp_min(1)  # costs do not fall along the order, so these are the next ones
        place = rank[open_rooms]
        now = (place >= begin) & (place < begin + count[:, None])
        chosen = (chances.double() + noise[open_rooms]).argmax(-1)
        tiles[open_rooms] = chosen.where(now, tiles[open_rooms])
        drawn[open_rooms] += count
        open_rooms = open_rooms[drawn[open_rooms] < CELLS]
    return tiles
