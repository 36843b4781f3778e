"""Ultralytics' trainers as this recipe uses them: they build the parts of a training, and their own loop is not run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import outlast
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.corners import LOSS_SIGMA, SIGMA
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import Split
from outlast_recipes.yolo.schedule import weight_decay
from outlast_recipes.yolo.ultralytics_adapter.dataset import SampleDataset
from outlast_recipes.yolo.ultralytics_adapter.library import (
    DetectionTrainer,
    DetectionValidator,
    ModelEMA,
    PoseTrainer,
    PoseValidator,
    non_max_suppression,
)
from outlast_recipes.yolo.ultralytics_adapter.network import definition

_NEVER = 1e9  # seconds


class _Patient:
    """A validator without a time limit: ultralytics' own leaves boxes out when suppression takes longer than it
    expects, so that a metric depends on what else the machine does."""

    def postprocess(self: Any, preds: Any) -> list[dict[str, Any]]:
        found = non_max_suppression(
            preds,
            self.args.conf,
            self.args.iou,
            nc=self.nc,
            multi_label=True,
            max_time_img=_NEVER,
            max_det=self.args.max_det,
            end2end=self.end2end,
        )
        made = [{"bboxes": each[:, :4], "conf": each[:, 4], "cls": each[:, 5], "extra": each[:, 6:]} for each in found]
        if shape := getattr(self, "kpt_shape", None):
            for each in made:
                each["keypoints"] = each.pop("extra").view(-1, *shape)
        return made


class _BoxValidator(_Patient, DetectionValidator):
    pass


class _KeypointValidator(_Patient, PoseValidator):
    pass


class _Parts:
    """What a trainer builds: network, averaged weights, optimizer, batches and validators; for both trainers below.

    Args:
        config: values of the run.
        dataset: the data.
        device: of this rank.
        folder: a scratch folder, in which ultralytics may write and delete.
    """

    kind: str
    validators: type[Any]

    def __init__(self: Any, config: YoloConfig, dataset: Dataset, device: torch.device, folder: Path) -> None:
        self.config, self.dataset = config, dataset
        options = arguments(config, dataset) | {"task": self.kind, "save_dir": str(folder), "device": _name(device)}
        threads = torch.get_num_threads()
        super().__init__(overrides=options, _callbacks=defaultdict(list, {"none": []}))  # type: ignore[call-arg]
        torch.set_num_threads(threads)  # it sets its own number
        self.callbacks = defaultdict[str, list[Any]](list)
        self.build()

    def get_dataset(self) -> dict[str, Any]:
        return description(self.config, self.dataset)

    def get_model(self: Any, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002
        return super().get_model(definition(self.config.model.architecture), weights, verbose=False)  # type: ignore[misc]

    def build(self: Any) -> None:
        """Network, averaged weights and optimizer."""
        self.setup_model()
        self.model = self.model.to(self.device)
        if self.device.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)  # as its own loop does
        self.set_model_attributes()
        if self.kind == "pose":  # what the data say is for the measure
            self.model.kpt_oks_sigmas = _sigmas(self.config.training.loss_sigma, LOSS_SIGMA, self.dataset.keypoints)
        self.model.set_head_attr(max_det=self.args.max_det)
        self.stride = max(int(self.model.stride.max()), 32)
        if self.args.imgsz % self.stride:
            raise outlast.ConfigError(
                f"model.image_size is {self.args.imgsz}; expected a multiple of {self.stride}, such as "
                f"{math.ceil(self.args.imgsz / self.stride) * self.stride}."
            )
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = ".dfl" not in name
        self.ema = ModelEMA(self.model)
        self.model.criterion = self.model.init_criterion()
        training = self.config.training
        self.optimizer = self.build_optimizer(
            self.model,
            name=training.optimizer,
            lr=self.config.learning_rate,
            momentum=training.momentum,
            decay=weight_decay(self.config),
        )
        self.stopper, self.epoch = SimpleNamespace(possible_stop=False), 0
        self.amp, self.loss_items = self.config.mixed_precision, None

    def samples(self: Any, split: Split, batch: int, *, training: bool = False) -> SampleDataset:
        """The data of a split; augmented for a training."""
        return SampleDataset(
            self.dataset.splits[split],
            data=self.data,
            mosaics=self.config.epochs - self.config.training.close_mosaic if training else None,
            task=self.kind,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=training,
            hyp=self.args,
            rect=not training,
            cache="ram" if training and self.config.data.cache == "ram" else None,
            stride=self.stride,
            pad=0.0 if training else 0.5,
        )

    def validator_of(self: Any, split: Split) -> Any:
        """A validator of a split, with batches in the order of the samples."""
        batch = min(2 * self.config.batch_size, len(self.dataset.splits[split]))
        samples = self.samples(split, batch)
        loader = outlast.DataLoader(
            samples,
            batch,
            shuffle=False,
            split=False,
            collate_fn=samples.collate_fn,
            num_workers=self.config.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        return self.validators(loader, save_dir=self.save_dir, args=self.args, _callbacks=defaultdict(list))


class BoxTrainer(_Parts, DetectionTrainer):
    """Boxes."""

    kind, validators = "detect", _BoxValidator


class KeypointTrainer(_Parts, PoseTrainer):
    """Boxes and keypoints."""

    kind, validators = "pose", _KeypointValidator


def _seed(seed: int) -> int:
    """A seed as ultralytics takes it, which reads 32 bits; all bits of a longer one count."""
    return seed if seed < 2**31 else int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**31


def arguments(config: YoloConfig, dataset: Dataset) -> dict[str, Any]:
    """The values of a run under ultralytics' names."""
    training, augmentation = config.training, config.augmentation
    mirror = augmentation.fliplr
    return {
        "model": f"{config.model.architecture}.yaml",
        "data": "",
        "epochs": config.epochs,
        "patience": training.patience,
        "batch": config.batch_size,
        "imgsz": config.model.image_size,
        "pretrained": False,
        "optimizer": training.optimizer,
        "seed": _seed(config.seed),
        "deterministic": True,
        "amp": False,  # half precision is entered by the step itself; its own check downloads a network
        "plots": False,
        "save": False,
        "verbose": False,
        "lr0": config.learning_rate,
        "lrf": training.final_lr,
        "momentum": training.momentum,
        "weight_decay": training.weight_decay,
        "nbs": training.nominal_batch,
        "close_mosaic": training.close_mosaic,
        "multi_scale": training.multi_scale,
        "box": training.box_loss,
        "cls": training.class_loss,
        "dfl": training.dfl_loss,
        "pose": training.pose_loss,
        "kobj": training.visibility_loss,
        **augmentation.model_dump(),
        "fliplr": mirror if mirror is not None else (0.0 if dataset.keypoints else 0.5),
    }


