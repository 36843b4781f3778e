"""Codes of vectors: a codebook that follows them, or numbers that are rounded.

Vectors are (N, D, h, w), codes (N, h, w), int64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = {64: (8, 8), 128: (8, 5, 3), 256: (8, 6, 5), 512: (8, 8, 8), 1024: (8, 5, 5, 5)}
"""Number of codes that is asked of FSQ -> levels of its numbers. Their product is the nearest one that is usual."""


class Codebook(nn.Module):
    """Vectors that follow the encoder by exponential moving averages (arXiv:1711.00937, appendix A.1).

    Args:
        size: of a vector.
        number: of codes.
        decay: of the averages.
        restart_after: batches in which a code may be unused, before it becomes a random vector of the batch.
    """

    def __init__(self, size: int, number: int, decay: float, restart_after: int) -> None:
        super().__init__()
        self._decay, self._restart_after = decay, restart_after
        self.register_buffer("book", torch.randn(number, size))
        self.register_buffer("counts", torch.zeros(number))
        self.register_buffer("sums", torch.zeros(number, size))
        # The first batch finds every code unused for long enough, so all that it does not use are put where it is.
        self.register_buffer("unused", torch.full((number,), restart_after))

    def forward(self, latents: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """The vectors of the codes, with the gradients of `latents`, the codes, and the distance of both.

        In training mode, the codebook moves after that. `generator` is on the CPU, or None for torch's global one.
        """
        codes = self.nearest(latents)
        quantized = self.vectors(codes).movedim(-1, 1)
        if self.training:
            self._follow(latents.detach().movedim(1, -1).flatten(0, -2).float(), codes.flatten(), generator)
        commitment = F.mse_loss(latents, quantized)
        return latents + (quantized - latents).detach(), codes, commitment

    def codes(self, latents: Tensor) -> Tensor:
        """The codes (N, h, w) of the encoder's outputs (N, D, h, w)."""
        return self.nearest(latents)

    def nearest(self, latents: Tensor) -> Tensor:
        """The codes (N, h, w) whose vectors are nearest to `latents` (N, D, h, w)."""
        flat = latents.movedim(1, -1)
        distances = self.book.square().sum(1) - 2 * flat.to(self.book.dtype) @ self.book.t()
        return distances.argmin(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """(..., D) of codes (...)."""
        return self.book[codes]

    @torch.no_grad()
    def _follow(self, latents: Tensor, codes: Tensor, generator: torch.Generator | None) -> None:
        """Move the codes to the mean of their vectors (M, D), and those unused for long to one of them."""
        found = torch.bincount(codes, minlength=len(self.book)).to(self.counts.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, latents)
        self.counts.lerp_(found, 1 - self._decay)
        self.sums.lerp_(sums, 1 - self._decay)
        self.unused.add_(1).masked_fill_(found > 0, 0)
        dead = (self.unused > self._restart_after).nonzero()[:, 0]
        if len(dead):
            chosen = torch.randint(len(latents), (len(dead),), generator=generator)
            self.sums[dead] = latents[chosen.to(latents.device)]
            self.counts[dead] = 1
            self.unused[dead] = 0
        used = self.counts > 1e-6
        self.book[used] = self.sums[used] / self.counts[used, None]


class Rounding(nn.Module):
    """Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505): a few numbers, each rounded to a few levels.

    There is no codebook to learn, and none that could collapse. A code's vector is what a linear layer makes of its
    numbers.

    Args:
        size: of a vector.
        levels: of each number.
    """

    def __init__(self, size: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        base = torch.tensor([math.prod(levels[:place]) for place in range(len(levels))])
        self.register_buffer("base", base, persistent=False)
        # Without the norm, the outputs of a new encoder are so small that they round to few levels.
        self.inward = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, len(levels)))
        nn.init.orthogonal_(self.inward[1].weight)
        self.outward = nn.Linear(len(levels), size)

    def forward(self, latents: Tensor, _generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """The vectors of the codes, the codes, and no distance: the encoder's outputs need not stay near."""
        bounded = self._bounded(latents)
        rounded = bounded + (bounded.round() - bounded).detach()
        quantized = self.outward(self._scaled(rounded)).movedim(-1, 1)
        return quantized, self._numbered(rounded), latents.new_zeros(())

    def codes(self, latents: Tensor) -> Tensor:
        """The codes (N, h, w) of the encoder's outputs (N, D, h, w)."""
        return self._numbered(self._bounded(latents))

    def nearest(self, latents: Tensor) -> Tensor:
        """The codes (N, h, w) whose vectors are nearest to `latents` (N, D, h, w)."""
        distances = torch.cdist(latents.movedim(1, -1).flatten(1, 2), self._all()[None].expand(len(latents), -1, -1))
        return distances.argmin(-1).unflatten(1, latents.shape[2:])

    def vectors(self, codes: Tensor) -> Tensor:
        """(..., D) of codes (...)."""
        return self._all()[codes]

    def _all(self) -> Tensor:
        """The vectors of all codes: (codes, D)."""
        numbers = torch.arange(int(self.levels.prod()), device=self.levels.device)
        digits = numbers[:, None] // self.base % self.levels
        table: Tensor = self.outward(self._scaled(digits - self.levels // 2))
        return table

    def _bounded(self, latents: Tensor) -> Tensor:
        """Numbers between the lowest and the highest level, (..., levels)."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = 0.5 * (self.levels % 2 == 0)
        shift = torch.atanh(offset / half)
        bounded: Tensor = torch.tanh(self.inward(latents.movedim(1, -1)) + shift) * half - offset
        return bounded

    def _scaled(self, rounded: Tensor) -> Tensor:
        """Levels as numbers of -1 to 1."""
        return rounded / (self.levels // 2)

    def _numbered(self, rounded: Tensor) -> Tensor:
        return ((rounded.round().long() + self.levels // 2) * self.base).sum(-1)
