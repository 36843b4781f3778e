"""A trained detector without its data: what a checkpoint holds besides weights, and a folder with both."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import outlast
from outlast_recipes.common.training import device_of
from outlast_recipes.yolo import backends
from outlast_recipes.yolo.detector import Detector
from outlast_recipes.yolo.yolo_yaml import MOST_KEYPOINTS, MOST_NAMES

ARCHITECTURE, WEIGHTS = "architecture.json", "weights.safetensors"
MOST = 2**20
"""Bytes of an architecture.json."""
MOST_PIXELS = 2**14
"""Side of the largest image that a detector of a file may ask for."""


class About:
    """The architecture of a run's detector and the data that it is trained on, saved with it.

    Args:
        architecture: of the detector.
        data: hash of the data set.
    """

    def __init__(self, architecture: Mapping[str, Any], data: str) -> None:
        self.architecture, self.data = dict(architecture), data

    def state_dict(self) -> dict[str, Any]:
        return {"architecture": self.architecture, "data": self.data}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for key, words in (("architecture", "the architecture"), ("data", "the data (their hash)")):
            if state[key] != getattr(self, key):
                raise ValueError(f"the run was begun with {words} {state[key]}, and now it is {getattr(self, key)}")


def restored(saved: outlast.SavedCheckpoint, part: str | None = None, device: str = "auto") -> Detector:
    """The detector of a checkpoint, ready to be used.

    Args:
        saved: a checkpoint of a run of this recipe.
        part: "ema", or "best": the weights with the best validation.
        device: as the config's `device`.

    Raises:
        outlast.OutlastError: the best weights are asked for before there was a validation.
    """
    part = part or "ema"
    if part == "best" and not saved.part("choice")["epoch"]:
        raise outlast.OutlastError(
            f"{saved.run_id} has no weights that were best on validation at step {saved.step}: no epoch had ended."
        )
    return _loaded(saved.part("about")["architecture"], saved.part(part), saved.run_id).to(device_of(device))


def write(detector: Detector, folder: Path) -> None:
    """Write a detector into a folder: weights.safetensors, and architecture.json beside it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(detector.weights()), folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # save_file makes it private
    (folder / ARCHITECTURE).write_text(json.dumps(detector.architecture(), indent=1) + "\n", encoding="utf-8")


def read(place: Path) -> Detector:
    """A detector that `write` wrote.

    Args:
        place: the folder, or weights.safetensors in it.

    Raises:
        outlast.DataError: a file is missing or is not what it should be.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = place if place.is_dir() else place.parent
    weights, about = (folder / WEIGHTS if place.is_dir() else place), folder / ARCHITECTURE
    try:
        _check_file(weights)
        _check_file(about, most=MOST)
        architecture = json.loads(about.read_text(encoding="utf-8"))
        tensors = load_file(weights)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = f"{ARCHITECTURE} or {weights.name} does not exist" if missing else error
        raise outlast.DataError(
            f"{place} is no detector: {why}. Expected {WEIGHTS} and {ARCHITECTURE} in one folder."
        ) from error
    return _loaded(architecture, tensors, about)


def _check_file(path: Path, most: int | None = None) -> None:
    """Raises OSError when it is no file, such as a pipe, for which a reader would wait, and ValueError above `most`."""
    size = path.stat().st_size
    if not path.is_file():
        raise OSError(f"{path.name} is no ordinary file")
    if most is not None and size > most:
        raise ValueError(f"{path.name} has more than {most} bytes")


def _loaded(architecture: Any, weights: Mapping[str, Any], place: object) -> Detector:
    """The detector of a description and weights from elsewhere; `place` is named in errors. Raises DataError."""
    if not isinstance(architecture, dict):
        raise outlast.DataError(f"{place} holds {type(architecture).__name__}; expected a JSON object.")
    names, keypoints = architecture.get("names"), architecture.get("keypoints")
    if not isinstance(names, list | tuple) or not 0 < len(names) <= MOST_NAMES:
        raise outlast.DataError(f"{place} describes no detector: names is {reprlib.repr(names)}; expected a list.")
    if type(keypoints) is not int or not 0 <= keypoints <= MOST_KEYPOINTS:
        raise outlast.DataError(f"{place} describes no detector: keypoints is {reprlib.repr(keypoints)}.")
    size = architecture.get("image_size")
    if type(size) is not int or not 0 < size <= MOST_PIXELS:
        raise outlast.DataError(f"{place} describes no detector: image_size is {reprlib.repr(size)}.")
    if not all(each.isfinite().all() for each in weights.values()):
        raise outlast.DataError(f"{place} is beside weights that are not finite.")
    try:
        return backends.load(architecture, weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise outlast.DataError(f"{place} describes no detector: {error!r}.") from error
