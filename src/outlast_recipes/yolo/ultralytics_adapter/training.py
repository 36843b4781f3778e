"""A training of ultralytics' networks in steps of the run: its forward, loss, optimizer and validation, and all that is
state as parts of the run."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import outlast
from outlast_recipes.common.ranks import across_ranks, several_ranks
from outlast_recipes.common.training import half_precision, loader_options
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import DetectorTraining, Place, Split
from outlast_recipes.yolo.schedule import Schedule
from outlast_recipes.yolo.ultralytics_adapter.kernels import Kernels
from outlast_recipes.yolo.ultralytics_adapter.network import UltralyticsDetector
from outlast_recipes.yolo.ultralytics_adapter.trainer import BoxTrainer, KeypointTrainer, measured


class Progress:
    """What else changes in a training: the last update of the weights, and weights of losses that move.

    Args:
        trainer: whose averaged weights and loss are looked at.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.last_update = 0

    def state_dict(self) -> dict[str, Any]:
        loss = self._trainer.model_alone.criterion
        return {
            "last_update": self.last_update,
            "ema_updates": self._trainer.ema.updates,
            "loss": {name: getattr(loss, name) for name in _MOVING if hasattr(loss, name)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.last_update = int(state["last_update"])
        self._trainer.ema.updates = int(state["ema_updates"])
        for name in _MOVING:
            if name in state["loss"]:
                setattr(self._trainer.model_alone.criterion, name, state["loss"][name])


_MOVING = ("updates", "o2m", "o2o")  # of the end-to-end loss of yolo26


class UltralyticsTraining(DetectorTraining):
    """A training of one of ultralytics' networks.

    Args:
        config: values of the run.
        dataset: the data.
        device: of this rank.
    """

    def __init__(self, config: YoloConfig, dataset: Dataset, device: torch.device) -> None:
        self.config, self.device = config, device
        self.has_test = bool(dataset.splits.get("test"))
        self._keypoints = dataset.keypoints if config.model.architecture.endswith("-pose") else 0
        self._scratch = Path(tempfile.mkdtemp(prefix="outlast-yolo-train-"))
        kind = KeypointTrainer if self._keypoints else BoxTrainer
        self._kernels = Kernels()
        self.trainer: Any = kind(config, dataset, device, self._scratch)
        self._kernels.keep()
        trainer = self.trainer
        trainer.model_alone = trainer.model
        trainer.model = across_ranks(trainer.model, device, unused=True)  # a share without objects has no box loss
        self._half, trainer.scaler = half_precision(device, wanted=config.mixed_precision)
        self._peaks = [
            {"lr": group["lr"], "weight_decay": group["weight_decay"]} for group in trainer.optimizer.param_groups
        ]
        self._progress = Progress(trainer)
        samples = trainer.samples("train", config.batch_size, training=True)
        self.batches = outlast.DataLoader(
            samples,
            config.batch_size,
            seed=config.seed,
            collate_fn=samples.collate_fn,
            **loader_options(config),
        )
        samples.follow(self.batches.sampler)
        self._validators: dict[str, Any] = {}

    def parts(self) -> dict[str, Any]:
        trainer = self.trainer
        return {
            "model": trainer.model,
            "ema": trainer.ema.ema,
            "optimizer": trainer.optimizer,
            "scaler": trainer.scaler,
            "progress": self._progress,
            "data": self.batches,
        }

    def step(self, batch: Any, place: Place) -> dict[str, Any]:
        trainer = self.trainer
        if not trainer.model.training:
            trainer.model.train()
        schedule = Schedule(self.config, place)
        for group, peak in zip(trainer.optimizer.param_groups, self._peaks, strict=True):
            schedule.apply(group, peak, bias=group.get("param_group") == "bias")
        with torch.autocast(self.device.type, self._half, enabled=self.config.mixed_precision):
            losses, items = trainer.model(trainer.preprocess_batch(batch))
        # The loss is a sum over the samples of this rank, and gradients are averaged over ranks.
        total = losses.sum() * (torch.distributed.get_world_size() if several_ranks() else 1)
        trainer.scaler.scale(total).backward()
        trainer.loss_items = items
        if place.step - self._progress.last_update >= schedule.gather:
            trainer.optimizer_step()
            self._progress.last_update = place.step
        if place.step % place.per_epoch == 0 and hasattr(trainer.model_alone.criterion, "update"):
            trainer.model_alone.criterion.update()
        return {**items, "lr": trainer.optimizer.param_groups[0]["lr"]}

    def evaluate(
        self, split: Split, weights: Any = None, *, read: Callable[[Any], Iterable[Any]] = iter
    ) -> dict[str, float]:
        trainer = self.trainer
        if split not in self._validators:
            self._validators[split] = trainer.validator_of(split)
        validator = self._validators[split]
        loader = validator.dataloader
        if trainer.loss_items is None:  # no step was made in this attempt
            loss = trainer.model_alone.criterion
            names = getattr(loss, "one2one", loss).loss_names
            trainer.loss_items = {name: torch.zeros((), device=self.device) for name in names}
        ema = trainer.ema.ema
        trainer.ema.ema = ema if weights is None else weights
        validator.dataloader = _Read(loader, read)
        try:
            results = validator(trainer)
        finally:
            trainer.ema.ema, validator.dataloader = ema, loader
        return measured(results, keypoints=bool(self._keypoints))

    def detector(self, weights: Any = None) -> UltralyticsDetector:
        network = copy.deepcopy(self.trainer.ema.ema if weights is None else weights).eval()
        dataset, model = self.trainer.dataset, self.config.model
        return UltralyticsDetector(network, model.architecture, dataset.names, self._keypoints, model.image_size)

    def close(self) -> None:
        self.batches.close()
        for validator in self._validators.values():
            validator.dataloader.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._kernels.restore()


class _Read:
    """The batches of a loader, as a function gives them."""

    def __init__(self, loader: Any, read: Callable[[Any], Iterable[Any]]) -> None:
        self.dataset, self._loader, self._read = loader.dataset, loader, read

    def __iter__(self) -> Iterator[Any]:
        return iter(self._read(self._loader))

    def __len__(self) -> int:
        return len(self._loader)
