"""LAST on a prepared store of skeletons. Not registered yet: train it by its path while the rest is being built.

Chosen by validation subjects, who are taken out of the training part; the test is read once, at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import outlast
from outlast import Run, Section, setting
from outlast_recipes.skeleton.augment import Strength, augmented, centre, collate
from outlast_recipes.skeleton.layouts import LAYOUTS, Layout
from outlast_recipes.skeleton.model import SIZES, Last, Routing, Shift, Streams
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.store import Store
from outlast_recipes.training import half_precision, update_average, warmup_cosine


class Data(Section):
    split: str = setting("xsub", "xsub, xview, xset, cameras, or subjects", flags=("--split",))
    train_subjects: tuple[int, ...] = setting(
        (), "who is trained on, with --split subjects", flags=("--train-subjects",)
    )
    validate_subjects: int = setting(5, "training subjects that are kept back to choose by", ge=0)
    frames: int = setting(64, "frames of a view, a multiple of 4", ge=8)


class Model(Section):
    size: Literal["nano", "tiny", "small", "base", "large"] = setting("base", "channels and depth")
    streams: Streams = setting("fused", "what it sees: joints, bones and velocities at once, or one of them")
    shift: Shift = setting("adaptive", "shifts in time: learned, at fixed scales, as in TSM, or none")
    routing: Routing = setting("adaptive", "mixing of joints: learned and by sample, learned, or none")
    attention: bool = setting(default=True, help="attention over time at the end of each stage")
    bodies: int = setting(2, "bodies that it looks at", ge=1, le=2)
    dropout: float = setting(0.1, "share of the last features to drop", ge=0, lt=1)
    drop_path: float | None = setting(
        None, "share of samples that skip the deepest block; by size when not given", ge=0, lt=1
    )


class Views(Section):
    crop: float = setting(0.5, "the shortest share of a clip that a view shows", gt=0, le=1)
    turn: float = setting(0.3, "radians about each axis", ge=0)
    scale: float = setting(0.2, "share by which each axis grows or shrinks", ge=0, lt=1)
    shear: float = setting(0.1, "of each axis by each other", ge=0)
    mirror: float = setting(0.5, "chance of left and right being exchanged", ge=0, le=1)
    swap: float = setting(0.5, "chance of the two bodies being exchanged", ge=0, le=1)
    drop_axis: float = setting(0.0, "chance of an axis being zero", ge=0, le=1)
    drop_joints: float = setting(0.1, "chance of a fifth of the joints being zero", ge=0, le=1)
    drop_time: float = setting(0.1, "chance of a fifth of the frames being zero", ge=0, le=1)


class Config(outlast.Config):
    epochs: int = setting(200, "passes over the data", on_resume="free", flags=("-e",), aliases=("max_epochs",), ge=0)
    batch_size: int = setting(128, "clips per optimizer step", flags=("-b",), ge=2)
    learning_rate: float = setting(
        2e-3, "peak learning rate; 0.1 is usual for sgd", flags=("--lr",), aliases=("lr",), ge=0
    )
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "AdamW, or SGD with Nesterov's momentum")
    weight_decay: float = setting(0.05, "weight decay; none on norms, biases and shifts", ge=0)
    warmup: float = setting(0.05, "share of the steps in which the learning rate rises", ge=0, le=1)
    label_smoothing: float = setting(0.1, "label smoothing", ge=0, lt=1)
    ema: float = setting(0.9995, "decay of the averaged weights that are evaluated", ge=0, lt=1)
    data: Data = setting(Data(), "data", on_resume="fixed")
    model: Model = setting(Model(), "model", on_resume="fixed")
    views: Views = setting(Views(), "views")


class Clips:
    """Some clips of a store, as tensors."""

    def __init__(self, store: Store, numbers: list[int]) -> None:
        self.store, self.numbers = store, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        joints, mask = self.store[self.numbers[number]]
        return torch.from_numpy(joints), torch.from_numpy(mask), self.store.entries[self.numbers[number]].label


def opened(config: Config) -> tuple[Store, dict[str, Clips], int]:
    """The store, its parts, and the number of classes."""
    if config.data_root is None:
        raise outlast.ConfigError("skeleton needs --data-root: the folder of a prepared store.")
    store = Store(Path(config.data_root))
    parts = split(
        store.entries,
        config.data.split,
        train_subjects=config.data.train_subjects,
        validate=config.data.validate_subjects,
    )
    if config.debug:
        parts = {name: numbers[: 4 * config.batch_size] for name, numbers in parts.items()}
    classes = 1 + max(entry.label for entry in store.entries)
    return store, {name: Clips(store, numbers) for name, numbers in parts.items()}, classes


def build(config: Config, classes: int, layout: Layout) -> Last:
    model = config.model
    return Last(
        SIZES[model.size],
        classes,
        layout,
        frames=config.data.frames,
        kind=model.streams,
        shift=model.shift,
        routing=model.routing,
        attention=model.attention,
        bodies=model.bodies,
        dropout=model.dropout,
        drop_path=model.drop_path,
    )


def optimizer_of(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """Weights of convolutions and linear layers decay; all else does not."""
    decayed = [
        parameter for name, parameter in model.named_parameters() if parameter.dim() > 1 and name.endswith("weight")
    ]
    ids = {id(parameter) for parameter in decayed}
    others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate)


@torch.no_grad()
def accuracy(model: nn.Module, clips: Clips, frames: int, device: torch.device, batch: int = 256) -> float:
    """Share of clips whose class is the likeliest, on centred views."""
    right = 0
    for joints, mask, lengths, labels in _batches(clips, batch):
        views, seen = centre(joints.to(device), mask.to(device), lengths, frames)
        right += int((model(views, seen).argmax(1).cpu() == labels).sum())
    return right / max(1, len(clips))


def _batches(clips: Clips, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for start in range(0, len(clips), size):
        yield collate([clips[number] for number in range(start, min(start + size, len(clips)))])


def device_of(config: Config) -> torch.device:
    if config.device != "auto":
        return torch.device(config.device)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def train(run: Run, config: Config) -> None:
    outlast.seed_everything(config.seed)
    device = device_of(config)
    store, parts, classes = opened(config)
    layout = LAYOUTS[store.layout]
    network = build(config, classes, layout).to(device)
    average = copy.deepcopy(network).eval()
    optimizer = optimizer_of(config, network)
    model: nn.Module = DistributedDataParallel(network) if torch.distributed.is_initialized() else network
    half, scaler = half_precision(device, wanted=config.mixed_precision)
    loader = outlast.DataLoader(
        parts["train"],
        config.batch_size,
        seed=config.seed,
        drop_last=True,
        num_workers=config.num_workers,
        collate_fn=collate,
    )
    strength = Strength(**config.views.model_dump())
    run.track(model=model, ema=average, optimizer=optimizer, scaler=scaler, data=loader)

    for joints, mask, lengths, labels in run.batches(loader, epochs=config.epochs):
        model.train()
        views, seen = augmented(joints.to(device), mask.to(device), lengths, config.data.frames, layout, strength)
        with torch.autocast(device.type, half, enabled=config.mixed_precision):
            loss = F.cross_entropy(
                model(views, seen).float(), labels.to(device), label_smoothing=config.label_smoothing
            )
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_cosine(run.step, run.total_steps or 1, config.warmup)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        update_average(average, network, config.ema, run.step)
        if run.step % (1 if config.debug else config.log_every) == 0:
            run.log(loss=loss, lr=optimizer.param_groups[0]["lr"])
        if run.epoch_end and len(parts["val"]):
            run.log(val_accuracy=accuracy(average, parts["val"], config.data.frames, device))

    run.log(test_accuracy=accuracy(average, parts["test"], config.data.frames, device))  # read once, by a finished run


def check(config: Any) -> str:
    store, parts, classes = opened(config)
    sizes = ", ".join(f"{len(clips)} {name}" for name, clips in parts.items())
    return f"{len(store)} clips of {classes} classes ({store.layout}): {sizes}; {len(store.refused)} files were refused"


recipe = outlast.Recipe(
    name="skeleton",
    summary="actions from skeletons with LAST, a light transformer that shifts (PyTorch)",
    Config=Config,
    train=train,
    metric="val_accuracy",
    part="ema",
    check=check,
    ranks=True,
)
