"""The values of a skeleton run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import outlast
from outlast import Section, setting
from outlast_recipes.skeleton.distill import Loss
from outlast_recipes.skeleton.model import Routing, Shift, Streams


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


class Config(outlast.SupervisedConfig):
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
