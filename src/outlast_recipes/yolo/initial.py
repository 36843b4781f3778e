"""Weights that a training starts from (`model.resume_from`)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import outlast
from outlast_recipes.yolo import saved
from outlast_recipes.yolo.detector import DetectorTraining


def start_from(training: DetectorTraining, place: Path) -> str:
    """Give the network and its averaged weights those of a file, as far as they have the same shapes.

    Returns:
        A sentence on what was taken, and what it means.

    Raises:
        outlast.ConfigError: there is no such file, or its weights are of another architecture.
        outlast.DataError: it cannot be read.
    """
    if not place.exists():
        raise outlast.ConfigError(
            f"model.resume_from is {place}, which does not exist; expected a .pt file of ultralytics, or "
            "weights.safetensors of this recipe. Check the path."
        )
    if (place / "run.json").is_file():
        raise outlast.ConfigError(
            f"model.resume_from is {place}, a run. To continue it, exactly: outlast train yolo --resume {place}"
        )
    if place.suffix == ".pt":
        from outlast_recipes.yolo.ultralytics_adapter import outside

        found = outside.read(place)
        weights, name, about = found.weights, found.architecture, found.sentence
    else:
        detector = saved.read(place)
        weights, about = dict(detector.weights()), "a detector of this recipe"
        name = str(detector.architecture().get("architecture", "tiny"))
    _check_family(training, name, place)
    taken = _give(training, weights, place)
    return f"{place} is {about}. The run starts from {taken} of its weights, at epoch 1, with a fresh optimizer."


def _check_family(training: DetectorTraining, name: str, place: Path) -> None:
    """Boxes and keypoints of one network have most weights in common; those of two networks look alike and are not."""
    own = str(training.detector().architecture().get("architecture", "tiny"))
    if name and name.removesuffix("-pose") != own.removesuffix("-pose"):
        raise outlast.ConfigError(
            f"model.resume_from is {place}, weights of {name}, and model.architecture is {own}. Set "
            f"--model.architecture {name}, or give other weights."
        )


def _give(training: DetectorTraining, weights: dict[str, torch.Tensor], place: Path) -> str:
    parts = training.parts()
    count = total = 0
    for part in ("model", "ema"):
        network: nn.Module = getattr(parts[part], "module", parts[part])
        own = network.state_dict()
        fits = {name: each for name, each in weights.items() if name in own and own[name].shape == each.shape}
        count, total = len(fits), len(own)
        if count < total / 2:
            raise outlast.ConfigError(
                f"model.resume_from is {place}, of whose tensors {count} have the name and shape of one of the {total} "
                "of this architecture. Choose the --model.architecture that the file was trained with."
            )
        network.load_state_dict(fits, strict=False)
    return "all" if count == total else f"{count} of {total}"
