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
        y = self.far_norm(x)
        means = [y.mean(dims, keepdim=True).expand_as(y) for dims in ((2,), (3,), (2, 3))]
        mirrored = [y.flip(dims) for dims in ((2,), (3,), (2, 3))]
        moved: Tensor = self.far(torch.cat([*means, *mirrored], 1))
        return x + moved


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
        x = self.tile(tiles).movedim(-1, 1) + self.place
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
    at_once: int = 1,
    temperature: float = 1.0,
    guidance: float = 1.0,
) -> Tensor:
    """Draw the tiles within the wall, in a random order of its own for each room.

    Args:
        network: in evaluation mode.
        condition: (N, ENCODED).
        chance: on the CPU, so that every device draws the same numbers.
        at_once: tiles of a room that are drawn in one step, independently of each other.
        temperature: of the distribution of a tile.
        guidance: scale of classifier-free guidance; 1 for none.

    Returns:
        (N, 12, 7) int64.
    """
    device, count = condition.device, len(condition)
    tiles = torch.full((count, CELLS), UNKNOWN, device=device)
    order = torch.rand(count, CELLS, generator=chance).argsort(1).to(device)
    for places in order.split(at_once, 1):
        given = tiles.view(count, *INSIDE_SHAPE)
        logits = network(given, condition)
        if guidance != 1.0:
            free = network(given, torch.zeros_like(condition))
            logits = free + guidance * (logits - free)
        chosen = logits.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, len(TILES)))
        noise = torch.rand(chosen.shape, generator=chance, dtype=torch.float64).to(device)
        drawn = (chosen.double() / temperature - (-noise.clamp_min(1e-12).log()).log()).argmax(-1)
        tiles.scatter_(1, places, drawn)
    return tiles.view(count, *INSIDE_SHAPE)
