"""Actions from skeletons with LAST.

Chosen by validation subjects, who are taken out of the training part; the test is read once, at the end, with the averaged weights of the last step
and with those that were best on validation.
Data: any folder of NTU-named .skeleton files, NW-UCLA or UTKinect, made into a store by the first training, or by `outlast data prepare skeleton`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

import outlast
from outlast import Run, Section, setting
from outlast_recipes.common.auto_prepare import NotPrepared, store_of
from outlast_recipes.common.classification import accuracies, example
from outlast_recipes.common.clip_store import Store
from outlast_recipes.common.training import (
    across_ranks,
    device_of,
    few_steps,
    half_precision,
    keep_freed_memory,
    mean_of_ranks,
    update_average,
    warmup_cosine,
)
from outlast_recipes.skeleton import commands
from outlast_recipes.skeleton.augment import Strength, collate
from outlast_recipes.skeleton.distill import Loss, TeacherLogits, distance
from outlast_recipes.skeleton.layouts import LAYOUTS, Layout
from outlast_recipes.skeleton.model import SIZES, Last, Routing, Shift, Streams, macs, parameters
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.views import Part, Views


class Data(Section):
    split: str = setting("xsub", "xsub, xview, xset, cameras, or subjects", flags=("--split",))
    train_subjects: tuple[int, ...] = setting(
        (), "who is trained on, with --split subjects", flags=("--train-subjects",)
    )
    validate_subjects: int | None = setting(
        None, "training subjects that are kept back to choose by; a tenth of them when not given", ge=0
    )
    frames: int = setting(64, "frames of a view, a multiple of 4", ge=8, multiple_of=4)


class Model(Section):
    size: Literal["nano", "tiny", "small", "base", "large"] = setting(
        "base", "channels and depth", aliases=("model.variant",)
    )
    streams: Streams = setting("fused", "what it sees: joints, bones and velocities at once, or one of them")
    shift: Shift = setting("adaptive", "shifts in time: learned, at fixed scales, as in TSM, or none")
    routing: Routing = setting("adaptive", "mixing of joints: learned and by sample, learned, or none")
    attention: bool = setting(default=True, help="attention over time at the end of each stage")
    bodies: int = setting(2, "bodies that it looks at", ge=1, le=2)
    dropout: float = setting(0.1, "share of the last features to drop", ge=0, lt=1)
    drop_path: float | None = setting(
        None, "share of samples that skip the deepest block; by size when not given", ge=0, lt=1
    )


class Augment(Section):
    crop: float = setting(0.5, "the shortest share of a clip that a view shows", gt=0, le=1)
    turn: float = setting(0.3, "radians about each axis", ge=0)
    yaw: float = setting(0.0, "radians more about the vertical, where cameras stand elsewhere in the test", ge=0)
    scale: float = setting(0.2, "share by which each axis grows or shrinks", ge=0, lt=1)
    shear: float = setting(0.1, "of each axis by each other", ge=0)
    mirror: float = setting(0.5, "chance of left and right being exchanged", ge=0, le=1)
    swap: float = setting(0.5, "chance of the two bodies being exchanged", ge=0, le=1)
    bones: float = setting(0.2, "chance of bones as long as those of another clip of the class", ge=0, le=1)
    drop_axis: float = setting(0.0, "chance of an axis being zero", ge=0, le=1)
    drop_joints: float = setting(0.1, "chance of a fifth of the joints being zero", ge=0, le=1)
    drop_time: float = setting(0.1, "chance of a fifth of the frames being zero", ge=0, le=1)


class Distill(Section):
    teacher_logits: Path | None = setting(
        None, "file that `outlast teacher-logits` wrote", on_resume="place", flags=("--teacher-logits",), aliases=("kaggle_datasets.teacher_logits",)
    )  # fmt: skip
    loss: Loss = setting("standardised", "how logits are compared: kl, standardised, dkd or dist")
    temperature: float | None = setting(None, "divides logits before the softmax; that of the paper by default", gt=0)
    weight: float = setting(1.0, "of this loss beside cross-entropy, at the start", ge=0)
    last_weight: float = setting(0.5, "the same at the end", ge=0)


class Config(outlast.Config):
    data_root: Path | None = setting(
        None, "folder of raw files or of a prepared store, or one that holds it", on_resume="place", flags=("--data-path",), aliases=("kaggle_datasets.ntu120_skeletons",)
    )  # fmt: skip
    epochs: int = setting(200, "passes over the data", on_resume="free", flags=("-e",), aliases=("max_epochs",), ge=1)
    batch_size: int = setting(128, "clips per optimizer step", flags=("-b",), ge=2)
    learning_rate: float = setting(
        2e-3, "peak learning rate; 0.1 is usual for sgd", flags=("--lr",), aliases=("lr",), ge=0
    )
    mode: Literal["auto", "baseline", "distill"] = setting(
        "auto", "with a teacher (distill) or without (baseline); auto: with one when its logits are given"
    )
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "AdamW, or SGD with Nesterov's momentum")
    weight_decay: float = setting(0.05, "weight decay; none on norms, biases and shifts", ge=0)
    warmup: float = setting(0.05, "share of the steps in which the learning rate rises", ge=0, le=1)
    label_smoothing: float = setting(0.1, "label smoothing", ge=0, lt=1)
    ema: float = setting(0.9995, "decay of the averaged weights that are evaluated", ge=0, lt=1)
    data: Data = setting(Data(), "data", on_resume="fixed")
    model: Model = setting(Model(), "model", on_resume="fixed")
    augment: Augment = setting(Augment(), "views")
    distill: Distill = setting(Distill(), "teacher")


def opened(config: Config, *, whole: bool = False, run: Run | None = None) -> tuple[Store, dict[str, Part], int]:
    """The store, its parts, and the number of classes.

    Args:
        config: the values of a run.
        whole: even when --debug asks for a small part of them.
        run: for which a store is made of raw files, when there is none.

    Raises:
        outlast.ConfigError: a batch is larger than the training part; see `store_of` and `split` for the rest.
    """
    if config.data_root is None:
        raise outlast.ConfigError(
            "skeleton needs --data-root: a folder of .skeleton, NW-UCLA or UTKinect files, or a store that `outlast data prepare skeleton` made."
        )
    store = store_of(config.data_root, config.checkpoint_dir, run)
    parts = split(
        store.entries,
        config.data.split,
        train_subjects=config.data.train_subjects,
        validate=config.data.validate_subjects,
    )
    if config.debug and not whole:
        parts = {name: spread(numbers, 4 * config.batch_size) for name, numbers in parts.items()}
    if len(parts["train"]) < config.batch_size:
        raise outlast.ConfigError(
            f"--batch-size is {config.batch_size}, and there are {len(parts['train'])} clips to train on: give at most so many."
        )
    return store, {name: Part(store, numbers) for name, numbers in parts.items()}, len(store.classes)


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """At most so many of them, at equal distances."""
    return [numbers[at * len(numbers) // count] for at in range(count)] if len(numbers) > count else list(numbers)


def teacher_of(config: Config) -> TeacherLogits | None:
    """The teacher's logits, held against the data; None when this is no distillation."""
    path = config.distill.teacher_logits
    if config.mode == "baseline" or (config.mode == "auto" and path is None):
        return None
    if path is None:
        raise outlast.ConfigError(
            "mode is distill, and there are no teacher logits: give --teacher-logits FILE, made by `outlast teacher-logits skeleton RUN`, "
            "or --mode baseline."
        )
    teacher = TeacherLogits(path)
    store, parts, classes = opened(config, whole=True)
    teacher.check(store, [store.entries[number].name for number in parts["train"].numbers], classes, config.data.frames)
    return teacher


