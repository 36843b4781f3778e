"""Ultralytics alone: its own loop, checkpoints and resume, with the values of a config of the recipe."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
import yaml
from benchmarks.yolo import clock

import outlast
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.ultralytics_adapter.library import DetectionTrainer
from outlast_recipes.yolo.ultralytics_adapter.trainer import BoxTrainer, arguments


class Killed(Exception):
    """Stands for the end of a session."""


class Alone(DetectionTrainer):
    """Ultralytics' trainer as it is; it can be killed after an epoch, as by the end of a session."""

    kill_after: int | None = None
    weights: Any = None

    def run_callbacks(self, event: str) -> None:
        if event == "on_train_batch_start":
            clock.begin()
        if event == "on_fit_epoch_end" and self.epoch < self.epochs:  # and not after its last validation of the best
            clock.end()
        super().run_callbacks(event)

    def save_model(self) -> bool:
        saved = super().save_model()
        # The file holds float16; the live averages are kept to compare as many bits as there are.
        type(self).weights = {name: each.clone() for name, each in self.ema.ema.state_dict().items()}
        if self.epoch + 1 == self.kill_after:
            raise Killed
        return saved


class Fed(Alone):
    """The same loop, with the batches of the recipe."""

    feed: tuple[YoloConfig, Dataset]

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        if mode != "train":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        config, dataset = self.feed
        maker: Any = object.__new__(BoxTrainer)  # only its function that makes samples is used
        maker.config, maker.dataset, maker.data, maker.args, maker.stride = config, dataset, self.data, self.args, 32
        samples = maker.samples("train", config.batch_size, training=True)
        loader = outlast.DataLoader(samples, config.batch_size, seed=config.seed, collate_fn=samples.collate_fn)
        samples.follow(loader.sampler)
        return _Loader(loader, samples, config.batch_size)


class _Loader:
    """The recipe's loader with the attributes that ultralytics' loop asks for."""

    drop_last, num_workers = False, 0

    def __init__(self, loader: Any, samples: Any, batch_size: int) -> None:
        self.loader, self.dataset, self.sampler, self.batch_size = loader, samples, samples, batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        return iter(self.loader)

    def reset(self) -> None:
        pass

    def close(self) -> None:
        self.loader.close()


def describe(dataset: Dataset, folder: Path) -> Path:
    """A data.yaml with a list of images for each split; labels lie beside the images, in a copy of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"path": str(folder), "names": dict(enumerate(dataset.names))}
    for split, samples in dataset.splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{sample.path}\n" for sample in samples))
        about[split] = f"{split}.txt"
    (folder / "data.yaml").write_text(yaml.safe_dump(about))
    return folder / "data.yaml"


def train(
    kind: type[Alone], config: YoloConfig, dataset: Dataset, folder: Path, *, kill_after: int | None = None
) -> dict[str, torch.Tensor]:
    """Train in a folder until the end, or until it is killed; returns the averaged weights after the last epoch."""
    values = arguments(config, dataset) | {
        "data": str(describe(dataset, folder.parent / "data")),
        "cos_lr": config.training.lr_scheduler == "cosine",
        "warmup_epochs": config.training.warmup_epochs,
        "warmup_momentum": config.training.warmup_momentum,
        "warmup_bias_lr": config.training.warmup_bias_lr,
        "save": True,
        "save_dir": str(folder),
        "device": "cpu",
    }
    last = folder / "weights/last.pt"
    if last.exists():
        values |= {"resume": str(last), "model": str(last)}
    trainer = kind(overrides=values)
    trainer.kill_after = kill_after
    with contextlib.suppress(Killed):
        trainer.train()
    return kind.weights
