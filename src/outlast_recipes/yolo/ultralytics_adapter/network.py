"""A trained network of ultralytics, without its data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

import outlast
from outlast_recipes.yolo.detector import Detector, Picture, Prediction
from outlast_recipes.yolo.packages import ULTRALYTICS, VERSION
from outlast_recipes.yolo.ultralytics_adapter import settings
from outlast_recipes.yolo.ultralytics_adapter.library import (
    DetectionModel,
    LetterBox,
    PoseModel,
    non_max_suppression,
    scale_boxes,
    scale_coords,
    ultralytics,
)

OVERLAP = 0.7  # IoU above which one of two boxes of a class is left out, as in its validation


class UltralyticsDetector(Detector):
    """A network of ultralytics.

    Args:
        network: in evaluation mode.
        architecture: its name, such as "yolo11s".
        names: of the classes.
        keypoints: K; 0 for boxes only.
        image_size: the larger side to which a picture is scaled, in pixels.
    """

    licence = settings.OF_WEIGHTS

    def __init__(
        self, network: nn.Module, architecture: str, names: Sequence[str], keypoints: int, image_size: int
    ) -> None:
        self.network, self.names, self.keypoints = network, tuple(names), keypoints
        self._architecture, self._size = architecture, image_size
        self.network.end2end = False  # as it was validated: boxes are suppressed afterwards
        self._fit = LetterBox(new_shape=(image_size, image_size), auto=True, stride=int(network.stride.max()))

    def architecture(self) -> dict[str, Any]:
        return {
            "detector": "ultralytics",
            "architecture": self._architecture,
            "names": list(self.names),
            "keypoints": self.keypoints,
            "image_size": self._size,
        }

    def write_pt(self, path: Path) -> bool:
        """A file that `ultralytics.YOLO` opens: the network in float16, as ultralytics' own best.pt of a finished
        training, whose licence it names."""
        network = copy.deepcopy(self.network).cpu().half()
        network.criterion = None
        values = {"task": "pose" if self.keypoints else "detect", "imgsz": self._size, "model": self._architecture}
        network.args = values
        held = {
            "epoch": -1,
            "model": network,
            "ema": None,
            "updates": None,
            "optimizer": None,
            "train_args": values,
            "version": VERSION,
            "license": "AGPL-3.0 (https://ultralytics.com/license)",
        }
        torch.save(held, path)
        return True

    def _predict_one(self, picture: Picture, confidence: float) -> Prediction:
        device = next(self.network.parameters()).device
        fitted = np.ascontiguousarray(self._fit(image=picture).transpose(2, 0, 1))
        batch = torch.from_numpy(fitted).to(device).float()[None] / 255
        found = non_max_suppression(
            self.network(batch), confidence, OVERLAP, nc=len(self.names), max_time_img=1e9, max_det=300
        )[0].cpu()
        shape = picture.shape[:2]
        boxes = scale_boxes(batch.shape[2:], found[:, :4].clone(), shape).numpy().astype(np.float32)
        points = None
        if self.keypoints:
            values = (found.shape[1] - 6) // self.keypoints  # x, y and perhaps whether it is visible
            points = found[:, 6:].reshape(len(found), self.keypoints, values)[..., :2].clone()
            points = scale_coords(batch.shape[2:], points, shape).numpy().astype(np.float32)
        scores, classes = found[:, 4].numpy().astype(np.float32), found[:, 5].numpy().astype(np.int64)
        return Prediction(boxes, scores, classes, points)


def definition(architecture: str) -> dict[str, Any]:
    """The layers of an architecture, from ultralytics' own folder.

    By a name, ultralytics would take a file of the working folder first, and it runs what a file has as `activation`.

    Raises:
        outlast.DataError: ultralytics has no such architecture.
    """
    found = ULTRALYTICS.fullmatch(architecture)
    if found is None:
        raise outlast.DataError(
            f"The architecture is {architecture!r:.60}; expected one such as yolo11n or yolo26s-pose."
        )
    family, scale, pose = found.groups(default="")
    place = Path(ultralytics.__file__).parent / "cfg/models" / family / f"yolo{family}{pose}.yaml"
    held: dict[str, Any] = yaml.safe_load(place.read_text(encoding="utf-8"))
    return {**held, "scale": scale, "yaml_file": f"{architecture}.yaml"}


def untrained(architecture: str, names: Sequence[str], keypoints: int) -> nn.Module:
    """A network of ultralytics with random weights; raises as `definition`."""
    layers = definition(architecture)
    if keypoints:
        network = PoseModel(layers, nc=len(names), ch=3, data_kpt_shape=(keypoints, 3), verbose=False)
    else:
        network = DetectionModel(layers, nc=len(names), ch=3, verbose=False)
    network.names = dict(enumerate(names))
    return network


def load(architecture: Mapping[str, Any], weights: Mapping[str, Tensor]) -> UltralyticsDetector:
    """A detector of what `architecture()` and `weights()` gave.

    Raises:
        outlast.DataError: they do not belong together.
    """
    name, names, keypoints = str(architecture["architecture"]), architecture["names"], int(architecture["keypoints"])
    network = untrained(name, names, keypoints)
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise outlast.DataError(f"The weights are not those of {name} with {len(names)} classes: {error}") from error
    return UltralyticsDetector(network.eval(), name, names, keypoints, int(architecture["image_size"]))
