"""A small detector in plain torch: for machines and licences that cannot have ultralytics, and for tests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

import outlast
from outlast_recipes.common.ranks import across_ranks
from outlast_recipes.common.training import half_precision, update_average
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.corners import SIGMA
from outlast_recipes.yolo.data import Dataset, Sample
from outlast_recipes.yolo.detector import DetectorTraining, Picture, Place, Split
from outlast_recipes.yolo.precision import mean_precision
from outlast_recipes.yolo.schedule import Schedule
from outlast_recipes.yolo.tiny_network import TinyDetector, TinyNetwork, losses

DECAY = 0.99  # of the averaged weights


class TinyDataset(torch.utils.data.Dataset[Any]):
    """Augmented square images with their labels in pixels of them.

    Args:
        samples: of a split.
        config: values of the run.
    """

    def __init__(self, samples: Sequence[Sample], config: YoloConfig) -> None:
        self.samples, self.size, self.views = samples, config.model.image_size, config.augmentation

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image (3, S, S), boxes (N, 4), classes (N,), keypoints (N, K, 2); NaN where one is not labelled."""
        sample = self.samples[number]
        chance, views, size = torch.rand(6).tolist(), self.views, self.size
        scale = size / max(sample.width, sample.height) * (1 + views.scale * (2 * chance[0] - 1))
        shift = [size * views.translate * (2 * each - 1) for each in chance[1:3]]
        picture = Image.fromarray(picture_of(sample))
        affine = (1 / scale, 0, -shift[0] / scale, 0, 1 / scale, -shift[1] / scale)
        moved = picture.transform(
            (size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=(114, 114, 114)
        )
        image = torch.from_numpy(np.array(moved)).permute(2, 0, 1).float() / 255
        image = (image * (1 + views.hsv_v * (2 * chance[3] - 1))).clamp(max=1)
        points = _keypoints(sample)
        boxes = torch.from_numpy(sample.boxes) * scale + torch.tensor(shift * 2)
        points = points * scale + torch.tensor(shift)
        if chance[4] < (views.fliplr if views.fliplr is not None else 0.0 if points.shape[1] else 0.5):
            image, boxes = (
                image.flip(2),
                torch.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1),
            )
        if chance[5] < views.flipud:
            image, boxes = (
                image.flip(1),
                torch.stack([boxes[:, 0], size - boxes[:, 3], boxes[:, 2], size - boxes[:, 1]], 1),
            )
        return image, boxes, torch.from_numpy(sample.classes), points


def _keypoints(sample: Sample) -> Tensor:
    """(N, K, 2); NaN where one is not labelled, and K = 0 without keypoints."""
    if sample.keypoints is None or sample.visible is None:
        return torch.zeros(len(sample.classes), 0, 2)
    points = torch.from_numpy(sample.keypoints.copy())
    points[torch.from_numpy(sample.visible == 0)] = torch.nan
    return points


