"""What spoke for a decision: gradient times activation, as in Grad-CAM (Selvaraju et al., ICCV 2017), kept by place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def spoken_for(score: Tensor, features: Tensor, channels: int) -> Tensor:
    """How much each place of some features speaks for a score; what speaks against it is 0.

    Args:
        score: a number that was computed from the features.
        features: which require a gradient.
        channels: their dimension of channels.

    Returns:
        The features' shape without that dimension.
    """
    (gradient,) = torch.autograd.grad(score, features)
    return F.relu((gradient * features).sum(channels)).detach()