def description(config: YoloConfig, dataset: Dataset) -> dict[str, Any]:
    """The data set in the words of ultralytics' data.yaml."""
    about: dict[str, Any] = {
        "names": dict(enumerate(dataset.names)),
        "nc": len(dataset.names),
        "channels": 3,
        "train": "train",
        "val": "val",
        "test": "test",
    }
    if dataset.keypoints:
        sigmas = _sigmas(config.training.oks_sigma, SIGMA, dataset.keypoints)
        about |= {
            "kpt_shape": [dataset.keypoints, 3],
            "flip_idx": list(dataset.flip_index or ()),
            **({"kpt_oks_sigmas": sigmas} if sigmas else {}),
        }
    return about


def _sigmas(given: float | None, of_corners: float, keypoints: int) -> list[float] | None:
    """The sigma of each keypoint; None for ultralytics' own."""
    sigma = of_corners if given is None and keypoints == 4 else given
    return None if sigma is None else [sigma] * keypoints


def measured(results: Mapping[str, float], *, keypoints: bool) -> dict[str, float]:
    """The metrics of a validation, under the names of this recipe."""
    names = {"metrics/precision": "precision", "metrics/recall": "recall", "metrics/mAP50-95": "map",
             "metrics/mAP50": "map50"}  # fmt: skip
    found = {}
    for key, value in results.items():
        stem, _, kind = key.partition("(")
        if stem in names:
            prefix = "box_" if keypoints and kind == "B)" else ""
            found[prefix + names[stem]] = float(value)
        elif key.startswith("val/"):
            found[key.removeprefix("val/")] = float(value)
    return found


def _name(device: torch.device) -> str:
    return str(device.index or 0) if device.type == "cuda" else device.type
