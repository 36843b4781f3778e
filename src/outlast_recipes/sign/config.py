"""The values of a run of sign."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import outlast
from outlast import Section, setting

ModelName = Literal["part_conv", "transformer", "iv3_gru"]
Scheduler = Literal["cosine", "plateau", "constant"]
Monitor = Literal["val_gloss_top1", "val_loss"]


def _place(help: str, flag: str) -> Path | None:  # noqa: A002 - as in `setting`
    place: Path | None = setting(None, help, on_resume="place", flags=(flag,))
    return place


class Data(Section):
    keypoints_train: Path | None = _place("folder of the training clips: .npz files of keypoints", "--keypoints-train")
    keypoints_val: Path | None = _place("folder of the validation clips of keypoints", "--keypoints-val")
    keypoints_test: Path | None = _place("folder of the test clips of keypoints", "--keypoints-test")
    features_train: Path | None = _place("folder of the training clips: .npz files of features", "--features-train")
    features_val: Path | None = _place("folder of the validation clips of features", "--features-val")
    features_test: Path | None = _place("folder of the test clips of features", "--features-test")
    labels_train_csv: Path | None = _place(
        "labels of the training clips (file,gloss,cat,occluded)", "--labels-train-csv"
    )
    labels_val_csv: Path | None = _place("labels of the validation clips", "--labels-val-csv")
    labels_test_csv: Path | None = _place("labels of the test clips", "--labels-test-csv")
    kp_key: str = setting("X", "array of the keypoints in a .npz file", flags=("--kp-key",))
    feature_key: str = setting("X2048", "array of the features in a .npz file", flags=("--feature-key",))
    num_gloss: int | None = setting(
        None, "number of glosses; one more than the largest label when not given", flags=("--num-gloss",), ge=1
    )
    num_cat: int | None = setting(
        None, "number of categories; one more than the largest label when not given", flags=("--num-cat",), ge=1
    )
    names: Path | None = setting(
        None, "table of the glosses and their categories, a CSV file", on_resume="place", flags=("--names-csv",)
    )
    frames: int = setting(128, "frames of a clip; longer clips are resampled to it", ge=2)
    aspect: float | None = setting(
        None, "width of the video divided by its height; as its file says, else 16/9, when not given", gt=0
    )
    split: Literal["given", "group", "random"] = setting(
        "given", "split: that of the folders (given), by signer (group), or random clips", flags=("--split",)
    )
    test_groups: tuple[str, ...] = setting((), "signers of the test, with --split group: the column group of the CSV")
    validate_groups: tuple[str, ...] = setting(
        (), "signers of the validation, with --split group; a tenth of the others when not given"
    )
    normalise: bool = setting(default=True, help="place and scale keypoints by the shoulders; otherwise as they are")
    smoke_test: bool = setting(
        default=False, help="train on a few generated clips; the results mean nothing", flags=("--smoke-test",)
    )


class Network(Section):
    name: ModelName = setting("part_conv", "model: part_conv, transformer (keypoints) or iv3_gru", flags=("--model",))
    dropout: float | None = setting(
        None, "dropout rate; that of the model when not given", flags=("--dropout",), ge=0, lt=1
    )
    category: Literal["from-gloss", "independent"] = setting(
        "from-gloss", "category: the sum of the probabilities of its glosses, or an output of its own"
    )
    width: int | None = setting(
        None,
        "channels: 128 of part_conv and 256 of transformer when not given; a multiple of 16",
        ge=16,
        multiple_of=16,
    )
    layers: int = setting(4, "layers of transformer", ge=1)
    heads: int = setting(8, "attention heads of transformer", ge=1)
    feedforward: int = setting(1024, "inner channels of transformer", ge=1)
    pooling: Literal["mean", "max", "cls"] = setting("mean", "pooling of transformer over time")
    seen: bool = setting(default=True, help="whether transformer reads which keypoints were seen")
    drop_path: float = setting(0.1, "drop-path rate of part_conv", ge=0, lt=1)
    shapes: bool = setting(
        default=True,
        help="whether part_conv reads directions and angles of bones, and hands in the frame of the palm",
        older=False,
    )
    hidden1: int = setting(256, "units of the first GRU of iv3_gru", flags=("--hidden1",), ge=1)
    hidden2: int = setting(256, "units of the second GRU of iv3_gru", flags=("--hidden2",), ge=1)
    bidirectional: bool = setting(default=True, help="whether the GRUs of iv3_gru read in both directions")
    summary: Literal["attention", "last"] = setting(
        "attention", "what iv3_gru classifies: attention over time, or the last state"
    )
    input_norm: bool = setting(default=True, help="whether iv3_gru normalises the features of each frame")
    pretrained_backbone: bool = setting(
        default=False, help="not for training, which reads features", flags=("--pretrained-backbone",)
    )


class Augment(Section):
    rotate: float = setting(15.0, "maximum rotation in the picture, in degrees", ge=0)
    squeeze: float = setting(0.25, "maximum squeeze of width and height, as a share", ge=0, lt=1)
    perspective: float = setting(0.15, "maximum change of scale from one side to the other, as a share", ge=0, lt=1)
    arms: float = setting(10.0, "maximum rotation at shoulders and elbows, in degrees", ge=0)
    limbs: float = setting(0.2, "maximum change of the lengths of arms and hands, as a share", ge=0, lt=1, older=0.0)
    trunk: float = setting(0.2, "maximum change of the distances of head and hips, as a share", ge=0, lt=1, older=0.0)
    warp: float = setting(0.3, "maximum change of speed, as a share", ge=0, lt=1)
    crop: float = setting(0.1, "maximum share of a clip that is cut off at its ends", ge=0, lt=1)
    drop_frames: float = setting(0.2, "maximum share of frames that are dropped", ge=0, lt=1)
    noise: float = setting(0.01, "standard deviation of the noise, as a share of the picture's height", ge=0)
    occlude: float = setting(0.7, "probability of hiding a hand, the face or finger tips for a time", ge=0, le=1)
    occlude_span: float = setting(0.9, "maximum share of a clip for which they are hidden", ge=0.2, le=1)
    timing: float = setting(
        0.7,
        "how far the course of a sign in time may bend, 1: from its square root to its square",
        ge=0,
        lt=2,
        older=0.0,
    )
    shoulders: float = setting(0.2, "maximum change of the width of the shoulders, as a share", ge=0, lt=1, older=0.0)
    reach: float = setting(0.25, "how far each hand may be elsewhere, in widths of the shoulders", ge=0, older=0.0)
    fingers: float = setting(
        20.0, "maximum rotation at the joints of fingers and at the wrists, in degrees", ge=0, older=0.0
    )
    mirror: float = setting(0.0, "probability of mirroring left and right", ge=0, le=1)
    handed: tuple[int, ...] = setting((), "glosses that are never mirrored, as numbers")


class SignConfig(outlast.SupervisedConfig):
    checkpoint_dir: Path = setting(
        Path("runs"),
        "folder that holds the run folders",
        on_resume="session",
        flags=("--output-dir",),
        aliases=("checkpoint_root",),
    )
    data_root: Path | None = setting(
        None,
        "folder of keypoints_{train,val,test} or features_{train,val,test} with {train,val,test}_labels.csv",
        on_resume="place",
        flags=("--data-path",),
    )
    epochs: int = setting(60, "passes over the data", on_resume="free", flags=("-e",), aliases=("max_epochs",), ge=1)
    batch_size: int = setting(32, "batch size: clips per optimizer step", flags=("-b",), ge=1)
    learning_rate: float = setting(1e-3, "peak learning rate", flags=("--lr",), aliases=("lr",), ge=0)
    mixed_precision: bool = setting(
        default=False,
        help="train in bfloat16, or in float16 with loss scaling; on a CPU only where bfloat16 is faster",
        flags=("--amp",),
    )
    optimizer: Literal["adamw", "adam"] = setting("adamw", "optimizer: AdamW, or Adam as the original's")
    weight_decay: float = setting(0.05, "weight decay; not applied to norms and biases", ge=0)
    grad_clip: float = setting(1.0, "maximum norm of the gradients; 0 for none", ge=0)
    scheduler: Scheduler = setting("cosine", "learning rate: cosine to zero, halved at a plateau, or constant")
    scheduler_patience: int = setting(
        3, "number of epochs without a better validation, before plateau halves the learning rate", ge=0
    )
    warmup: float = setting(0.05, "warm-up, as a share of the steps", ge=0, le=1)
    monitor: Monitor = setting(
        "val_gloss_top1", "metric by which the best epoch is chosen, and that plateau and early stopping watch"
    )
    early_stop: int | None = setting(
        None, "end the run after this number of epochs without a better validation", on_resume="free", ge=1
    )
    alpha: float = setting(0.8, "weight of the gloss loss", ge=0)
    beta: float = setting(0.2, "weight of the category loss", ge=0)
    label_smoothing: float = setting(0.1, "label smoothing of the gloss loss", ge=0, lt=1)
    ema: float = setting(0.99, "decay of the exponential moving average of the weights (EMA); 0 for none", ge=0, lt=1)
    frames_at_once: int = setting(
        640,
        "frames of a batch that a CPU computes at once, so that memory does not grow with the batch; 0: all (iv3_gru: "
        "always all)",
        ge=0,
        older=0,
    )
    prefetch_factor: int | None = setting(
        None, "batches that each process loads ahead; needs --num-workers", on_resume="session", ge=1
    )
    data: Data = setting(Data(), "data", on_resume="fixed")
    network: Network = setting(Network(), "model", on_resume="fixed")
    augment: Augment = setting(Augment(), "augmentation")
