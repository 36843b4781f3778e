"""The training of objects and corners in pictures.

The epoch is chosen by the validation split. The test split is read once, at the end, with the averaged weights of the
last step and with those that were best on validation. Data: a folder with a data.yaml (YOLO) or COCO JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import outlast
from outlast import Run
from outlast_recipes.common.complexity import parameters
from outlast_recipes.common.finite import Finite
from outlast_recipes.common.ranks import mean_of_ranks, several_ranks
from outlast_recipes.common.selection import BestByValidation
from outlast_recipes.common.training import device_of, few_steps, keep_freed_memory
from outlast_recipes.yolo import backends, outputs, pipeline
from outlast_recipes.yolo.checks import check_config, load_data
from outlast_recipes.yolo.commands import COMMANDS
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import DetectorTraining, Place
from outlast_recipes.yolo.export import EXPORTS
from outlast_recipes.yolo.guards import explained
from outlast_recipes.yolo.history import History
from outlast_recipes.yolo.initial import start_from
from outlast_recipes.yolo.saved import About
from outlast_recipes.yolo.schedule import about_updates


def train(run: Run, config: YoloConfig) -> None:
    outlast.seed_everything(config.seed)
    device = device_of(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    dataset = load_data(config)
    check_config(config, dataset, ranks=several_ranks())
    if words := backends.licence(config.model.architecture):
        run.tell(words)
    with explained(run, config, device):
        training = backends.training_of(config, dataset, device)
        try:
            tell_about(run, config, training, device)
            if config.model.resume_from and run.resumed_from is None:
                run.tell(start_from(training, config.model.resume_from))
            _train(run, config, dataset, training)
        finally:
            training.close()


def _train(run: Run, config: YoloConfig, dataset: Dataset, training: DetectorTraining) -> None:
    parts, loader = training.parts(), training.batches
    best, history = BestByValidation(parts["ema"]), History()
    about = About(training.detector().architecture(), dataset.hash)
    keep = {"optimizer": ["lr", "weight_decay"]}  # the schedule sets both in every step
    run.track(keep=keep, **parts, best=best.weights, choice=best, history=history, about=about)
    per_epoch, validated = len(loader), 0
    finite = Finite(parts["model"], scaled=parts["scaler"].is_enabled())

    def validate() -> dict[str, float]:
        nonlocal validated
        found = training.evaluate("val", read=run.evaluate)
        validated = run.epoch or 0
        best.update(validated, found["map"], parts["ema"])
        named = _named("val_", found)
        history.validated(validated, run.step, named)
        return named

    run.validate(lambda: None if validated == run.epoch else validate())
    for batch in run.batches(loader, epochs=config.epochs):
        epoch = run.epoch or 1
        losses = training.step(batch, Place(run.step, epoch, config.epochs, per_epoch))
        finite.check(run.step, losses)
        if run.epoch_end or run.step % (1 if config.debug else config.log_every) == 0:
            logged = {name: mean_of_ranks(value) if name != "lr" else value for name, value in losses.items()}
            run.log(logged)
            history.add(epoch, run.step, logged)
        if run.epoch_end and 0 < best.epoch <= epoch - config.training.patience:
            # Only here can the run be ended, so the validation that may do it is not left to run.validate.
            run.log(validate())
            if best.epoch <= epoch - config.training.patience:
                run.tell(
                    f"No better validation for {config.training.patience} epochs (--training.patience): the run ends "
                    f"after epoch {epoch}; epoch {best.epoch} was the best with a mAP of {best.value:.4f}."
                )
                break
    log_test(run, training, best)
    chosen = training.detector(best.weights) if best.epoch else None
    outputs.write(run, training.detector(), chosen, dataset, history, config.training.oks_sigma)


def tell_about(run: Run, config: YoloConfig, training: DetectorTraining, device: torch.device) -> None:
    """Few steps, updates of several batches, GPUs, several ranks, and GPUs that are not used, where there are some."""
    samples, per_epoch = len(training.batches.dataset), len(training.batches)
    if few := few_steps(samples, config.batch_size, per_epoch, config.epochs):
        run.tell(few)
    if words := about_updates(config, per_epoch):
        run.tell(words)
    if device.type == "cuda":
        run.tell(
            "This training uses a GPU. That a resume is exact was tested on CPUs, in float32 and bfloat16; on GPUs "
            "(--deterministic), in float16, and with NCCL it was not."
        )
    if several_ranks():
        run.tell(
            "This training runs on several ranks. A resume is exact on as many ranks; the result equals that of one "
            "rank statistically, because losses are weighted by the objects of each rank."
        )
    elif config.hardware.multi_gpu and device.type == "cuda" and (gpus := torch.cuda.device_count()) > 1:
        run.tell(
            f"{gpus} GPUs are here, and this process trains on one of them. To use all (hardware.multi_gpu), start: "
            f"torchrun --nproc-per-node {gpus} -m outlast train yolo ..."
        )


def log_test(run: Run, training: DetectorTraining, best: BestByValidation) -> None:
    """Metrics of the test split, with the last averaged weights and those that were best on validation.

    The test is read once, by a finished run, and nothing is chosen by it.
    """
    if not training.has_test:
        run.tell("The data have no test split, so nothing is reported on it.")
        return
    reached: dict[str, Any] = _named("test_", training.evaluate("test"))
    if best.epoch:
        reached |= {"best_epoch": best.epoch} | _named("best_test_", training.evaluate("test", best.weights))
    run.log(reached)


def _named(prefix: str, found: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in found.items()}


def check(config: Any) -> str:
    device = device_of(config.device)
    dataset = load_data(config)
    check_config(config, dataset, ranks=False)
    sizes = ", ".join(f"{len(samples)} {name}" for name, samples in dataset.splits.items())
    training = backends.training_of(config, dataset, device)
    try:
        count = parameters(training.parts()["ema"]) or sum(
            each.numel() for each in training.parts()["ema"].parameters()
        )
        start = _weights(training, config.model.resume_from)
    finally:
        training.close()
    steps = -(-len(dataset.splits["train"]) // config.batch_size)
    few = few_steps(len(dataset.splits["train"]), config.batch_size, steps, config.epochs)
    few = " ".join(filter(None, (few, about_updates(config, steps))))
    objects = sum(len(sample.classes) for samples in dataset.splits.values() for sample in samples)
    points = f" with {dataset.keypoints} keypoints" if dataset.keypoints else ""
    return (
        f"{sizes} images, {objects} objects of {len(dataset.names)} classes{points}; {config.model.architecture}, "
        f"{count:,} parameters{'; ' + few if few else ''}{start}"
    )


def _weights(training: DetectorTraining, place: Path | None) -> str:
    """What a training would start from; it is tried. A run that has begun needs it no more."""
    if place is None:
        return ""
    if not place.exists():
        return f"; model.resume_from {place} does not exist, which only a run that has begun continues without"
    return f"; {start_from(training, place)}"


commands, exports, before = COMMANDS, EXPORTS, pipeline.before
