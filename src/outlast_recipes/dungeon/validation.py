"""Losses on the validation rooms, of which the best checkpoint is chosen. The same noise and masks every time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from outlast_recipes.dungeon.conditions import INSIDE
from outlast_recipes.dungeon.latent import joint_loss
from outlast_recipes.dungeon.masked import CELLS, MaskedDenoiser, mask, masked_loss
from outlast_recipes.dungeon.networks import LatentGenerator
from outlast_recipes.dungeon.vqvae import RoomAutoencoder, balanced_accuracy, tile_counts, tile_losses

_REPEATS = 4
"""How often each room is seen, with other noise."""


def of_tiles(network: RoomAutoencoder, rooms: Tensor, asked: Tensor) -> dict[str, float]:
    """Cross-entropy of the reconstructed tiles, in nats, and how many are right."""
    logits = network.decode(network.encode(rooms, asked), asked)
    right, found = tile_counts(logits, rooms)
    return {
        "val_loss": float(tile_losses(logits, rooms).mean()),
        "val_accuracy": float(right.sum() / found.sum()),
        "val_balanced_accuracy": float(balanced_accuracy(right, found)),
    }


def of_latents(network: LatentGenerator, rooms: Tensor, asked: Tensor) -> dict[str, float]:
    """The loss of the denoiser."""
    latents = network.latents(rooms, asked)
    return _repeated(lambda chance: network.denoiser.loss(latents, asked, chance))


def of_both(network: LatentGenerator, rooms: Tensor, asked: Tensor) -> dict[str, float]:
    """The joint loss."""
    return _repeated(lambda chance: joint_loss(network.autoencoder, network.denoiser, rooms, asked, chance)[0])


def of_masked(network: MaskedDenoiser, rooms: Tensor, asked: Tensor) -> dict[str, float]:
    """The negative log-likelihood of a masked tile, in nats."""
    return _repeated(lambda chance: masked_loss_of(network, rooms, asked, chance))


def masked_loss_of(
    network: MaskedDenoiser, rooms: Tensor, asked: Tensor, chance: torch.Generator | None = None
) -> Tensor:
    """The mean loss of masked rooms, of each of which a uniform number of tiles stays.

    Args:
        network: of masked diffusion.
        rooms: (N, 16, 11).
        asked: (N, ENCODED).
        chance: on the CPU; None for torch's global generator.
    """
    tiles = rooms[:, *INSIDE]
    kept = torch.randint(CELLS, (len(tiles),), generator=chance).to(tiles.device)
    order = torch.rand(len(tiles), CELLS, generator=chance).to(tiles.device)
    given = mask(tiles, kept, order)
    return masked_loss(network(given, asked).float(), tiles, given).mean()


def _repeated(loss: Callable[[torch.Generator], Tensor]) -> dict[str, float]:
    chance = torch.Generator().manual_seed(0)
    return {"val_loss": sum(float(loss(chance)) for _ in range(_REPEATS)) / _REPEATS}
