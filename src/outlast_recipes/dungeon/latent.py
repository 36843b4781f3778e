"""Diffusion of the code vectors of rooms, on what is asked of a room.

The network predicts v (Salimans and Ho 2022, arXiv:2202.00512) under the cosine schedule of Nichol and Dhariwal (2021,
arXiv:2102.09672). The loss is weighted by the signal-to-noise ratio cut off at `min_snr` (Hang et al. 2023,
arXiv:2303.09556). Conditions are left out of some examples for classifier-free guidance (Ho and Salimans 2022,
arXiv:2207.12598), and samples are drawn by DDIM without noise (Song et al. 2021, arXiv:2010.02502).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outlast_recipes.dungeon.conditions import ENCODED
from outlast_recipes.dungeon.vqvae import RoomAutoencoder, tile_losses

_LARGEST_BETA = 0.999


@dataclass(frozen=True)
class LatentConfig:
    """Sizes of a `LatentDenoiser`.

    Attributes:
        latent_dim: numbers of each code's vector.
        grid: rows and columns of a room's codes, `VQConfig.grid`.
        num_timesteps: steps of the noise schedule.
        embedding_dim: length of the vector of time and condition.
        width: length of a token; there is one for each code.
        layers: of the transformer.
        heads: of attention.
        dropout: rate.
        condition_dropout: share of the examples that are learnt without their condition.
        min_snr: where the weight of the loss is cut off.
    """

    latent_dim: int = 64
    grid: tuple[int, int] = (4, 3)
    num_timesteps: int = 1000
    embedding_dim: int = 256
    width: int = 128
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    condition_dropout: float = 0.1
    min_snr: float = 5.0


class LatentDenoiser(nn.Module):
    """A transformer over the code vectors of a room.

    Latents go in and come out as the autoencoder has them. Inside they are standardised, by what `fit` measured.
    """

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        self.config = config
        width, embedding = config.width, config.embedding_dim
        self.inward = nn.Linear(config.latent_dim, width)
        self.place = nn.Parameter(0.1 * torch.randn(math.prod(config.grid), width))
        self.time = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.condition = nn.Sequential(nn.Linear(ENCODED, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = _zeroed(nn.Linear(embedding, 2 * width))
        self.outward = _zeroed(nn.Linear(width, config.latent_dim))
        self.register_buffer("mean", torch.zeros(config.latent_dim))
        self.register_buffer("deviation", torch.ones(config.latent_dim))
        signal, noise = cosine_schedule(config.num_timesteps)
        self.register_buffer("signal", signal, persistent=False)
        self.register_buffer("noise", noise, persistent=False)

    @torch.no_grad()
    def fit(self, latents: Tensor) -> None:
        """Measure mean and standard deviation of each number of latents (N, latent_dim, h, w). Call it before `loss`.

        A number that hardly varies counts as having a hundredth of the mean deviation, so its noise stays small.
        """
        flat = latents.movedim(1, -1).flatten(0, -2)
        deviation = flat.std(0)
        self.mean.copy_(flat.mean(0))
        self.deviation.copy_(deviation.clamp_min(max(float(deviation.mean()) / 100, 1e-6)))

    def forward(self, x: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        """v of standardised latents (N, latent_dim, h, w) at steps (N,) with conditions (N, ENCODED)."""
        about = F.silu(self.time(self._waves(time)) + self.condition(conditions))
        tokens = self.inward(x.flatten(2).movedim(1, -1)) + self.place
        for layer in self.layers:
            tokens = layer(tokens, about)
        scale, shift = self.modulation(about)[:, None].chunk(2, -1)
        v: Tensor = self.outward(self.norm(tokens) * (1 + scale) + shift).movedim(-1, 1)
        return v.view_as(x)

    def loss(self, latents: Tensor, conditions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The mean weighted squared error of v, a scalar.

        Args:
            latents: (N, latent_dim, h, w), without gradients.
            conditions: (N, ENCODED).
            generator: on the CPU, for steps, noise and left out conditions; None for torch's global one.
        """
        return self.denoised(latents, conditions, generator)[0]

    def denoised(
        self, latents: Tensor, conditions: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the latents as they are predicted (N, latent_dim, h, w), and the signal-to-noise ratios (N,)."""
        clean, number = self._standardised(latents), len(latents)
        time = torch.randint(self.config.num_timesteps, (number,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        kept = torch.rand(number, 1, generator=generator) >= self.config.condition_dropout
        time, kept = time.to(clean.device), kept.to(clean.device)
        signal, sigma = (table[time].view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        x = signal * clean + sigma * noise
        v = self(x, time, conditions * kept)
        ratio = (signal / sigma).square().flatten()
        # The weight min(SNR, g) of the error of x0, which is that of v divided by SNR + 1.
        weight = ratio.clamp_max(self.config.min_snr) / (ratio + 1)
        errors = (v - (signal * noise - sigma * clean)).square().mean((1, 2, 3))
        return (weight * errors).mean(), self._restored(signal * x - sigma * v), ratio

    @torch.no_grad()
    def ddim(self, conditions: Tensor, seeds: Sequence[int], steps: int = 50, guidance: float = 1.0) -> Tensor:
        """Draw latents (N, latent_dim, h, w).

        Args:
            conditions: (N, ENCODED).
            seeds: one for each sample, which depends on its own seed and condition and on no other sample.
            steps: of the sampling, 1 to `num_timesteps`, spread evenly and beginning with the last one.
            guidance: scale of classifier-free guidance; 1 for none.
        """
        shape = self.config.latent_dim, *self.config.grid
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x = torch.stack(drawn).to(conditions) if drawn else conditions.new_zeros(0, *shape)
        last = self.config.num_timesteps - 1
        times = torch.linspace(last, 0, steps).round().long().tolist()
        for now, after in zip(times, [*times[1:], None], strict=True):
            time = torch.full((len(x),), now, device=x.device)
            v = self(x, time, conditions)
            if guidance != 1.0:
                free = self(x, time, torch.zeros_like(conditions))
                v = free + guidance * (v - free)
            clean = self.signal[now] * x - self.noise[now] * v
            noise = self.noise[now] * x + self.signal[now] * v
            x = clean if after is None else self.signal[after] * clean + self.noise[after] * noise
        return self._restored(x)

    def _waves(self, time: Tensor) -> Tensor:
        """Sines and cosines of steps (N,): (N, embedding_dim)."""
        half = self.config.embedding_dim // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=time.device) / half)
        angles = time[:, None] * (1000 / self.config.num_timesteps) * rates
        return F.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, self.config.embedding_dim % 2))

    def _standardised(self, latents: Tensor) -> Tensor:
        return (latents - self.mean[:, None, None]) / self.deviation[:, None, None]

    def _restored(self, x: Tensor) -> Tensor:
        return x * self.deviation[:, None, None] + self.mean[:, None, None]


def cosine_schedule(steps: int) -> tuple[Tensor, Tensor]:
    """The shares of signal and noise of each step, (steps,) each; the sum of their squares is 1."""
    positions = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = torch.cos((positions + 0.008) / 1.008 * math.pi / 2).square()
    betas = (1 - kept[1:] / kept[:-1]).clamp_max(_LARGEST_BETA)
    power = (1 - betas).cumprod(0)
    return power.sqrt().float(), (1 - power).sqrt().float()


def joint_loss(
    autoencoder: RoomAutoencoder,
    denoiser: LatentDenoiser,
    rooms: Tensor,
    conditions: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Both losses, and that of the tiles which the decoder makes of denoised latents: a scalar, and figures.

    The decoder learns what the denoiser gives it, and the denoiser what changes tiles. A room counts by how much of it
    the noise leaves, SNR / (SNR + 1), because of pure noise no decoder can know it.

    Args:
        autoencoder, denoiser: both are trained; the latents are those of the codes, without gradients to the encoder.
        rooms: (N, 16, 11) int64.
        conditions: (N, ENCODED).
        generator: on the CPU, or None for torch's global one.

    Returns:
        The loss, and without gradients the figures of `RoomAutoencoder.loss`, `diffusion` and `tiles`.
    """
    loss, figures = autoencoder.loss(rooms, conditions, generator)
    with torch.no_grad():
        latents = autoencoder.embed(autoencoder.encode(rooms, conditions))
    diffusion, predicted, ratio = denoiser.denoised(latents, conditions, generator)
    made = tile_losses(autoencoder.decode_latents(predicted, conditions), rooms)
    tiles = (ratio / (ratio + 1) * made).mean()
    figures = {**figures, "diffusion": diffusion.detach(), "tiles": tiles.detach()}
    return loss + diffusion + tiles, figures


class _Layer(nn.Module):
    """Attention and a feed-forward network, scaled and shifted by time and condition.

    After DiT (Peebles and Xie 2022, arXiv:2212.09748): a layer begins as the identity.
    """

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.modulation = _zeroed(nn.Linear(config.embedding_dim, 6 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.together = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.alone = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, about: Tensor) -> Tensor:
        scale, shift, gate, scale_alone, shift_alone, gate_alone = self.modulation(about)[:, None].chunk(6, -1)
        parts = self.together(self.norm(x) * (1 + scale) + shift).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).movedim(-2, 1) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value).movedim(1, -2).flatten(-2)
        x = x + gate * self.attended(mixed)
        changed: Tensor = self.alone(self.norm(x) * (1 + scale_alone) + shift_alone)
        return x + gate_alone * changed


def _zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