def collate(samples: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Images (B, 3, S, S), and for each its boxes, classes and keypoints."""
    return torch.stack([sample[0] for sample in samples]), [sample[1:] for sample in samples]


class TinyTraining(DetectorTraining):
    """A training of the small network.

    Args:
        config: values of the run.
        dataset: the data.
        device: of this rank.
    """

    def __init__(self, config: YoloConfig, dataset: Dataset, device: torch.device) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        self.has_test = bool(dataset.splits.get("test"))
        # All bits of the seed: on a CPU torch's own seeding reads the lower 32 only.
        torch.manual_seed(int(np.random.SeedSequence(config.seed).generate_state(1)[0]))
        self._network = TinyNetwork(len(dataset.names), dataset.keypoints).to(device)
        self._ema = copy.deepcopy(self._network).eval()
        self._model = across_ranks(self._network, device)
        self._half, self._scaler = half_precision(device, wanted=config.mixed_precision)
        self._optimizer = _optimizer(config, self._network)
        self._progress = _LastUpdate()
        self.batches = outlast.DataLoader(
            TinyDataset(dataset.splits["train"], config),
            config.batch_size,
            seed=config.seed,
            collate_fn=collate,
            num_workers=config.num_workers,
        )

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
        training, schedule = self.config.training, Schedule(self.config, place)
        self._model.train()
        for number, group in enumerate(self._optimizer.param_groups):
            peak = {"lr": self.config.learning_rate, "weight_decay": training.weight_decay if number == 0 else 0.0}
            schedule.apply(group, peak, bias=number == 1)
        with torch.autocast(self.device.type, self._half, enabled=self.config.mixed_precision):
            cells = self._model(images.to(self.device)).float()
        weights = (training.class_loss, training.box_loss / 7.5, training.pose_loss / 12)
        parts = losses(cells, labels, len(self.dataset.names), weights)
        self._scaler.scale(sum(parts.values()) / schedule.gather).backward()
        if place.step - self._progress.last >= schedule.gather:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), 10.0)
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._optimizer.zero_grad()
            update_average(self._ema, self._network, DECAY, place.step)
            self._progress.last = place.step
        return {name: each.detach() for name, each in parts.items()} | {"lr": self._optimizer.param_groups[0]["lr"]}

    def evaluate(
        self, split: Split, weights: Any = None, *, read: Callable[[Any], Iterable[Any]] = iter
    ) -> dict[str, float]:
        detector = TinyDetector(
            self._ema if weights is None else weights,
            self.dataset.names,
            self.dataset.keypoints,
            self.config.model.image_size,
        )
        samples = self.dataset.splits[split]
        found = [detector.predict([picture_of(sample)], confidence=0.01)[0] for sample in read(list(samples))]
        metrics = mean_precision(found, samples)
        if not self.dataset.keypoints:
            return metrics
        sigma = self.config.training.oks_sigma or SIGMA
        of_boxes = {f"box_{name}": value for name, value in metrics.items()}
        return mean_precision(found, samples, sigma=sigma) | of_boxes

    def detector(self, weights: Any = None) -> TinyDetector:
        return self._detector(copy.deepcopy(self._ema if weights is None else weights).eval())

    def _detector(self, network: nn.Module) -> TinyDetector:
        return TinyDetector(network, self.dataset.names, self.dataset.keypoints, self.config.model.image_size)

    def close(self) -> None:
        self.batches.close()


class _LastUpdate:
    """The batch after which the weights were updated last."""

    last = 0

    def state_dict(self) -> dict[str, int]:
        return {"last": self.last}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.last = int(state["last"])


def picture_of(sample: Sample) -> Picture:
    """The picture of a sample, as it was labelled."""
    with Image.open(sample.path) as opened:
        return np.array(ImageOps.exif_transpose(opened).convert("RGB"))


def _optimizer(config: YoloConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Two groups: weights of convolutions, which decay, and all others."""
    decays = [each for each in network.parameters() if each.dim() > 1]
    others = [each for each in network.parameters() if each.dim() <= 1]
    groups, rate, momentum = [{"params": decays}, {"params": others}], config.learning_rate, config.training.momentum
    kind = config.training.optimizer
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
    if kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)
    return (torch.optim.Adam if kind == "adam" else torch.optim.AdamW)(groups, lr=rate, betas=(momentum, 0.999))


def unknown_values(config: YoloConfig) -> list[str]:
    """Values of a config that another architecture uses and this one does not, as far as they were changed."""
    fields = (
        ("training", ("close_mosaic", "multi_scale", "dfl_loss", "visibility_loss", "loss_sigma")),
        ("augmentation", ("hsv_h", "hsv_s", "degrees", "shear", "perspective", "mosaic", "mixup", "cutmix")),
        ("data", ("cache",)),
    )
    changed = []
    for section, names in fields:
        values = getattr(config, section)
        usual = type(values)()
        changed += [f"{section}.{name}" for name in names if getattr(values, name) != getattr(usual, name)]
    return changed + (["training.optimizer musgd"] if config.training.optimizer == "musgd" else [])
