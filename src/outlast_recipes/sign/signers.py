"""Views of clips as of another signer: how fast a sign begins, wide shoulders, hands elsewhere, and bent fingers.

Each view is a function of (seed, epoch, clip), as those of `augment`, and takes its numbers from a row of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from outlast_recipes.common.chance import Chance
from outlast_recipes.common.interpolation import interpolated
from outlast_recipes.sign.augment import Strength, turned
from outlast_recipes.sign.batch import LEFT, RIGHT
from outlast_recipes.sign.normalise import SHOULDERS

NUMBERS = 32  # of chance that a view takes: 2 for the time, 1 for the shoulders, 4 for the places, 22 for the fingers
FINGERS = 5
JOINTS = 4  # of a finger
_WITH_POSE = ((15, 17, 19, 21, *range(25, 46)), (16, 18, 20, 22, *range(46, 67)))
"""The left and the right hand with their points of the pose."""


def of_another(
    points: Tensor,
    seen: Tensor,
    lengths: Tensor,
    strength: Strength,
    names: Sequence[str],
    seed: int,
    epoch: int,
) -> tuple[Tensor, Tensor]:
    """Change timing, shoulders, and the places and shapes of the hands of clips.

    Args:
        points: (B, T, 78, 2) in units of the body, the origin between the shoulders.
        seen: (B, T, 78).
        lengths: (B,) frames.
        strength: how far.
        names: of the clips.
        seed, epoch: of the view.

    Returns:
        (B, T, 78, 2), 0 where nothing is seen, and (B, T, 78).
    """
    if not any((strength.timing, strength.shoulders, strength.reach, strength.fingers)):
        return points, seen
    chance = Chance.of([f"{name}/signer" for name in names], seed=seed, view=epoch, width=NUMBERS).to(points.device)
    points, seen = timed(points, seen, lengths, strength.timing, chance)
    factors = 1 + strength.shoulders * (2 * chance.take() - 1)
    wide = points[:, :, list(SHOULDERS)]
    points = points / factors[:, :, None, None]  # the unit is the width of the shoulders, which stays 1
    points[:, :, list(SHOULDERS)] = wide
    offsets = strength.reach * (2 * chance.take(4) - 1)
    for side, moved in enumerate(_WITH_POSE):
        points[:, :, list(moved)] += offsets[:, None, None, 2 * side : 2 * side + 2]
    angles = math.radians(strength.fingers) * (2 * chance.take(22) - 1)
    for side, hand in enumerate((LEFT, RIGHT)):
        points[:, :, hand] = bent(points[:, :, hand], angles[:, 11 * side : 11 * side + 11])
    return torch.where(seen[..., None], points, 0.0), seen


def timed(points: Tensor, seen: Tensor, lengths: Tensor, most: float, chance: Chance) -> tuple[Tensor, Tensor]:
    """Begin earlier or later, and be faster in the middle or at the ends; the length stays.

    A share x of the clip becomes y = x ** (2 ** a), then y + b sin(2 pi y) / (2 pi), with |a| <= `most` and
    |b| <= `most` / 2: it rises for every `most` below 2.
    """
    begin, middle = (most * (2 * chance.take() - 1) for _ in range(2))
    if not most:
        return points, seen
    last = (lengths - 1).clamp(min=1)[:, None].to(points)
    at = torch.arange(points.shape[1], device=points.device)[None]
    share = (at / last).clamp(max=1) ** (2.0**begin)
    place = share + middle / 2 * (2 * math.pi * share).sin() / (2 * math.pi)
    points, seen = interpolated(points, seen, place * last)
    within = (at < lengths[:, None].to(at))[..., None]
    return points * within[..., None], seen & within


def bent(hand: Tensor, angles: Tensor) -> Tensor:
    """Rotate each finger at its first and second joint, and the whole hand at its wrist.

    Args:
        hand: (B, T, 21, 2), the wrist first, then four joints of each finger.
        angles: (B, 11) radians: five at the first joints, five at the second, one at the wrist.
    """
    wrist, fingers = hand[:, :, :1], hand[:, :, 1:].unflatten(2, (FINGERS, JOINTS))
    first, others = fingers[..., :1, :], fingers[..., 1:, :]
    others = torch.einsum("btfvi,bfij->btfvj", others - first, turned(angles[:, :FINGERS])) + first
    second, tips = others[..., :1, :], others[..., 1:, :]
    tips = torch.einsum("btfvi,bfij->btfvj", tips - second, turned(angles[:, FINGERS : 2 * FINGERS])) + second
    joined = torch.cat([first, second, tips], -2).flatten(2, 3)
    return torch.cat([wrist, torch.einsum("btvi,bij->btvj", joined - wrist, turned(angles[:, -1])) + wrist], 2)
