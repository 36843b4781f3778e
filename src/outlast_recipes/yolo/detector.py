"""The interface between the recipe and a detector. It names no library; the recipe and its commands know only this.

    DetectorTraining   a detector that is trained: batches, one optimizer step, evaluation, and what is state
    Detector           a trained network: it predicts without its data, and is saved as tensors and JSON

tests/recipes/yolo/test_detector_contract.py tests every implementation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Picture: TypeAlias = NDArray[np.uint8]
"""(height, width, 3), RGB."""

Split: TypeAlias = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Prediction:
    """What a detector found in one picture, by falling score.

    Attributes:
        boxes: (N, 4) float32, left, top, right, bottom in pixels of the picture.
        scores: (N,) float32, 0 to 1.
        classes: (N,) int64, numbers of names.
        keypoints: (N, K, 2) float32, x and y in pixels of the picture, in the order of the labels; None for a detector
            of boxes only. With K = 4 they are corners: top left, top right, bottom right, bottom left.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    keypoints: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)


class Place(NamedTuple):
    """Where in the training a batch is.

    Attributes:
        step: number of the batch in the whole training, from 1.
        epoch: from 1.
        epochs: epochs of the whole training.
        per_epoch: batches of an epoch.
    """

    step: int
    epoch: int
    epochs: int
    per_epoch: int


class Detector(ABC):
    """A network that finds objects in pictures, without its data.

    Attributes:
        names: of the classes.
        keypoints: number of keypoints of an object; 0 for boxes only.
        network: the network, in evaluation mode.
        licence: a sentence on that of trained weights, where the detector's library has something to say about them.
    """

    names: tuple[str, ...]
    keypoints: int
    network: nn.Module
    licence: str = ""

    def to(self, device: torch.device) -> Self:
        """The same detector on a device."""
        self.network.to(device)
        return self

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """JSON from which `load` of the same implementation builds the network again, under "detector" its name."""

    def weights(self) -> Mapping[str, Tensor]:
        """Name -> tensor on the CPU, all that `load` needs besides the architecture."""
        return {name: each.detach().cpu().contiguous() for name, each in self.network.state_dict().items()}

    @torch.no_grad()
    def predict(self, pictures: Sequence[Picture], *, confidence: float = 0.25) -> list[Prediction]:
        """Find objects; a prediction for each picture, whatever their sizes. Overlapping finds of a class are merged.

        Args:
            pictures: of any sizes.
            confidence: least score, 0 to 1.
        """
        return [self._predict_one(picture, confidence) for picture in pictures]

    @abstractmethod
    def _predict_one(self, picture: Picture, confidence: float) -> Prediction:
        """`predict` for one picture; gradients are off."""

    def write_pt(self, path: Path) -> bool:  # noqa: ARG002
        """Write the file that the detector's own library reads; returns whether it has one."""
        return False


class DetectorTraining(ABC):
    """A detector while it is trained. It is built from a config and a data set, with the seed of the config.

    The training order and all that is random about a batch are functions of the seed, the epoch and the batch, so that
    a resume in the middle of an epoch is exact.

    Attributes:
        batches: the training batches: an outlast.DataLoader.
        has_test: whether there is a test split.
    """

    batches: Any
    has_test: bool

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """Everything that changes and is needed to continue identically, name -> object, for `Run.track`.

        "model" is the network that is trained, "ema" the one that is evaluated.
        """

    @abstractmethod
    def step(self, batch: Any, place: Place) -> Mapping[str, Any]:
        """Forward and backward of a batch; updates the weights when enough batches are gathered. The last batch of an
        epoch also changes what depends on the epoch.

        Returns:
            Losses to be logged, name -> number or tensor of one element.
        """

    @abstractmethod
    def evaluate(
        self, split: Split, weights: Any = None, *, read: Callable[[Any], Iterable[Any]] = iter
    ) -> dict[str, float]:
        """Metrics of the averaged weights on a split.

        "map" is among them, the mean average precision over IoU 0.5 to 0.95 by which the best weights are chosen: of
        keypoints (by OKS) where the data have some, else of boxes. "map50" is the same at IoU 0.5.

        Args:
            split: that is read.
            weights: a network of the same kind as the part "ema", which is evaluated instead of it.
            read: gives the batches of a loader, such as `Run.evaluate`, which may stop in between.
        """

    @abstractmethod
    def detector(self, weights: Any = None) -> Detector:
        """The detector with the averaged weights, or with those of another network of the same kind."""

    def close(self) -> None:  # noqa: B027 - few have something to release
        """Release processes and temporary files."""
