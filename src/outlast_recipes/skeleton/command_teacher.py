"""`outlast teacher-logits skeleton`: a trained run's logits on views of its training clips, for students."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

import outlast
from outlast_recipes.common.classification import correct
from outlast_recipes.common.run_options import add_seed
from outlast_recipes.common.training import device_of
from outlast_recipes.skeleton import distill
from outlast_recipes.skeleton.command_options import add_run_arguments, check_data, open_run_of
from outlast_recipes.skeleton.config import Config
from outlast_recipes.skeleton.data import load_data, strength_of
from outlast_recipes.skeleton.evaluation import BATCH
from outlast_recipes.skeleton.saved import restored
from outlast_recipes.skeleton.views import ClipSubset, Views


def arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--views", type=int, default=4, metavar="K", help="number of views of each clip (default: 4)")
    add_seed(parser, "the views")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="file of the logits (default: RUN-logits.safetensors)"
    )


@torch.no_grad()
def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    if values.views < 1:
        raise outlast.ConfigError(f"--views is {values.views}; expected at least 1.")
    saved, device = open_run_of(values), device_of(values.device)
    network, labels = restored(saved, values.part)
    network.to(device)
    store, parts, classes = load_data(saved.config)
    check_data(labels, store, saved)
    part: ClipSubset = parts["train"]
    strength, frames = strength_of(saved.config, labels.yaw(saved.config)), labels.frames(saved.config)
    views = Views(part, frames, strength, values.seed)
    logits = np.empty((len(part), values.views, classes), np.float16)
    right = done = 0
    for batch in part.batches(BATCH):
        for view in range(values.views):
            found = network(*views(batch, view, device)).float().cpu()
            logits[done : done + len(found), view] = found.half().numpy()
            right += correct(found, batch.labels, 1)
        done += len(batch.labels)
        progress(done, len(part))
    target = values.output or Path(f"{saved.run_id}-logits.safetensors")
    if target.exists() and not target.is_file():
        raise outlast.ConfigError(
            f"--output is {str(target)!r}, which is a folder or a device. Give the name of a file."
        )
    about = distill.TeacherFacts(
        data=store.hash,
        names=[store.entries[number].name for number in part.numbers],
        classes=classes,
        split=f"training part of {saved.config.data.split}",
        seed=values.seed,
        frames=frames,
        strength=strength,
        teacher=f"{saved.run_id}, step {saved.step} ({values.part})",
    )
    distill.write(target, logits, about)
    size = target.stat().st_size / 1e6
    yield f"{target}: {values.views} views of {len(part)} clips, {classes} classes, {size:.1f} MB"
    yield f"The teacher's top-1 accuracy on them is {right / len(part) / values.views:.1%}."
    yield f"Train a student with: {_student(saved.config, target, frames)}"


def _student(config: Config, logits: Path, frames: int) -> str:
    """The command that trains a student on the same split and frames."""
    data = config.data
    words = ["outlast train skeleton --mode distill --teacher-logits", shlex.quote(str(logits))]
    words += ["--data-root", shlex.quote(str(config.data_root)), "--split", data.split]
    if data.train_subjects:
        words += ["--train-subjects", ",".join(map(str, data.train_subjects))]
    if data.validate_subjects is not None:
        words += ["--data.validate-subjects", str(data.validate_subjects)]
    words += ["--data.frames", str(frames)]
    return " ".join(words)
