"""Keypoints in units of the body: the origin is between the shoulders, the unit is the width of the shoulders.

Both are medians over a clip, so that a frame in which a shoulder was not seen does not move the others. The frame's
aspect ratio comes first: shares of a frame of 640x360 are not lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHOULDERS = (11, 12)
ASPECT = 16 / 9
"""Width by height of a frame whose file does not say."""
NARROWEST = 0.05
"""Smallest width of the shoulders, as a share of the frame's height: a person who stands sideways has none."""


@dataclass(frozen=True)
class Placement:
    """Where the bodies of clips are in their frames.

    Attributes:
        stretch: (B, 1, 1, 2) factors that make lengths of shares of the frame, in heights of the frame.
        origin: (B, 1, 1, 2) in heights of the frame.
        scale: (B, 1, 1, 1) in heights of the frame.
    """

    stretch: Tensor
    origin: Tensor
    scale: Tensor

    def to_body(self, points: Tensor, seen: Tensor) -> Tensor:
        """Shares of the frame (B, T, 78, 2) -> units of the body; 0 where `seen` (B, T, 78) is False."""
        return torch.where(seen[..., None], (points * self.stretch - self.origin) / self.scale, 0.0)

    def to_frame(self, points: Tensor, seen: Tensor) -> Tensor:
        """Back from `to_body`."""
        return torch.where(seen[..., None], (points * self.scale + self.origin) / self.stretch, 0.0)


def placed(points: Tensor, seen: Tensor, aspect: Tensor) -> Placement:
    """Find the bodies of clips.

    A clip in which both shoulders are never seen takes the mean and the spread of what is seen.

    Args:
        points: (B, T, 78, 2) shares of the frame.
        seen: (B, T, 78).
        aspect: (B,) width of the frame by its height.
    """
    stretch = torch.stack([aspect, torch.ones_like(aspect)], -1).view(-1, 1, 1, 2).to(points)
    lengths = points * stretch
    left, right = (lengths[:, :, shoulder] for shoulder in SHOULDERS)
    both = seen[:, :, SHOULDERS[0]] & seen[:, :, SHOULDERS[1]]
    origin = _median((left + right) / 2, both[..., None])
    scale = _median((left - right).square().sum(-1, keepdim=True).sqrt(), both[..., None])
    known = both.any(1)[:, None]
    weight = seen[..., None].to(points)
    count = weight.sum((1, 2)).clamp(min=1)
    mean = (lengths * weight).sum((1, 2)) / count
    spread = ((lengths - mean[:, None, None]).square() * weight).sum((1, 2)) / count
    origin = torch.where(known, origin, mean)
    scale = torch.where(known, scale, 2 * spread.sum(-1, keepdim=True).sqrt()).clamp(min=NARROWEST)
    return Placement(stretch, origin[:, None, None], scale[:, None, None])


def _median(values: Tensor, known: Tensor) -> Tensor:
    """(B, T, C) -> (B, C): median of the frames in which a value is known (B, T, 1); 0 for none."""
    found = values.masked_fill(~known, float("nan")).nanmedian(1).values
    return found.nan_to_num(0.0)
