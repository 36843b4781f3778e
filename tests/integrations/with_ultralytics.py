"""A small detector of ultralytics, in sessions or alone. `python -m tests.integrations.with_ultralytics FOLDER STOPS`.

Prints how far a training that ultralytics itself continues is from its twin.
"""

from __future__ import annotations

import os
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    place = Path(sys.argv[1])
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "0", "YOLO_CONFIG_DIR": str(place)}
    warnings.simplefilter("ignore")

import torch
from tests.integrations import twins
from tests.recipes import plates

from outlast_recipes.common import torchvision_operators

torchvision_operators.provide()
sys.modules.setdefault("polars", types.ModuleType("polars"))  # only copies results.csv into the .pt files

from ultralytics import YOLO  # noqa: E402
from ultralytics.nn.tasks import load_checkpoint  # noqa: E402

import outlast  # noqa: E402
from outlast.integrations.ultralytics import OutlastCallback  # noqa: E402

NETWORK = """\
nc: 1
end2end: true
reg_max: 1
scales:
  n: [0.33, 0.0625, 64]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""
PER_EPOCH, EPOCHS = 5, 3
OPTIONS = {
    "epochs": EPOCHS,
    "batch": 4,
    "nbs": 12,  # an update takes up to three batches, across the ends of epochs
    "warmup_epochs": 1.5,
    "optimizer": "MuSGD",
    "imgsz": 64,
    "multi_scale": 0.5,
    "mixup": 0.5,
    "close_mosaic": 2,
    "translate": 0.0,  # without it and scale, images that are kept decoded are written into, in epochs without mosaics
    "scale": 0.0,
    "plots": False,
    "device": "cpu",
}


def prepare(folder: Path) -> None:
    """A network and 18 pictures: 5 batches an epoch, the last of two."""
    (folder / "tiny.yaml").write_text(NETWORK)
    plates.folder(folder / "data", (18, 4, 1), more="")
    page = folder / "data" / "data.yaml"
    page.write_text(page.read_text().replace("path: .", f"path: {folder / 'data'}"))
    for label in (folder / "data" / "labels").rglob("*.txt"):
        label.write_text(" ".join(label.read_text().split()[:5]) + "\n")  # a box, without its corners


def options(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    return {"data": str(folder / "data" / "data.yaml"), "project": str(folder / "out"), "name": name, **OPTIONS, **more}


def in_sessions(folder: Path, name: str, **more: Any) -> Callable[[outlast.Run, twins.Stops], None]:
    """A function that trains; every session has another folder, as on another machine."""

    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        model, done = YOLO(folder / "tiny.yaml"), run.step // PER_EPOCH * PER_EPOCH
        session = len(list((run.folder / "attempts").glob("*.json")))

        def ask(_: Any) -> None:
            nonlocal done
            done += 1  # also for batches that pass by
            stops(done)

        model.add_callback("on_train_batch_end", ask)
        OutlastCallback(run).train(model, **options(folder, f"{name}/{session}", **more))

    return fit


def alone(folder: Path, name: str, stop: int | None = None) -> torch.Tensor:
    """Ultralytics with its own last.pt; all averaged weights in one vector."""

    class Killed(Exception):
        pass

    def leave(trainer: Any) -> None:
        if trainer.epoch + 1 == stop:
            raise Killed

    model = YOLO(folder / "tiny.yaml")
    model.add_callback("on_model_save", leave)
    try:
        model.train(**options(folder, name))
    except Killed:
        model = YOLO(folder / "out" / name / "weights" / "last.pt")
        model.train(resume=True)
    return weights(folder / "out" / name)


def weights(folder: Path, name: str = "last") -> torch.Tensor:
    network, _ = load_checkpoint(folder / "weights" / f"{name}.pt")
    return torch.cat([each.detach().float().flatten() for each in network.state_dict().values()])


def rows(folder: Path) -> list[list[str]]:
    """The rows of results.csv, without the column of time."""
    return [line.split(",")[:1] + line.split(",")[2:] for line in (folder / "results.csv").read_text().splitlines()]


def main(folder: Path, stops: list[int]) -> None:
    prepare(folder)
    twin = twins.train(folder / "twin", in_sessions(folder, "twin"))
    assert twins.train(folder / "cut", in_sessions(folder, "cut"), stops) == twin
    whole, last = folder / "out/twin/1", folder / f"out/cut/{len(stops) + 1}"
    assert rows(last) == rows(whole)
    assert len(rows(last)) == 1 + EPOCHS
    for name in ("last", "best"):
        assert torch.equal(weights(last, name), weights(whole, name))
    assert twins.train(folder / "cut", in_sessions(folder, "cut")) == twin  # finished: not trained again
    again = folder / f"out/cut/{len(stops) + 2}"
    assert rows(again) == rows(whole)
    assert torch.equal(weights(again, "best"), weights(whole, "best"))
    assert load_checkpoint(again / "weights" / "best.pt")[1]["optimizer"] is None  # as after any whole training
    print("without:", (alone(folder, "whole") - alone(folder, "stopped", stop=2)).abs().max().item())


if __name__ == "__main__":
    main(place, [int(word) for word in sys.argv[2].split(",")])
