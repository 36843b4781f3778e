"""What of keypoints depends little on whose they are: directions of bones, angles between
them, and places in the frame of the palm."""

from __future__ import annotations

import torch
from torch import Tensor

OF_POSE = (0, *(0,) * 10, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12)
OF_HAND = (0, *(joint - 1 if joint % 4 != 1 else 0 for joint in range(1, 21)))
"""Keypoint -> where its bone begins: the joint before in a finger, the wrist for its first one."""
MIDDLE = 9  # first joint of the middle finger: the palm points there from the wrist
_SHORT = 0.02  # widths of the shoulders: the direction of a bone that is not much longer says little


def directions(points: Tensor, seen: Tensor, begins: tuple[int, ...]) -> Tensor:
    """The direction of the bone that ends at each keypoint: about 1 long, less for a bone that points at the camera.

    Args:
        points: (B, T, V, 2), in units of the body.
        seen: (B, T, V).
        begins: for each keypoint, where its bone begins.

    Returns:
        (B, T, V, 2), 0 where one of the two ends was not seen.
    """
    both = (seen & seen[:, :, list(begins)])[..., None]
    bones = torch.where(both, points - points[:, :, list(begins)], 0.0)
    return bones / (bones.square().sum(-1, keepdim=True) + _SHORT**2).sqrt()


def bends(directions: Tensor, begins: tuple[int, ...]) -> Tensor:
    """The angle between each bone and the one before it, which does not depend on how the limb is held.

    Args:
        directions: (B, T, V, 2) of the bones.
        begins: for each keypoint, where its bone begins.

    Returns:
        (B, T, V, 2): cosine and sine, 0 where one of the two bones is not known.
    """
    before = directions[:, :, list(begins)]
    cosine = (directions * before).sum(-1)
    sine = directions[..., 0] * before[..., 1] - directions[..., 1] * before[..., 0]
    return torch.stack([cosine, sine], -1)


def in_palm(hand: Tensor, seen: Tensor) -> Tensor:
    """The places of a hand's keypoints when the palm points upwards, so that they do not depend on how it is held.

    Args:
        hand: (B, T, 21, 2), from the wrist, in units of its size.
        seen: (B, T, 21).

    Returns:
        (B, T, 21, 2): along the palm, and across; 0 where the point, the wrist or the palm's end was not seen.
    """
    known = (seen & seen[:, :, :1] & seen[:, :, MIDDLE : MIDDLE + 1])[..., None]
    palm = hand[:, :, MIDDLE : MIDDLE + 1]
    palm = palm / (palm.square().sum(-1, keepdim=True) + 1e-4).sqrt()
    along = (hand * palm).sum(-1)
    across = hand[..., 0] * palm[..., 1] - hand[..., 1] * palm[..., 0]
    return torch.where(known, torch.stack([along, across], -1), 0.0)
