"""The values of a training. Keys that the original spelled otherwise are aliases; any other key is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

import outlast
from outlast import Section, setting

Scheduler = Literal["cosine", "linear", "constant", "cosine_with_restarts"]


class Data(Section):
    cache: Literal["none", "ram"] = setting(
        "none", "cache of decoded training images: none, or in memory (ram)", on_resume="session"
    )


class Model(Section):
    architecture: str = setting(
        "yolo11s",
        "architecture: yolo11n, s, m, l or x, yolo26n to yolo26x, rfdetr-nano, small, medium or large, each also with "
        "-pose; or tiny",
    )
    resume_from: Path | None = setting(
        None, "weights to start from: a .pt file of ultralytics, or weights.safetensors of this recipe"
    )
    image_size: int = setting(
        640,
        "side of a training image in pixels",
        aliases=("model.imgsz", "training.imgsz", "training.image_size"),
        ge=32,
    )


class Training(Section):
    optimizer: Literal["adamw", "adam", "sgd", "musgd", "rmsprop"] = setting(
        "adamw", "optimizer; yolo26 was trained with musgd"
    )
    momentum: float = setting(0.937, "momentum of SGD, or the first beta of Adam", ge=0, lt=1)
    weight_decay: float = setting(
        5e-4, "weight decay of an update with the nominal batch; not applied to biases and norms", ge=0
    )
    nominal_batch: int = setting(
        64, "samples per optimizer update; gradients of batches are accumulated", aliases=("training.nbs",), ge=1
    )
    warmup_epochs: float = setting(3.0, "warm-up, in epochs", ge=0)
    warmup_momentum: float = setting(0.8, "momentum at the beginning of the warm-up", ge=0, lt=1)
    warmup_bias_lr: float = setting(
        0.0, "learning rate of biases at the beginning of the warm-up; 0.1 is usual for sgd", ge=0
    )
    lr_scheduler: Scheduler = setting("cosine", "schedule of the learning rate", aliases=("training.scheduler",))
    restart_epochs: int | None = setting(
        None, "length of one cosine in epochs, with --training.lr-scheduler cosine_with_restarts", ge=1
    )
    final_lr: float = setting(
        0.01, "final learning rate, as a share of the peak", aliases=("training.lrf",), ge=0, le=1
    )
    patience: int = setting(
        100, "number of epochs without a better validation, after which the training ends", ge=1, on_resume="free"
    )
    close_mosaic: int = setting(10, "number of final epochs without mosaic", ge=0)
    multi_scale: float = setting(0.0, "random change of the image size, as a share", ge=0, lt=1)
    box_loss: float = setting(7.5, "weight of the box loss", aliases=("training.box",), ge=0)
    class_loss: float = setting(0.5, "weight of the classification loss", aliases=("training.cls",), ge=0)
    dfl_loss: float = setting(1.5, "weight of the distribution focal loss", aliases=("training.dfl",), ge=0)
    pose_loss: float = setting(12.0, "weight of the keypoint loss", aliases=("training.pose",), ge=0)
    visibility_loss: float = setting(1.0, "weight of the visibility loss", aliases=("training.kobj",), ge=0)
    oks_sigma: float | None = setting(
        None, "sigma of the object keypoint similarity that is measured; 0.025 for corners when not given", gt=0
    )
    loss_sigma: float | None = setting(
        None, "sigma of the object keypoint similarity in the keypoint loss; 0.1 for corners when not given", gt=0
    )


class Hardware(Section):
    multi_gpu: bool = setting(
        default=True, help="train on the GPUs of all ranks; false refuses more than one rank", on_resume="session"
    )


class Augmentation(Section):
    hsv_h: float = setting(0.015, "maximum change of the hue, as a share", ge=0, le=1)
    hsv_s: float = setting(0.7, "maximum change of the saturation, as a share", ge=0, le=1)
    hsv_v: float = setting(0.4, "maximum change of the brightness, as a share", ge=0, le=1)
    degrees: float = setting(0.0, "maximum rotation in degrees", ge=0, le=180)
    translate: float = setting(0.1, "maximum translation, as a share of the image", ge=0, le=1)
    scale: float = setting(0.5, "maximum scaling, as a share", ge=0, lt=1)
    shear: float = setting(0.0, "maximum shear in degrees", ge=0, lt=90)
    perspective: float = setting(0.0, "maximum perspective, up to 0.001", ge=0, le=0.001)
    flipud: float = setting(0.0, "probability of an upside-down image", ge=0, le=1)
    fliplr: float | None = setting(
        None, "probability of a mirrored image; 0.5 for boxes and 0 for keypoints when not given", ge=0, le=1
    )
    mosaic: float = setting(1.0, "probability of a mosaic of four images", ge=0, le=1)
    mixup: float = setting(0.0, "probability of a mix of two images", ge=0, le=1)
    cutmix: float = setting(0.0, "probability of pasting a piece of another image", ge=0, le=1)


class YoloConfig(outlast.SupervisedConfig):
    data_root: Path | None = setting(
        None,
        "folder of the data: with a data.yaml, or with COCO JSON",
        on_resume="place",
        flags=("--data-path", "--data"),
        aliases=("data.path", "data.data_yaml"),
    )
    epochs: int = setting(
        100,
        "passes over the training data",
        on_resume="free",
        flags=("-e",),
        aliases=("max_epochs", "training.epochs"),
        ge=1,
    )
    batch_size: int = setting(
        16, "images per batch, of all ranks", flags=("-b",), aliases=("training.batch_size",), ge=1
    )
    learning_rate: float = setting(
        1e-3,
        "peak learning rate; 0.01 is usual for sgd and musgd",
        flags=("--lr",),
        aliases=("lr", "training.learning_rate", "training.lr0"),
        ge=0,
    )
    num_workers: int = setting(
        0,
        "number of processes that load data",
        on_resume="session",
        limit="cores",
        aliases=("hardware.num_workers",),
        ge=0,
    )
    pin_memory: bool = setting(default=True, help="copy batches from pinned memory to the GPU", on_resume="session")
    mixed_precision: bool = setting(
        default=False,
        help="train in bfloat16, or in float16 with loss scaling where bfloat16 is not supported",
        aliases=("hardware.mixed_precision",),
    )
    seed: int = setting(
        42,
        "seed of initial weights, data order and augmentation",
        on_resume="fixed",
        aliases=("training.seed",),
        ge=0,
        lt=2**63,
    )
    data: Data = setting(Data(), "data")
    model: Model = setting(Model(), "model", on_resume="fixed")
    training: Training = setting(Training(), "training")
    hardware: Hardware = setting(Hardware(), "hardware")
    augmentation: Augmentation = setting(Augmentation(), "augmentation")

    @model_validator(mode="after")
    def _restarts(self) -> YoloConfig:
        restarts = self.training.lr_scheduler == "cosine_with_restarts"
        if restarts and self.training.restart_epochs is None:
            raise ValueError(
                "training.lr_scheduler is cosine_with_restarts, which needs --training.restart-epochs, the epochs of "
                "one cosine"
            )
        if not restarts and self.training.restart_epochs is not None:
            raise ValueError(
                f"training.restart_epochs is given, and training.lr_scheduler is {self.training.lr_scheduler}; it "
                "belongs to cosine_with_restarts"
            )
        return self
