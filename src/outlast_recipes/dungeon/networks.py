"""The networks of a config."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import outlast
from outlast_recipes.dungeon.config import Config
from outlast_recipes.dungeon.latent import LatentConfig, LatentDenoiser
from outlast_recipes.dungeon.masked import MaskedDenoiser
from outlast_recipes.dungeon.vqvae import RoomAutoencoder, VQConfig


class LatentGenerator(nn.Module):
    """An autoencoder, and a denoiser of its latents: all that drawing a room needs.

    Attributes:
        autoencoder: of rooms.
        denoiser: of the vectors of its codes.
    """

    def __init__(self, autoencoder: RoomAutoencoder, denoiser: LatentDenoiser) -> None:
        super().__init__()
        self.autoencoder, self.denoiser = autoencoder, denoiser

    @torch.no_grad()
    def latents(self, rooms: Tensor, conditions: Tensor) -> Tensor:
        """The vectors (N, latent_dim, h, w) of the codes of rooms (N, 16, 11) with conditions (N, ENCODED)."""
        return self.autoencoder.embed(self.autoencoder.encode(rooms, conditions))


def autoencoder_of(config: Config) -> RoomAutoencoder:
    """Raises outlast.ConfigError when no quantizer has the codes."""
    return RoomAutoencoder(_vq(config))


def generator_of(config: Config) -> LatentGenerator:
    """Raises outlast.ConfigError when no quantizer has the codes, or no head its share of a token."""
    vq, values = _vq(config), config.diffusion
    if values.width % values.heads:
        raise outlast.ConfigError(
            f"diffusion.width is {values.width}, which diffusion.heads {values.heads} does not divide; expected a "
            f"multiple, such as {values.heads * 32}."
        )
    sizes = LatentConfig(
        latent_dim=config.latent_dim,
        grid=vq.grid,
        num_timesteps=config.num_timesteps,
        embedding_dim=config.embedding_dim,
        width=values.width,
        layers=values.layers,
        heads=values.heads,
        dropout=values.dropout,
        condition_dropout=config.condition_dropout,
        min_snr=values.min_snr,
    )
    return LatentGenerator(RoomAutoencoder(vq), LatentDenoiser(sizes))


def masked_of(config: Config) -> MaskedDenoiser:
    return MaskedDenoiser(config.masked.width, config.masked.layers, config.masked.dropout)


def _vq(config: Config) -> VQConfig:
    values = config.vq
    try:
        return VQConfig(
            latent_dim=config.latent_dim,
            num_embeddings=config.num_embeddings,
            halvings=1 if values.halvings == 1 else 2,
            width=values.width,
            quantizer=values.quantizer,
            decay=values.decay,
            commitment=values.commitment,
            restart_after=values.restart_after,
            rare_weight=values.rare_weight,
        )
    except ValueError as error:  # FSQ has levels for some numbers of codes only
        raise outlast.ConfigError(str(error)) from error
