"""Clips between their frames: linear interpolation in time that respects what was seen."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolated(values: Tensor, seen: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Look at clips at places between two frames.

    Args:
        values: (N, T, ...).
        seen: (N, T, ...), whose dimensions are the first ones of `values`.
        place: (N, T') frames, not necessarily whole.

    Returns:
        Values (N, T', ...), 0 where nothing was seen, and seen (N, T', ...). Of a frame in which something was seen and
        one in which it was not, the nearer one decides whether it is seen, and the seen one where.
    """
    low = place.floor().long().clamp(0, values.shape[1] - 1)
    high = (low + 1).clamp(max=values.shape[1] - 1)
    row = torch.arange(len(values), device=values.device)[:, None]
    seen_low, seen_high = seen[row, low], seen[row, high]
    share = (place - low).view(*place.shape, *[1] * (seen.dim() - 2)).expand(seen_low.shape)
    found = torch.where(share >= 0.5, seen_high, seen_low)
    share = torch.where(seen_low & seen_high, share.to(values.dtype), seen_high.to(values.dtype))
    wide = (*found.shape, *[1] * (values.dim() - seen.dim()))
    return torch.lerp(values[row, low], values[row, high], share.view(wide)) * found.view(wide), found