def views_of(config: Config, parts: Mapping[str, Part], teacher: TeacherLogits | None) -> Views:
    """The views of this training; a teacher's own where there is one."""
    if teacher is None:
        strength = Strength(**config.augment.model_dump())
        return Views(parts["train"], config.data.frames, strength, config.seed)
    store = parts["train"].store
    rows = {entry.name: number for number, entry in enumerate(store.entries)}
    lenders = Part(store, [rows[name] for name in teacher.about.names])
    return Views(lenders, teacher.about.frames, teacher.about.strength, teacher.about.seed)


def build(config: Config, classes: int, layout: Layout) -> nn.Module:
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


class Choice:
    """The epoch whose averaged weights were best on validation so far, and how good they were."""

    def __init__(self) -> None:
        self.epoch, self.accuracy = 0, -1.0

    def state_dict(self) -> dict[str, Any]:
        return vars(self).copy()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


class Labels:
    """What a run was begun on: kept with the network, so that it can be used without its data, and never exchanged.

    Attributes:
        layout: of the joints.
        classes: names.
        data: hash of the store.
        teacher: hash of a teacher's logits, or empty.
    """

    def __init__(self, layout: str, classes: Sequence[str], data: str, teacher: str) -> None:
        self.layout, self.classes, self.data, self.teacher = layout, list(classes), data, teacher

    def state_dict(self) -> dict[str, Any]:
        return vars(self).copy()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for key, words in (
            ("layout", "joints"),
            ("classes", "classes"),
            ("data", "data (their hash)"),
            ("teacher", "teacher logits (their hash)"),
        ):
            if state[key] != getattr(self, key):
                raise ValueError(
                    f"the run was begun with the {words} {state[key] or 'none'}, and now there are {getattr(self, key) or 'none'}"
                )


Build = Callable[[Config, int, Layout], nn.Module]


