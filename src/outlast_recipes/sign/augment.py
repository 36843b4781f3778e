"""Views of clips for training: changes that the meaning of a sign survives.

A view is a function of (seed, epoch, clip), as in `skeleton`: its numbers come from a counter-based generator, so the
same view comes again among any other clips, with any number of workers, after any resume.

The list is that of SPOTER (Boháček and Hrúz, 2022: rotation, squeeze, perspective, joints of the arms), with changes of
speed, dropped frames, noise, mirrors, and simulated occlusion: a part of the body is hidden for a while.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from outlast_recipes.common.chance import Chance, generator
from outlast_recipes.common.interpolation import interpolated
from outlast_recipes.sign.batch import FACE, LEFT, POINTS, RIGHT

NUMBERS = 32  # of chance that a view takes
SHORTEST_SPAN = 0.2  # of a clip, for which a part is hidden
SHORTEST = 4  # frames of a view of a longer clip

_ARMS = (
    (11, 13, (13, 15, 17, 19, 21, *range(25, 46))),
    (12, 14, (14, 16, 18, 20, 22, *range(46, 67))),
)
"""Shoulder, elbow, and what follows the shoulder: MediaPipe's left arm (odd numbers) and right arm."""
_LIMBS = (
    (11, 13, 15, _ARMS[0][2], (17, 19, 21), tuple(range(25, 46))),
    (12, 14, 16, _ARMS[1][2], (18, 20, 22), tuple(range(46, 67))),
)
"""Shoulder, elbow, wrist, what follows the shoulder (first the elbow), the hand of the pose, and the hand."""
_HEAD, _HIPS = (*range(11), *range(67, 78)), (23, 24)
_TIPS = (4, 8, 12, 16, 20)
_POSE = [0, 4, 5, 6, 1, 2, 3, *(point + (1 if point % 2 else -1) for point in range(7, 25))]
MIRROR = (*_POSE, *range(46, 67), *range(25, 46), *(67 + point for point in (0, 2, 1, 4, 3, 6, 5, 8, 7, 9, 10)))
"""Keypoint -> the same one on the other side of the body."""


@dataclass(frozen=True)
class Strength:
    """The strength of each augmentation; 0 switches it off.

    Attributes:
        rotate: degrees, in the picture.
        squeeze: share by which width and height may change.
        perspective: change of scale from one side to the other.
        arms: degrees at shoulders and elbows.
        limbs: share by which the lengths of upper arms, forearms and hands may change.
        trunk: share by which the distances of head and hips from the shoulders may change.
        warp: share by which the speed may change.
        crop: share of a clip that may be cut off at its ends.
        drop_frames: share of the frames that may be dropped.
        noise: standard deviation, in heights of the frame.
        occlude: chance of a hand, the face or the finger tips being hidden for a while.
        occlude_span: largest share of a clip for which they are hidden.
        timing: how far the course in time may bend; 1: from its square root to its square.
        shoulders: share by which the width of the shoulders may change.
        reach: how far each hand may be from where it was, in widths of the shoulders, to each side and up and down.
        fingers: degrees at the joints of fingers and at the wrists.
        mirror: chance of left and right being exchanged.
        handed: glosses that are never mirrored.
    """

    rotate: float = 15.0
    squeeze: float = 0.25
    perspective: float = 0.15
    arms: float = 10.0
    limbs: float = 0.2
    trunk: float = 0.2
    warp: float = 0.3
    crop: float = 0.1
    drop_frames: float = 0.2
    noise: float = 0.01
    occlude: float = 0.7
    occlude_span: float = 0.9
    timing: float = 0.7
    shoulders: float = 0.2
    reach: float = 0.25
    fingers: float = 20.0
    mirror: float = 0.0
    handed: Collection[int] = ()


def chance_of(names: Sequence[str], seed: int, epoch: int) -> Chance:
    """The numbers of these clips' views."""
    return Chance.of(names, seed=seed, view=epoch, width=NUMBERS)


