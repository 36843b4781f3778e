"""Data, network and training of digits."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import outlast
from outlast import Run
from outlast_recipes.common.optimizers import AdamW
from outlast_recipes.common.training import (
    device_of,
    few_steps,
    half_precision,
    loader_options,
    update_average,
    warmup_cosine,
)
from outlast_recipes.digits.data_commands import COMMANDS

if TYPE_CHECKING:
    from outlast_recipes.digits.recipe import Config, Model

SPLITS = {"train": (0, 1197), "val": (1197, 1497), "test": (1497, 1797)}


def splits(config: Config) -> dict[str, TensorDataset]:
    """Images (N, 1, 8, 8) in 0..1 and labels (N,), shuffled once with a fixed seed and cut into three."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(images).float().view(-1, 1, 8, 8)[order] / 16, torch.from_numpy(labels)[order]
    cut = {name: TensorDataset(x[a:b], y[a:b]) for name, (a, b) in SPLITS.items()}
    cut["train"] = TensorDataset(*cut["train"][: config.data.samples or (256 if config.debug else None)])
    return cut


def build(config: Model) -> nn.Module:
    width, act = config.width, nn.ReLU if config.activation == "relu" else nn.GELU

    def block(channels: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), act()]

    layers = [*block(1, width), *block(width, 2 * width), nn.MaxPool2d(2), *block(2 * width, 2 * width)]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(8 * width, 10)]
    return nn.Sequential(*layers, *head)


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset, device: torch.device) -> float:
    x, y = data.tensors
    return (model(x.to(device)).argmax(1) == y.to(device)).float().mean().item()


def train(run: Run, config: Config) -> None:
    outlast.seed_everything(config.seed)
    device = device_of(config.device)
    data = splits(config)
    model = build(config.model).to(device)
    average = copy.deepcopy(model).eval()
    optimizer = AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    half, scaler = half_precision(device, wanted=config.mixed_precision)
    size = max(1, config.batch_size // config.accumulate)
    loader = outlast.DataLoader(data["train"], size, seed=config.seed, drop_last=True, **loader_options(config))
    keep = {"optimizer": ["lr", "weight_decay"]}  # both are set in every step
    run.track(keep=keep, model=model, ema=average, optimizer=optimizer, scaler=scaler, data=loader)
    if few := few_steps(len(data["train"]), config.batch_size, -(-len(loader) // config.accumulate), config.epochs):
        run.tell(few)

    for x, y in run.batches(loader, epochs=config.epochs, accumulate=config.accumulate):
        if config.data.augment:
            x = torch.roll(x, torch.randint(-1, 2, (2,)).tolist(), (2, 3))
        with torch.autocast(device.type, half, enabled=config.mixed_precision):
            loss = F.cross_entropy(model(x.to(device)), y.to(device), label_smoothing=0.05)
        scaler.scale(loss / config.accumulate).backward()
        if run.update_due:
            share = warmup_cosine(run.step, run.total_steps or 1, config.warmup)
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = config.learning_rate * share, config.weight_decay
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            update_average(average, model, config.ema, run.step)
            if run.step % (1 if config.debug else config.log_every) == 0:
                run.log(loss=loss, lr=optimizer.param_groups[0]["lr"])
        if run.epoch_end:
            run.log(val_accuracy=accuracy(average, data["val"], device))

    run.log(test_accuracy=accuracy(average, data["test"], device))  # read once, by a finished run


commands = COMMANDS


def check(config: Any) -> str:
    device_of(config.device)
    sizes = {name: len(split) for name, split in splits(config).items()}
    return f"scikit-learn's handwritten digits: {', '.join(f'{size} {name}' for name, size in sizes.items())}"
