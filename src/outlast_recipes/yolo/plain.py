"""A training in plain torch: its steps are this recipe's own, and the network and its losses come from a subclass."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import outlast
from outlast_recipes.common.ranks import across_ranks
from outlast_recipes.common.training import half_precision, loader_options, update_average
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.corners import SIGMA
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import Detector, DetectorTraining, Place, Split
from outlast_recipes.yolo.precision import mean_precision
from outlast_recipes.yolo.schedule import Schedule, weight_decay
from outlast_recipes.yolo.square import SquareDataset, collate, picture_of


class PlainTraining(DetectorTraining):
    """A training of a network that a subclass makes.

    Args:
        config: values of the run.
        dataset: the data.
        device: of this rank.

    Attributes:
        keypoints: K of the network; 0 for boxes only.
        decay: of the averaged weights.
        most_gradient: norm to which gradients are cut.
        unused: whether some parameters have no gradient.
    """

    decay, most_gradient, unused = 0.99, 10.0, False

    def __init__(self, config: YoloConfig, dataset: Dataset, device: torch.device) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        self.has_test = bool(dataset.splits.get("test"))
        boxes_only = config.model.architecture != "tiny" and not config.model.architecture.endswith("-pose")
        self.keypoints = 0 if boxes_only else dataset.keypoints
        # All bits of the seed: on a CPU torch's own seeding reads the lower 32 only.
        torch.manual_seed(int(np.random.SeedSequence(config.seed).generate_state(1)[0]))
        self._network = self.untrained().to(device)
        self._ema = copy.deepcopy(self._network).eval()
        self._model = across_ranks(self._network, device, unused=self.unused)
        self._half, self._scaler = half_precision(device, wanted=config.mixed_precision)
        self._optimizer = _optimizer(config, self._network)
        self._progress = _LastUpdate()
        self.batches = outlast.DataLoader(
            SquareDataset(dataset.splits["train"], config, keypoints=bool(self.keypoints)),
            config.batch_size,
            seed=config.seed,
            collate_fn=collate,
            **loader_options(config),
        )

    @abstractmethod
    def untrained(self) -> nn.Module:
        """The network with random weights, from torch's global generator."""

    @abstractmethod
    def losses(
        self, network: Callable[[Tensor], Any], images: Tensor, labels: Sequence[tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        """Weighted losses of a batch, whose sum is minimized.

        Args:
            network: to be called once; it computes in half precision where that is wanted.
            images: (B, 3, S, S), 0 to 1.
            labels: boxes (N, 4), classes (N,) and keypoints (N, K, 2) of each image, in pixels; NaN where a keypoint
                is not labelled.
        """

    @abstractmethod
    def detector_of(self, network: nn.Module) -> Detector:
        """The network with the meaning of its outputs."""

    def parts(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "ema": self._ema,
            "optimizer": self._optimizer,
            "scaler": self._scaler,
            "progress": self._progress,
            "data": self.batches,
        }

    def step(self, batch: Any, place: Place) -> Mapping[str, Any]:
        images, labels = batch
        schedule, decay = Schedule(self.config, place), weight_decay(self.config)
        self._model.train()
        for number, group in enumerate(self._optimizer.param_groups):
            peak = {"lr": self.config.learning_rate, "weight_decay": decay if number == 0 else 0.0}
            schedule.apply(group, peak, bias=number == 1)
        parts = self.losses(self._in_half, images.to(self.device), labels)
        self._scaler.scale(sum(parts.values()) / schedule.gather).backward()
        if place.step - self._progress.last >= schedule.gather:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), self.most_gradient)
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._optimizer.zero_grad()
            update_average(self._ema, self._network, self.decay, place.step)
            self._progress.last = place.step
        return {name: each.detach() for name, each in parts.items()} | {"lr": self._optimizer.param_groups[0]["lr"]}

    def _in_half(self, images: Tensor) -> Any:
        with torch.autocast(self.device.type, self._half, enabled=self.config.mixed_precision):
            return self._model(images)

    def evaluate(
        self, split: Split, weights: Any = None, *, read: Callable[[Any], Iterable[Any]] = iter
    ) -> dict[str, float]:
        detector = self.detector_of(self._ema if weights is None else weights)
        samples = self.dataset.splits[split]
        found = [detector.predict([picture_of(sample)], confidence=0.01)[0] for sample in read(list(samples))]
        metrics = mean_precision(found, samples)
        if not self.keypoints:
            return metrics
        sigma = self.config.training.oks_sigma or SIGMA
        of_boxes = {f"box_{name}": value for name, value in metrics.items()}
        return mean_precision(found, samples, sigma=sigma) | of_boxes

    def detector(self, weights: Any = None) -> Detector:
        return self.detector_of(copy.deepcopy(self._ema if weights is None else weights).eval())

    def close(self) -> None:
        self.batches.close()


class _LastUpdate:
    """The batch after which the weights were updated last."""

    last = 0

    def state_dict(self) -> dict[str, int]:
        return {"last": self.last}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.last = int(state["last"])


def _optimizer(config: YoloConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Two groups: weights of layers, which decay, and all others."""
    decays = [each for each in network.parameters() if each.dim() > 1]
    others = [each for each in network.parameters() if each.dim() <= 1]
    groups, rate, momentum = [{"params": decays}, {"params": others}], config.learning_rate, config.training.momentum
    kind = config.training.optimizer
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
    if kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)
    return (torch.optim.Adam if kind == "adam" else torch.optim.AdamW)(groups, lr=rate, betas=(momentum, 0.999))


def unknown_values(config: YoloConfig, *, visibility: bool = False) -> list[str]:
    """Values of a config that only ultralytics' architectures use, as far as they were changed and not to 0 ("off").

    Args:
        config: values of a run.
        visibility: whether the architecture has a loss of visibility.
    """
    fields = (
        ("training", ("close_mosaic", "multi_scale", "dfl_loss", "loss_sigma")),
        ("training", () if visibility else ("visibility_loss",)),
        ("augmentation", ("hsv_h", "hsv_s", "degrees", "shear", "perspective", "mosaic", "mixup", "cutmix")),
        ("data", ("cache",)),
    )
    changed = []
    for section, names in fields:
        values = getattr(config, section)
        usual = type(values)()
        changed += [f"{section}.{name}" for name in names if getattr(values, name) not in (getattr(usual, name), 0)]
    return changed + (["training.optimizer musgd"] if config.training.optimizer == "musgd" else [])
