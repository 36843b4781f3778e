"""Actions from skeletons with LAST.

The epoch is chosen by validation subjects, which are taken out of the training part. The test is read once, at the end,
with the averaged weights of the last step and with those that were best on validation. Data: a folder of NTU-named
.skeleton files, NW-UCLA or UTKinect. The first training prepares a store of them, or `outlast data prepare skeleton`
does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import outlast
from outlast import Run
from outlast_recipes.common.auto_prepare import NotPrepared
from outlast_recipes.common.complexity import macs, parameters
from outlast_recipes.common.finite import Finite
from outlast_recipes.common.ranks import across_ranks, mean_of_ranks
from outlast_recipes.common.selection import BestByValidation
from outlast_recipes.common.training import (
    device_of,
    few_steps,
    half_precision,
    keep_freed_memory,
    loader_options,
    update_average,
    warmup_cosine,
)
from outlast_recipes.common.validation import validates
from outlast_recipes.skeleton import compiled
from outlast_recipes.skeleton.augment import collate
from outlast_recipes.skeleton.build import build, optimizer_of
from outlast_recipes.skeleton.commands import COMMANDS
from outlast_recipes.skeleton.config import Config, Distill
from outlast_recipes.skeleton.data import (
    Parts,
    check_teacher,
    given_values,
    load_data,
    size_of,
    teacher_of,
    trained_on,
    views_of,
)
from outlast_recipes.skeleton.distill import TeacherLogits, distillation_loss
from outlast_recipes.skeleton.evaluation import accuracies, example
from outlast_recipes.skeleton.export import EXPORTS
from outlast_recipes.skeleton.layouts import LAYOUTS, Layout
from outlast_recipes.skeleton.saved import Labels
from outlast_recipes.skeleton.sizing import Sized, explained, settled
from outlast_recipes.skeleton.views import ClipSubset

Build = Callable[[Config, int, Layout, int], nn.Module]
"""Of the values, the classes, the joints, and the frames of a view."""


def train(run: Run, config: Config, build: Build = build) -> None:
    outlast.seed_everything(config.seed)
    device = device_of(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    store, parts, classes = load_data(config, run=run)
    teacher = teacher_of(config)
    sized = begin(run, config, parts, teacher, device)
    parts = trained_on(config, parts, sized.batch_size)
    views = views_of(config, parts["train"], teacher, sized)
    network = build(config, classes, LAYOUTS[store.layout], sized.frames).to(device)
    model = across_ranks(network, device)
    ema = copy.deepcopy(network).eval()
    best = BestByValidation(ema)
    optimizer = optimizer_of(config, network)
    half, scaler = half_precision(device, wanted=config.mixed_precision)
    finite = Finite(network, scaled=scaler.is_enabled())
    loader = outlast.DataLoader(
        parts["train"],
        sized.batch_size,
        seed=config.seed,
        drop_last=True,
        collate_fn=collate,
        **loader_options(config),
    )
    run.track(
        keep={"optimizer": ["lr", "weight_decay"]},  # the values of this attempt; the rate is set in every step
        model=model,
        ema=ema,
        best=best.weights,
        choice=best,
        optimizer=optimizer,
        scaler=scaler,
        data=loader,
    )
    if few := few_steps(len(parts["train"]), sized.batch_size, len(loader), sized.epochs):
        run.tell(few)

    for batch in run.batches(loader, epochs=sized.epochs):
        model.train()
        view = (run.epoch or 1) if teacher is None else ((run.epoch or 1) - 1) % teacher.views
        joints, mask = views(batch, view, device)
        targets = batch.labels.to(device)
        progress = run.step / (run.total_steps or 1)
        with torch.autocast(device.type, half, enabled=config.mixed_precision):
            logits = model(joints, mask).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        logged = {"loss": loss}
        if teacher is not None:
            taught = teacher.of(store, batch, view).to(device)
            logged["distillation_loss"] = distillation_loss(
                logits, taught, targets, config.distill.loss, config.distill.temperature
            )
            loss = loss + weight_at(config.distill, progress) * logged["distillation_loss"]
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warmup_cosine(run.step, run.total_steps or 1, config.warmup)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        finite.check(run.step, logged)
        update_average(ema, network, config.ema, run.step)
        if run.step % (1 if config.debug else config.log_every) == 0:
            run.log(
                **{name: mean_of_ranks(value) for name, value in logged.items()}, lr=optimizer.param_groups[0]["lr"]
            )
        if validates(run, config.validate_every) and len(parts["val"]):
            top1, _ = accuracies(ema, parts["val"], sized.frames, device)
            run.log(val_top1=top1)
            best.update(run.epoch or 0, top1, ema)

    log_test(run, parts["test"], config, sized.frames, ema, best)


def begin(run: Run, config: Config, parts: Parts, teacher: TeacherLogits | None, device: torch.device) -> Sized:
    """Track what stays the same in a run, compare its teacher with the data, and say which values follow the set.

    Returns:
        Those values. A run that goes on has the ones that it began with.
    """
    store = parts["train"].store
    values = given_values(config, teacher)
    sized = settled(values, size_of(parts))
    taught = teacher.hash if teacher else ""
    labels = Labels(store.layout, store.classes, store.hash, taught, computed(run, config, device), sized.record())
    run.track(labels=labels)
    sized = settled(values, sized, labels.sized)
    check_teacher(teacher, parts, len(store.classes), sized.frames)
    if words := explained(values, sized):
        run.tell(words)
    return sized


def computed(run: Run, config: Config, device: torch.device) -> str:
    """How LAST's blocks are computed, as far as that is not in torch's hands; says so where no compiler is found."""
    if device.type != "cpu" or config.mixed_precision:
        return ""
    if isinstance(why := compiled.library(), str):
        run.tell(f"LAST's blocks are computed with torch's operations, slower and to the same result: {why}.")
    return compiled.how()


def log_test(run: Run, test: ClipSubset, config: Config, frames: int, ema: nn.Module, best: BestByValidation) -> None:
    """Test accuracy of the last averaged weights and of those that were best on validation.

    The test is read once, by a finished run, and nothing is chosen by it.
    """
    if not len(test):
        run.tell(f"--split {config.data.split} has no test clips, so no test result is reported.")
        return
    device = device_of(config.device)
    top1, top5 = accuracies(ema, test, frames, device)
    reached: dict[str, Any] = {"test_top1": top1, "test_top5": top5}
    if best.epoch:
        top1, top5 = accuracies(best.weights, test, frames, device)
        reached |= {"best_epoch": best.epoch, "best_test_top1": top1, "best_test_top5": top5}
    run.log(**reached)


def weight_at(distill: Distill, progress: float) -> float:
    """Weight of the distillation loss beside cross-entropy: from the first weight to the last along a cosine.

    Args:
        distill: the values of the distillation.
        progress: share of the steps that are done, 0 to 1.
    """
    return distill.last_weight + (distill.weight - distill.last_weight) * (0.5 + 0.5 * math.cos(math.pi * progress))


def check(config: Any) -> str:
    device_of(config.device)
    try:
        store, parts, classes = load_data(config)
    except NotPrepared as error:  # nothing is in the way of a training
        return str(error)
    teacher = teacher_of(config)
    values = given_values(config, teacher)
    sized = settled(values, size_of(parts))
    check_teacher(teacher, parts, classes, sized.frames)
    parts = trained_on(config, parts, sized.batch_size)
    sizes = ", ".join(f"{len(clips)} {name}" for name, clips in parts.items())
    clips, chosen = len(parts["train"]), explained(values, sized).removesuffix(".")
    few = few_steps(clips, sized.batch_size, clips // sized.batch_size, sized.epochs)
    taught = f"; teacher {teacher.about.teacher}, {teacher.views} views per clip" if teacher else ""
    layout = LAYOUTS[store.layout]
    network = build(config, classes, layout, sized.frames)
    work = macs(network, example(layout, sized.frames, bodies=config.model.bodies))
    return (
        f"{len(store)} clips of {classes} classes ({store.layout}): {sizes}; {len(store.refused)} files were "
        f"refused{taught}; LAST {config.model.size}, {parameters(network):,} parameters, {work / 1e9:.3f} GMAC per "
        f"clip{'; ' + chosen if chosen else ''}{'; ' + few if few else ''}"
    )


commands, exports = COMMANDS, EXPORTS
