"""A network of RF-DETR, without its data: how it is built, and what its outputs mean."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import outlast
from outlast_recipes.yolo.detector import Detector, Picture, Prediction
from outlast_recipes.yolo.rfdetr_adapter import library
from outlast_recipes.yolo.rfdetr_adapter.settings import ARCHITECTURE, BLOCK
from outlast_recipes.yolo.square import fitted, merged

OVERLAP = 0.7  # IoU above which one of two boxes of a class is left out

SIZES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "nano": (library.RFDETRNanoConfig, {}),
    "small": (library.RFDETRSmallConfig, {}),
    "medium": (library.RFDETRMediumConfig, {}),
    "large": (library.RFDETRLargeConfig, {}),
}
"""Size -> the class of its values, and values that are not the usual ones."""

_KEYPOINTS: dict[str, Any] = {
    "use_grouppose_keypoints": True,
    "dual_projector": True,
    "dual_projector_kp_only": True,
    "num_queries": 100,
    "num_select": 100,
}
"""What its preview of keypoints, which has one size, differs in from boxes."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the images that its backbones were trained with


def values(architecture: str, classes: int, keypoints: int, image_size: int) -> Any:
    """RF-DETR's values of a network.

    Args:
        architecture: such as "rfdetr-nano" or "rfdetr-nano-pose".
        classes: number of classes.
        keypoints: K of every class; 0 for boxes only.
        image_size: side of an image, in pixels.
    """
    kind, own = SIZES[architecture.split("-")[1]]
    points = {**_KEYPOINTS, "num_keypoints_per_class": [keypoints] * classes} if keypoints else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.PretrainWeightsCompatibilityWarning)
        return kind(
            pretrain_weights=None, device="cpu", num_classes=classes, resolution=image_size, **{**points, **own}
        )


def untrained(architecture: str, classes: int, keypoints: int, image_size: int) -> nn.Module:
    """A network with random weights. Its patches of 16 pixels have no weights of DINOv2, so none are looked for."""
    return library.build_model_from_config(values(architecture, classes, keypoints, image_size))


def normal(images: Tensor) -> Tensor:
    """Images (B, 3, H, W), 0 to 1, as the network takes them."""
    mean, deviation = (images.new_tensor(each)[:, None, None] for each in (_MEAN, _DEVIATION))
    return (images - mean) / deviation


class RfdetrDetector(Detector):
    """A network of RF-DETR.

    Args:
        network: in evaluation mode.
        architecture: its name, such as "rfdetr-nano".
        names: of the classes.
        keypoints: K; 0 for boxes only.
        image_size: side of the square that a picture is fitted into, in pixels.
    """

    def __init__(
        self, network: nn.Module, architecture: str, names: Sequence[str], keypoints: int, image_size: int
    ) -> None:
        self.network, self.names, self.keypoints = network, tuple(names), keypoints
        self._architecture, self._size = architecture, image_size
        self._meaning = library.PostProcess(network.num_queries, [keypoints] * len(names) if keypoints else [])

    def architecture(self) -> dict[str, Any]:
        return {
            "detector": "rfdetr",
            "architecture": self._architecture,
            "names": list(self.names),
            "keypoints": self.keypoints,
            "image_size": self._size,
        }

    def _predict_one(self, picture: Picture, confidence: float) -> Prediction:
        device = next(self.network.parameters()).device
        image, scale = fitted(picture, self._size, self._size)
        outputs = self.network(normal(image[None].to(device)))
        found = self._meaning(outputs, torch.tensor([[self._size, self._size]], device=device))[0]
        found = {name: each.float().cpu() for name, each in found.items()}
        # One class more than there are is the background.
        sure = (found["scores"] > confidence) & (found["labels"] < len(self.names))
        scores, labels, boxes = found["scores"][sure], found["labels"][sure], found["boxes"][sure] / scale
        points = found["keypoints"][sure][..., :2] / scale if self.keypoints else None
        return merged(picture, boxes, scores, labels, points, OVERLAP)


def load(architecture: Mapping[str, Any], weights: Mapping[str, Tensor]) -> RfdetrDetector:
    """A detector of what `architecture()` and `weights()` gave.

    Raises:
        outlast.DataError: they do not belong together.
    """
    name, names = str(architecture["architecture"]), architecture["names"]
    keypoints, size = int(architecture["keypoints"]), int(architecture["image_size"])
    _check_shapes(name, len(names), keypoints, size, weights)
    network = untrained(name, len(names), keypoints, size)
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise outlast.DataError(f"The weights are not those of {name} with {len(names)} classes: {error}") from error
    return RfdetrDetector(network.eval(), name, names, keypoints, size)


def _check_shapes(name: str, classes: int, keypoints: int, size: int, weights: Mapping[str, Tensor]) -> None:
    """Numbers of a file are compared with the tensors beside them, before memory of their size is asked for."""
    patches = (size // 16) ** 2 + 1
    wanted = {
        "class_embed.bias": (classes + 1,),
        "_kp_active_mask": (classes, keypoints) if keypoints else (0, 0),
        "backbone.0.encoder.encoder.embeddings.position_embeddings": (1, patches, 384),
    }
    found = {key: tuple(weights[key].shape) if key in weights else None for key in wanted}
    if not ARCHITECTURE.fullmatch(name) or size < BLOCK or size % BLOCK or found != wanted:
        raise outlast.DataError(
            f"The weights are not those of {name:.60} with {classes} classes, {keypoints} keypoints and images of "
            f"{size} pixels: found {found}, expected {wanted}."
        )
