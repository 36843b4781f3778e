"""Rooms that fulfil conditions, drawn from a trained generator. Walls and doors are clamped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outlast_recipes.dungeon import masked
from outlast_recipes.dungeon.conditions import INSIDE, RoomCondition, encode, frames


class RoomSampler:
    """Draws rooms from a masked diffusion.

    Args:
        network: in evaluation mode.
        at_once: tiles of a room that are drawn in one step; more are faster, and agree less with each other.
        temperature: of the distribution of a tile.
        guidance: scale of classifier-free guidance; 1 for none.
    """

    def __init__(
        self,
        network: masked.MaskedDenoiser,
        *,
        at_once: int = 1,
        temperature: float = 1.0,
        guidance: float = 1.0,
    ) -> None:
        self._network = network
        self._at_once, self._temperature, self._guidance = at_once, temperature, guidance

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
            at_once=self._at_once,
            temperature=self._temperature,
            guidance=self._guidance,
        )
        rooms[:, *INSIDE] = inside.cpu().numpy()
        return rooms
