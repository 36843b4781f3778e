"""What a callback adds to a step of its framework: `python -m benchmarks.frameworks FRAMEWORK... [--rounds N]`.

FRAMEWORK is huggingface, lightning, lightning_own, keras (with KERAS_BACKEND) or ultralytics. lightning has a
TensorDataset, for which nothing is seeded, and lightning_own a dataset of its own class, whose samples may draw. Pairs
in alternating order, in one process: the framework alone, with its own loader, and with the callback, which saves
nothing. Prints JSON: medians of milliseconds of a core per step, of 50 steps after 10 that are not counted, and the
median ratio of the pairs with its quartiles.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import outlast

WARM, STEPS = 10, 50


class Clock:
    """Called after each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, *_: Any, **__: Any) -> None:
        self.times.append(time.process_time())

    def per_step(self) -> float:
        assert len(self.times) == WARM + STEPS, len(self.times)
        return (self.times[-1] - self.times[WARM - 1]) / STEPS * 1e3


def lightning(folder: Path, run: outlast.Run | None, clock: Clock, *, own: bool = False) -> None:
    import pytorch_lightning as pl
    import torch

    from outlast.integrations.lightning import OutlastCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            wide = [torch.nn.Linear(512, 512), torch.nn.ReLU()] * 4
            self.net = torch.nn.Sequential(*wide, torch.nn.Dropout(0.1), torch.nn.Linear(512, 1))

        def training_step(self, batch: Any, _: int) -> Any:
            loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

        on_train_batch_end = clock.__call__

    x = torch.randn(256 * 20, 512)
    kind = type("Own", (torch.utils.data.TensorDataset,), {}) if own else torch.utils.data.TensorDataset
    data = kind(x, x.sum(1, keepdim=True))
    loader = outlast.DataLoader(data, 256) if run else torch.utils.data.DataLoader(data, 256, shuffle=True)
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=3, enable_model_summary=False, default_root_dir=folder,
        callbacks=[OutlastCallback(run)] if run else [], **options
    )  # fmt: skip
    trainer.fit(Module(), loader)


def huggingface(folder: Path, run: outlast.Run | None, clock: Clock) -> None:
    import torch
    import transformers

    from outlast.integrations.huggingface import OutlastCallback

    class Ticking(transformers.TrainerCallback):
        on_step_end = clock.__call__

    words = torch.randint(4, 1000, (16 * 20, 32))
    config = transformers.BertConfig(
        vocab_size=1000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
    )
    args = transformers.TrainingArguments(
        str(folder), num_train_epochs=3, per_device_train_batch_size=16, save_strategy="no", logging_steps=20,
        report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    callbacks = [OutlastCallback(run)] if run else []
    trainer = transformers.Trainer(
        transformers.BertForMaskedLM(config),
        args,
        train_dataset=torch.utils.data.TensorDataset(words),
        data_collator=lambda rows: {"input_ids": (batch := torch.stack([row for (row,) in rows])), "labels": batch},
        callbacks=[*callbacks, Ticking()],
    )
    (callbacks[0].train(trainer) if run else trainer.train())


def keras(_: Path, run: outlast.Run | None, clock: Clock) -> None:
    import keras

    from outlast.integrations.keras import Batches, OutlastCallback

    class Ticking(keras.callbacks.Callback):
        on_train_batch_end = clock.__call__

    x = np.random.default_rng(0).normal(size=(256 * 20, 512)).astype("float32")
    y = x.sum(1, keepdims=True)
    wide = [keras.layers.Dense(512, activation="relu") for _ in range(4)]
    model = keras.Sequential([keras.Input((512,)), *wide, keras.layers.Dropout(0.1), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    if not run:
        model.fit(x, y, batch_size=256, epochs=3, verbose=0, callbacks=[Ticking()])
        return
    data = Batches(x, y, batch_size=256)
    model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=[Ticking(), OutlastCallback(run, data)])


def ultralytics(folder: Path, run: outlast.Run | None, clock: Clock) -> None:
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "0", "YOLO_CONFIG_DIR": str(folder)}
    sys.modules.setdefault("polars", types.ModuleType("polars"))
    import cv2
    from ultralytics import YOLO

    from outlast.integrations.ultralytics import OutlastCallback

    random = np.random.default_rng(0)
    for split, count in (("train", 8 * 20), ("val", 1)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(f"{folder}/images/{split}/{number}.png", random.integers(0, 255, (96, 96, 3), np.uint8))
            (folder / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [thing]\n")
    model = YOLO("yolo11n.yaml")
    model.add_callback("on_train_batch_end", clock)
    options = {"data": str(folder / "data.yaml"), "epochs": 3, "batch": 8, "imgsz": 96, "device": "cpu", "cache": "ram"}
    options |= {"plots": False, "val": False, "save": False, "project": str(folder / "out"), "close_mosaic": 0}
    OutlastCallback(run).train(model, **options) if run else model.train(**options)


def measure(train: Callable[[Path, outlast.Run | None, Clock], None], *, callback: bool) -> float:
    """Milliseconds of a core per step."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if callback:
            with outlast.open_run("r", root=folder / "runs", save="never", progress="none") as run:
                train(folder, run, clock)
        else:
            train(folder, None, clock)
    return clock.per_step()


def main(name: str, rounds: int) -> None:
    """Measure a framework and print."""
    train = {
        "lightning": lightning,
        "lightning_own": functools.partial(lightning, own=True),
        "huggingface": huggingface,
        "keras": keras,
        "ultralytics": ultralytics,
    }[name]
    pairs = []
    for number in range(rounds + 1):
        order = (False, True) if number % 2 else (True, False)
        pair = {callback: measure(train, callback=callback) for callback in order}
        if number:  # the first one compiles and fills caches
            pairs.append((pair[False], pair[True]))
    ratios = [with_it / alone for alone, with_it in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        json.dumps(
            {
                "framework": name,
                "rounds": rounds,
                "load": round(os.getloadavg()[0], 1),
                "alone_ms": round(statistics.median(alone for alone, _ in pairs), 2),
                "with_ms": round(statistics.median(with_it for _, with_it in pairs), 2),
                "ratio": round(middle, 3),
                "quartiles": [round(low, 3), round(high, 3)],
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for each in ("pytorch_lightning", "transformers", "accelerate"):
        logging.getLogger(each).setLevel(logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("frameworks", nargs="+")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    if importlib.util.find_spec("torchvision"):
        from outlast_recipes.common import torchvision_operators

        torchvision_operators.provide()
    for each in given.frameworks:
        main(each, given.rounds)