def train(run: Run, config: Config, build: Build = build) -> None:
    outlast.seed_everything(config.seed)
    device = device_of(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    store, parts, classes = opened(config, run=run)
    teacher = teacher_of(config)
    views = views_of(config, parts, teacher)
    network = build(config, classes, LAYOUTS[store.layout]).to(device)
    model = across_ranks(network, device)
    average = copy.deepcopy(network).eval()
    best, choice = copy.deepcopy(average), Choice()
    optimizer = optimizer_of(config, network)
    half, scaler = half_precision(device, wanted=config.mixed_precision)
    loader = outlast.DataLoader(
        parts["train"],
        config.batch_size,
        seed=config.seed,
        drop_last=True,
        num_workers=config.num_workers,
        collate_fn=collate,
    )
    run.track(
        model=model,
        ema=average,
        best=best,
        choice=choice,
        labels=Labels(store.layout, store.classes, store.hash, teacher.hash if teacher else ""),
        optimizer=optimizer,
        scaler=scaler,
        data=loader,
    )

    if few := few_steps(len(parts["train"]), config.batch_size, len(loader), config.epochs):
        run.tell(few)
    for batch in run.batches(loader, epochs=config.epochs):
        model.train()
        turn = (run.epoch or 1) if teacher is None else ((run.epoch or 1) - 1) % teacher.views
        joints, seen = views(batch, turn, device)
        labels = batch.labels.to(device)
        progress = run.step / (run.total_steps or 1)
        with torch.autocast(device.type, half, enabled=config.mixed_precision):
            logits = model(joints, seen).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        logged = {"loss": loss}
        if teacher is not None:
            goal = teacher.of(store, batch, turn).to(device)
            logged["distance"] = distance(logits, goal, labels, config.distill.loss, config.distill.temperature)
            loss = loss + weight_at(config.distill, progress) * logged["distance"]
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
            run.log(
                **{name: mean_of_ranks(value) for name, value in logged.items()}, lr=optimizer.param_groups[0]["lr"]
            )
        if run.epoch_end and len(parts["val"]):
            right, _ = accuracies(average, parts["val"], config.data.frames, device)
            run.log(val_accuracy=right)
            if right >= choice.accuracy:  # of equal ones the later, which has learnt more
                choice.epoch, choice.accuracy = run.epoch or 0, right
                best.load_state_dict(average.state_dict())

    if len(parts["test"]):
        log_test(run, parts["test"], config, average, best, choice)
    else:
        run.tell(f"--split {config.data.split} leaves no clip for the test, so nothing is reported on it.")


def log_test(run: Run, test: Part, config: Config, average: nn.Module, best: nn.Module, choice: Choice) -> None:
    """What the last averaged weights and the chosen ones reach on the test: read once, by a finished run, and nothing is chosen by it."""
    device = device_of(config.device)
    one, five = accuracies(average, test, config.data.frames, device)
    reached: dict[str, Any] = {"test_accuracy": one, "test_top5": five}
    if choice.epoch:
        one, five = accuracies(best, test, config.data.frames, device)
        reached |= {"best_epoch": choice.epoch, "best_test_accuracy": one, "best_test_top5": five}
    run.log(**reached)


def weight_at(distill: Distill, progress: float) -> float:
    """Of the teacher beside the labels: from the first weight to the last along a cosine."""
    return distill.last_weight + (distill.weight - distill.last_weight) * (0.5 + 0.5 * math.cos(math.pi * progress))


def check(config: Any) -> str:
    device_of(config.device)
    try:
        store, parts, classes = opened(config)
    except NotPrepared as error:  # nothing is in the way of a training
        return str(error)
    teacher = teacher_of(config)
    sizes = ", ".join(f"{len(clips)} {name}" for name, clips in parts.items())
    few = few_steps(len(parts["train"]), config.batch_size, len(parts["train"]) // config.batch_size, config.epochs)
    taught = f"; taught by {teacher.about.teacher}, {teacher.views} views a clip" if teacher else ""
    layout = LAYOUTS[store.layout]
    network = build(config, classes, layout)
    work = macs(network, example(layout, config.data.frames, bodies=config.model.bodies))
    return (
        f"{len(store)} clips of {classes} classes ({store.layout}): {sizes}; {len(store.refused)} files were refused{taught}; "
        f"LAST {config.model.size}, {parameters(network):,} parameters, {work / 1e9:.3f} GMAC a clip{'; ' + few if few else ''}"
    )


def restored(opened_run: outlast.Saved, part: str | None = None) -> tuple[nn.Module, Labels]:
    """The network of a checkpoint, ready to be used, and what its numbers mean.

    Raises:
        outlast.OutlastError: the weights that were best on validation are asked for before there was a validation.
    """
    if part == "best" and not opened_run.part("choice")["epoch"]:
        raise outlast.OutlastError(
            f"{opened_run.run_id} has no weights that were best on validation at step {opened_run.step}: no epoch had ended, or nobody was "
            "kept back to choose by (--data.validate-subjects)."
        )
    labels = Labels(**opened_run.part("labels"))
    network = build(opened_run.config, len(labels.classes), LAYOUTS[labels.layout])
    network.load_state_dict(opened_run.part(part))
    return network.eval(), labels


recipe = outlast.Recipe(
    name="skeleton",
    summary="actions from skeletons with LAST, a light transformer that shifts (PyTorch)",
    Config=Config,
    train=train,
    metric="val_accuracy",
    part="ema",
    check=check,
    ranks=True,
    commands=commands.ALL,
    exports=commands.EXPORTS,
)
