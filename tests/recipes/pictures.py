"""Made-up pictures that a detector can learn from, and the recipe in miniature."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.reading import read_dataset

SIZE = 64

TINY = {
    "model.architecture": "tiny", "model.image_size": "64", "epochs": "3", "batch_size": "4",
    "training.nominal_batch": "8", "training.warmup_epochs": "1", "log_every": "1", "save_every": "never",
    "keep_best": "0",
}  # fmt: skip
"""12 steps of 4 batches an epoch. The weights are updated after each batch, later after 2."""

NANO = {**TINY, "model.architecture": "yolo11n", "training.close_mosaic": "1"}
"""The same with a network of ultralytics; the last epoch has no mosaics."""


def installed(architecture: str, patch: pytest.MonkeyPatch) -> None:
    """Skip the test where RF-DETR is needed and absent, as in CI; where it is there, make its smallest size smaller.

    300 queries in 13 groups take 6 to 9 seconds of CPU for a step of 4 images, and its preview of keypoints 25.
    """
    if not architecture.startswith("rfdetr"):
        return
    if not importlib.util.find_spec("rfdetr"):
        pytest.skip("the extra rfdetr is not installed")
    from outlast_recipes.yolo.rfdetr_adapter import network

    kind, _ = network.SIZES["nano"]
    patch.setitem(network.SIZES, "nano", (kind, {"num_queries": 8, "num_select": 8, "group_detr": 2}))


def folder(root: Path, *, keypoints: bool = False, counts: tuple[int, int, int] = (16, 4, 4)) -> Path:
    """A YOLO folder with squares: green ones of class 0, red ones of class 1; their corners in reading order."""
    chance = np.random.default_rng(0)
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(count):
            picture = chance.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
            lines = []
            for _ in range(2):
                side = int(chance.integers(14, 28))
                left, top, kind = (int(chance.integers(0, high)) for high in (SIZE - side, SIZE - side, 2))
                picture[top : top + side, left : left + side] = (250, 40, 40) if kind else (40, 250, 40)
                numbers = [left + side / 2, top + side / 2, side, side]
                line = [f"{kind}", *(f"{value / SIZE}" for value in numbers)]
                if keypoints:
                    right, bottom = left + side, top + side
                    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
                        line += [f"{x / SIZE}", f"{y / SIZE}", "2"]
                lines.append(" ".join(line))
            Image.fromarray(picture).save(images / f"{split}{number:02d}.png")
            (labels / f"{split}{number:02d}.txt").write_text("\n".join(lines) + "\n")
    shape = "kpt_shape: [4, 3]\n" if keypoints else ""
    (root / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [green, red]\n{shape}"
    )
    return root


def dataset(root: Path, *, keypoints: bool = False, counts: tuple[int, int, int] = (16, 4, 4)) -> Dataset:
    """The data of such a folder."""
    return read_dataset(folder(root, keypoints=keypoints, counts=counts))