def in_time(
    values: Tensor, seen: Tensor, lengths: Tensor, strength: Strength, chance: Chance, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut, slow down or speed up each clip.

    Args:
        values: (B, T, ..., D).
        seen: (B, T, ...).
        lengths: (B,) frames, on the CPU, as `chance`.
        strength: how far.
        chance: a row for each clip.
        longest: most frames of a view.

    Returns:
        (B, T', ..., D), (B, T', ...) and (B,): a view has at least 4 frames, or as many as its clip.
    """
    whole = lengths.float()
    kept = whole * (1 - strength.crop * chance.take()[:, 0])
    begin = (whole - kept) * chance.take()[:, 0]
    speed = (1 + strength.warp) ** (2 * chance.take()[:, 0] - 1)
    least = lengths.clamp(max=SHORTEST)
    new = torch.maximum((kept / speed).round().long(), least).clamp(max=longest) * (lengths > 0)
    values, seen = resampled(values, seen, begin, (kept - 1).clamp(min=0), new)
    return values, seen, new


def resampled(values: Tensor, seen: Tensor, begin: Tensor, span: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Look at frames begin .. begin + span of each clip, `lengths` times at equal distances.

    Args:
        values: (B, T, ..., D).
        seen: (B, T, ...).
        begin, span: (B,) frames, not necessarily whole.
        lengths: (B,) frames of the result.

    Returns:
        (B, T', ..., D) and (B, T', ...), where T' is the largest length; 0 and False after a clip's length.
    """
    at = torch.arange(max(1, int(lengths.max())))[None]
    place = begin[:, None] + span[:, None] * at / (lengths[:, None] - 1).clamp(min=1)
    values, seen = interpolated(values, seen, place.to(values.device))
    inside = (at < lengths[:, None]).to(values.device)
    inside = inside.view(*inside.shape, *[1] * (seen.dim() - 2))
    return values * inside[..., None], seen & inside


def dropped(seen: Tensor, lengths: Tensor, names: Sequence[str], seed: int, epoch: int, share: float) -> Tensor:
    """`seen` without the frames that are dropped, a share of up to `share` in each clip; one frame is always kept.

    Args:
        seen: (B, T, ...).
        lengths: (B,) on the CPU.
        names: of the clips.
        seed, epoch: of the view.
        share: largest share.
    """
    if not share:
        return seen
    kept = torch.ones(seen.shape[:2], dtype=torch.bool)
    for row, (name, length) in enumerate(zip(names, lengths.tolist(), strict=True)):
        numbers = generator(seed, epoch, f"{name}/frames").random(length + 1, np.float32)
        stays = numbers[1:] >= share * numbers[0]
        if stays.any():
            kept[row, :length] = torch.from_numpy(stays)
    return seen & kept.view(*kept.shape, *[1] * (seen.dim() - 2)).to(seen.device)


def noise_of(lengths: Tensor, names: Sequence[str], seed: int, epoch: int, frames: int) -> Tensor:
    """(B, frames, 78, 2) numbers of the normal distribution; 0 after a clip's length."""
    noise = torch.zeros(len(names), frames, POINTS, 2)
    for row, (name, length) in enumerate(zip(names, lengths.tolist(), strict=True)):
        numbers = generator(seed, epoch, f"{name}/noise").standard_normal((length, POINTS, 2), np.float32)
        noise[row, :length] = torch.from_numpy(numbers)
    return noise


def in_space(
    points: Tensor, seen: Tensor, lengths: Tensor, gloss: Tensor, strength: Strength, chance: Chance
) -> tuple[Tensor, Tensor]:
    """Rotate, squeeze and mirror the bodies of clips, move their arms, and hide parts of them.

    Args:
        points: (B, T, 78, 2) in units of the body, the origin between the shoulders.
        seen: (B, T, 78).
        lengths: (B,) frames.
        gloss: (B,).
        strength: how far.
        chance: a row for each clip, on the same device.

    Returns:
        (B, T, 78, 2), 0 where nothing is seen, and (B, T, 78).
    """
    points = _arms(points, seen, math.radians(strength.arms), chance)
    points = torch.einsum("btvi,bij->btvj", points, _linear(strength, chance))
    slope = strength.perspective * (2 * chance.take(2) - 1)
    depth = 1 + (points * slope[:, None, None]).sum(-1, keepdim=True).clamp(-0.5, 0.5)
    points = points / depth
    applied = (chance.take()[:, 0] < strength.mirror) & ~torch.isin(
        gloss, torch.tensor(list(strength.handed), dtype=gloss.dtype, device=gloss.device)
    )
    flipped = points[:, :, list(MIRROR)] * points.new_tensor([-1.0, 1.0])
    points = torch.where(applied.view(-1, 1, 1, 1), flipped, points)
    seen = torch.where(applied.view(-1, 1, 1), seen[:, :, list(MIRROR)], seen)
    shown = _hidden(seen, lengths, strength, chance)
    points = _limbs(points, seen, strength.limbs, chance)
    points = _trunk(points, strength.trunk, chance)
    return torch.where(shown[..., None], points, 0.0), shown


def _linear(strength: Strength, chance: Chance) -> Tensor:
    """(B, 2, 2): a rotation and a squeeze for each clip."""
    turn = turned(math.radians(strength.rotate) * (2 * chance.take()[:, 0] - 1))
    return turn * (1 + strength.squeeze * (2 * chance.take(2) - 1))[:, None]


def turned(angles: Tensor) -> Tensor:
    """(...) radians -> (..., 2, 2) matrices that rotate points that are rows."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([cos, -sin, sin, cos], -1).unflatten(-1, (2, 2))


def _arms(points: Tensor, seen: Tensor, most: float, chance: Chance) -> Tensor:
    """Rotate each arm about its shoulder, and its forearm about the elbow, where these are seen."""
    angles = most * (2 * chance.take(4) - 1)
    if not most:
        return points
    points = points.clone()
    for side, (shoulder, elbow, follows) in enumerate(_ARMS):
        forearm = tuple(point for point in follows if point != elbow)
        for number, (pivot, moved) in enumerate(((shoulder, follows), (elbow, forearm))):
            turn = turned(angles[:, 2 * side + number])
            centre = points[:, :, [pivot]]
            at = list(moved)
            rotated = torch.einsum("btvi,bij->btvj", points[:, :, at] - centre, turn) + centre
            points[:, :, at] = torch.where(seen[:, :, [pivot], None], rotated, points[:, :, at])
    return points


def _limbs(points: Tensor, seen: Tensor, most: float, chance: Chance) -> Tensor:
    """Change the lengths of the upper arms, the forearms and the hands, of both sides alike: another body."""
    factors = 1 + most * (2 * chance.take(3) - 1)
    if not most:
        return points
    points = points.clone()
    for shoulder, elbow, wrist, follows, own, hand in _LIMBS:
        for number, (pivot, end, moved) in enumerate(((shoulder, elbow, follows), (elbow, wrist, follows[1:]))):
            known = (seen[:, :, pivot] & seen[:, :, end])[..., None]
            longer = (factors[:, number] - 1).view(-1, 1, 1) * (points[:, :, end] - points[:, :, pivot])
            points[:, :, list(moved)] += torch.where(known, longer, 0.0)[:, :, None]
        for pivot, moved in ((wrist, own), (hand[0], hand)):
            known = seen[:, :, [pivot], None]
            larger = (factors[:, 2] - 1).view(-1, 1, 1, 1) * (points[:, :, list(moved)] - points[:, :, [pivot]])
            points[:, :, list(moved)] += torch.where(known, larger, 0.0)
    return points


def _trunk(points: Tensor, most: float, chance: Chance) -> Tensor:
    """Change how far head and hips are from the middle of the shoulders, which is the origin: another neck and back."""
    factors = 1 + most * (2 * chance.take(2) - 1)
    if not most:
        return points
    points = points.clone()
    for number, moved in enumerate((_HEAD, _HIPS)):
        points[:, :, list(moved)] *= factors[:, number].view(-1, 1, 1, 1)
    return points


def _hidden(seen: Tensor, lengths: Tensor, strength: Strength, chance: Chance) -> Tensor:
    """Without a hand, the face or the finger tips for a while, in a share of the clips."""
    applied, which = chance.take()[:, 0] < strength.occlude, chance.take()[:, 0]
    span = lengths * (SHORTEST_SPAN + (strength.occlude_span - SHORTEST_SPAN) * chance.take()[:, 0])
    begin = (lengths - span) * chance.take()[:, 0]
    at = torch.arange(seen.shape[1], device=seen.device)[None]
    during = applied[:, None] & (at >= begin[:, None]) & (at < (begin + span)[:, None])
    parts = seen.new_zeros(4, POINTS)
    parts[0, LEFT] = parts[1, RIGHT] = parts[2, FACE] = True
    parts[3, [25 + tip for tip in _TIPS] + [46 + tip for tip in _TIPS]] = True
    part = parts[(which * len(parts)).long().clamp(max=len(parts) - 1)]
    return seen & ~(during[..., None] & part[:, None])
