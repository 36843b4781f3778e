"""Image features of frames by InceptionV3 (Szegedy et al., 2016), without its classifier."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import outlast
from outlast_recipes.common import torchvision_operators
from outlast_recipes.common.clips import Floats
from outlast_recipes.sign.batch import FEATURES
from outlast_recipes.sign.video import Frame

SIDE = 299  # pixels
BATCH = 8  # frames
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def backbone(weights: Path | None) -> nn.Module:
    """InceptionV3 that gives (N, 2048).

    Args:
        weights: torchvision's file inception_v3_google-0cc3c7bd.pth; None: torchvision downloads it.

    Raises:
        outlast.OutlastError: torchvision is not installed, or the weights cannot be read or downloaded.
    """
    if importlib.util.find_spec("torchvision") is None:
        raise outlast.OutlastError(
            "Image features need torchvision, which is not installed: pip install 'outlast[sign]'"
        )
    network = untrained()
    from torchvision.models import Inception_V3_Weights

    classifier, network.fc = network.fc, nn.Linear(FEATURES, 1000)
    try:
        state = (
            Inception_V3_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
            if weights is None
            else torch.load(weights, map_location="cpu", weights_only=True)
        )
        network.load_state_dict(state)
    except Exception as error:
        what = f"downloaded ({error})" if weights is None else f"read from {weights} ({type(error).__name__})"
        raise outlast.OutlastError(
            f"The weights of InceptionV3 cannot be {what}. Give --inception-weights with torchvision's file "
            "inception_v3_google-0cc3c7bd.pth."
        ) from error
    network.fc = classifier
    return network.eval()


def untrained() -> Any:
    """InceptionV3 with random weights, in evaluation mode; gives (N, 2048)."""
    torchvision_operators.provide()
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False, transform_input=True)
    network.fc = nn.Identity()
    return network.eval()


@torch.no_grad()
def features_of(frames: Iterable[Frame], network: nn.Module, device: torch.device) -> Floats:
    """(T, 2048) float32: the features of each frame."""
    found: list[torch.Tensor] = []
    held: list[torch.Tensor] = []
    for frame in frames:
        held.append(_input(frame))
        if len(held) == BATCH:
            found.append(network(torch.stack(held).to(device)).float().cpu())
            held = []
    if held:
        found.append(network(torch.stack(held).to(device)).float().cpu())
    return torch.cat(found).numpy()


def _input(frame: Frame) -> torch.Tensor:
    """(3, 299, 299), normalised as ImageNet's pictures."""
    picture = torch.from_numpy(np.ascontiguousarray(frame.picture)).permute(2, 0, 1)[None].float() / 255
    picture = nn.functional.interpolate(picture, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return (picture[0] - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_DEVIATION).view(3, 1, 1)
