"""The values of a skeleton run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator

import outlast
from outlast import Section, setting
from outlast_recipes.common.validation import check_every

Loss = Literal["kl", "standardised", "dkd", "dist"]
Streams = Literal["fused", "joint", "bone", "velocity"]
Shift = Literal["adaptive", "scales", "tsm", "off"]
Routing = Literal["adaptive", "static", "off"]


class Data(Section):
    split: str = setting("xsub", "split: xsub, xview, xset, cameras, or subjects", flags=("--split",))
    train_subjects: tuple[int, ...] = setting(
        (), "training subjects, with --split subjects", flags=("--train-subjects",)
    )
    validate_subjects: int | None = setting(
        None, "number of validation subjects, taken out of the training subjects; a tenth when not given", ge=0
    )
    frames: int | None = setting(
        None, "frames of a view, a multiple of 4; by the length of the clips when not given", ge=8, multiple_of=4
    )


class Model(Section):
    size: Literal["nano", "tiny", "small", "base", "large"] = setting(
        "base", "model size: channels and depth", aliases=("model.variant",)
    )
    streams: Streams = setting("fused", "input streams: joints, bones and velocities fused, or one of them")
    shift: Shift = setting("adaptive", "temporal shifts: learned (adaptive), fixed (scales), as in TSM, or off")
    routing: Routing = setting(
        "adaptive", "joint routing: learned and sample-dependent (adaptive), learned (static), or off"
    )
    attention: bool = setting(default=True, help="whether each stage ends with attention over time")
    bodies: int = setting(2, "number of bodies", ge=1, le=2)
    dropout: float = setting(0.1, "dropout rate of the last features", ge=0, lt=1)
    drop_path: float | None = setting(
        None, "drop-path rate of the deepest block; by model size when not given", ge=0, lt=1
    )


class Augment(Section):
    crop: float = setting(0.5, "minimum share of a clip in a crop", gt=0, le=1)
    turn: float = setting(0.3, "maximum rotation about each axis, in radians", ge=0)
    yaw: float | None = setting(
        None, "additional rotation about the vertical axis, in radians; by the number of clips when not given", ge=0
    )
    scale: float = setting(0.2, "maximum scaling of each axis, as a share", ge=0, lt=1)
    shear: float = setting(0.1, "maximum shear of each axis by each other", ge=0)
    mirror: float = setting(0.5, "probability of mirroring left and right", ge=0, le=1)
    swap: float = setting(0.5, "probability of swapping the two bodies", ge=0, le=1)
    bones: float = setting(0.2, "probability of bone lengths from another clip of the class", ge=0, le=1)
    drop_axis: float = setting(0.0, "probability of zeroing an axis", ge=0, le=1)
    drop_joints: float = setting(0.1, "probability of zeroing a fifth of the joints", ge=0, le=1)
    drop_time: float = setting(0.1, "probability of zeroing a fifth of the frames", ge=0, le=1)


class Distill(Section):
    teacher_logits: Path | None = setting(
        None,
        "teacher logits, written by `outlast teacher-logits`",
        on_resume="place",
        flags=("--teacher-logits",),
        aliases=("kaggle_datasets.teacher_logits",),
    )
    loss: Loss = setting("standardised", "distillation loss: kl, standardised, dkd or dist")
    temperature: float | None = setting(None, "distillation temperature; that of the paper when not given", gt=0)
    weight: float = setting(1.0, "initial weight of the distillation loss", ge=0)
    last_weight: float = setting(0.5, "final weight of the distillation loss", ge=0)


class Config(outlast.SupervisedConfig):
    data_root: Path | None = setting(
        None,
        "folder of raw files or of a prepared store, or one that holds it",
        on_resume="place",
        flags=("--data-path",),
        aliases=("kaggle_datasets.ntu120_skeletons",),
    )
    epochs: int | None = setting(  # type: ignore[assignment]  # None: see `sizing`
        None,
        "passes over the data; by the number of clips when not given",
        on_resume="free",
        flags=("-e",),
        aliases=("max_epochs",),
        ge=1,
    )
    batch_size: int | None = setting(  # type: ignore[assignment]
        None, "batch size: clips per optimizer step; by the number of clips when not given", flags=("-b",), ge=2
    )
    learning_rate: float = setting(
        2e-3, "peak learning rate; 0.1 is usual for sgd", flags=("--lr",), aliases=("lr",), ge=0
    )
    mode: Literal["auto", "baseline", "distill"] = setting(
        "auto", "training mode: distill with a teacher, baseline without; auto: distill when teacher logits are given"
    )
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "optimizer: AdamW, or SGD with Nesterov momentum")
    weight_decay: float = setting(0.05, "weight decay; not applied to norms, biases and shifts", ge=0)
    warmup: float = setting(0.05, "warm-up, as a share of the steps", ge=0, le=1)
    label_smoothing: float = setting(0.1, "label smoothing of the cross-entropy", ge=0, lt=1)
    ema: float = setting(0.9995, "decay of the exponential moving average of the weights (EMA)", ge=0, lt=1)
    validate_every: str = setting(
        "1 epoch", 'interval of validations: epochs or steps, such as "500 steps"', on_resume="free"
    )
    data: Data = setting(Data(), "data", on_resume="fixed")
    model: Model = setting(Model(), "model", on_resume="fixed")
    augment: Augment = setting(Augment(), "views")
    distill: Distill = setting(Distill(), "teacher")

    @field_validator("validate_every")
    @classmethod
    def _interval_of_validations(cls, value: str) -> str:
        return check_every(value)
