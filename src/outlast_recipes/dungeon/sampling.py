"""Rooms that fulfil conditions, drawn from a trained generator. Walls and doors are clamped."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outlast_recipes.dungeon import masked
from outlast_recipes.dungeon.conditions import INSIDE, RoomCondition, encode, frames
from outlast_recipes.dungeon.corpus import room_digest
from outlast_recipes.dungeon.generate import Sampler
from outlast_recipes.dungeon.latent import LatentDenoiser
from outlast_recipes.dungeon.tiles import DOOR, WALL, Room, has_stairs
from outlast_recipes.dungeon.validity import is_valid
from outlast_recipes.dungeon.vqvae import RoomAutoencoder


class RedrawingSampler:
    """Draws a room again when it is not valid, has not the stair that was asked for, or is known.

    Args:
        once: draws the rooms.
        redraws: times that a room is drawn again at most. The last one is taken as it is.
        known: `corpus.room_digest` of rooms that are not to be drawn, such as those of training.

    Attributes:
        once: what draws each room once.
        drawn: rooms that were drawn so far.
    """

    def __init__(self, once: Sampler, redraws: int, known: Collection[str] = ()) -> None:
        self.once, self._redraws, self._known = once, redraws, frozenset(known)
        self.drawn = 0

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> NDArray[np.uint8]:
        """A room for each condition: (N, 16, 11). The same conditions and seed give the same rooms."""
        rooms = self.once.sample(conditions, seed)
        self.drawn += len(rooms)
        for number in range(self._redraws):
            wrong = [place for place, room in enumerate(rooms) if not self._wanted(room, conditions[place])]
            if not wrong:
                break
            rooms[wrong] = self.once.sample([conditions[place] for place in wrong], sample_seed(seed, number))
            self.drawn += len(wrong)
        return rooms

    def _wanted(self, room: Room, asked: RoomCondition) -> bool:
        return fulfils(room, asked) and not (self._known and room_digest(room) in self._known)


def fulfils(room: Room, asked: RoomCondition) -> bool:
    """Whether a room with the doors that were asked for is valid, and has a stair exactly if one was asked for."""
    return has_stairs(room) == asked.stairs and is_valid(room)


class RoomSampler:
    """Draws rooms from a masked diffusion.

    Args:
        network: in evaluation mode.
        entropy: nats of the tiles that are drawn in one step (`masked.sample`); more are faster, and tiles agree less
            with each other.
        at_once: tiles of a room that are drawn in one step at most.
        temperature: of the distribution of a tile.
        guidance: scale of classifier-free guidance; 1 for none.
    """

    def __init__(
        self,
        network: masked.MaskedDenoiser,
        *,
        entropy: float = 0.0,
        at_once: int = masked.CELLS,
        temperature: float = 1.0,
        guidance: float = 1.0,
    ) -> None:
        self._network, self._entropy, self._at_once = network, entropy, at_once
        self._temperature, self._guidance = temperature, guidance

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> NDArray[np.uint8]:
        """A room for each condition: (N, 16, 11). The same conditions and seed give the same rooms.

        Exactly the asked sides have doors. A stair is asked of the generator, but not clamped.
        """
        rooms = frames(conditions)
        if not len(rooms):
            return rooms
        chance = torch.Generator().manual_seed(seed)
        device = next(self._network.parameters()).device
        asked: Tensor = torch.from_numpy(encode(conditions)).to(device)
        inside = masked.sample(
            self._network,
            asked,
            chance,
            entropy=self._entropy,
            at_once=self._at_once,
            temperature=self._temperature,
            guidance=self._guidance,
        )
        rooms[:, *INSIDE] = inside.cpu().numpy()
        return rooms


class LatentSampler:
    """Draws rooms from a latent diffusion.

    Args:
        autoencoder: in evaluation mode.
        denoiser: likewise, on the same device.
        steps: of the sampling.
        guidance: scale of classifier-free guidance; 1 for none.
        at_once: rooms that are drawn together.
    """

    def __init__(
        self,
        autoencoder: RoomAutoencoder,
        denoiser: LatentDenoiser,
        *,
        steps: int = 50,
        guidance: float = 1.0,
        at_once: int = 256,
    ) -> None:
        self._autoencoder, self._denoiser = autoencoder, denoiser
        self._steps, self._guidance, self._at_once = steps, guidance, at_once

    @torch.no_grad()
    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> NDArray[np.uint8]:
        """A room for each condition: (N, 16, 11). The n-th room depends on `seed`, n and its own condition.

        Exactly the asked sides have doors, and there is no wall within the wall. A stair is asked of the denoiser, but
        not clamped.
        """
        rooms = frames(conditions)
        for start in range(0, len(rooms), self._at_once):
            part = slice(start, start + self._at_once)
            seeds = [sample_seed(seed, number) for number in range(len(rooms))[part]]
            asked = torch.from_numpy(encode(conditions[part])).to(self._denoiser.mean.device)
            latents = self._denoiser.ddim(asked, seeds, self._steps, self._guidance)
            logits = self._autoencoder.decode(self._autoencoder.nearest_codes(latents), asked)
            logits[:, [WALL, DOOR]] = -torch.inf
            rooms[part, *INSIDE] = logits[..., *INSIDE].argmax(1).cpu().numpy()
        return rooms


def sample_seed(seed: int, number: int) -> int:
    """The seed of the sample with a number, of the seed of all."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])
