"""Small datasets of made-up pictures with plates: quadrilaterals with a light edge, whose corners are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CORNERS = [(12.0, 20.0), (52.0, 22.0), (50.0, 42.0), (10.0, 40.0)]
"""Of the plate in every picture, in reading order."""


def picture(seed: int = 0, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Smooth noise with a plate; each seed has another noise."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 255, (20, 20, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    plate = Image.fromarray(random.integers(80, 255, (8, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    mask = Image.new("1", size)
    ImageDraw.Draw(mask).polygon(CORNERS, fill=1)
    image.paste(plate, mask=mask)
    ImageDraw.Draw(image).line([*CORNERS, CORNERS[0]], fill=(250, 250, 240), width=2)
    return image


def line(
    number: int = 0,
    corners: Sequence[tuple[float, float]] = CORNERS,
    size: tuple[int, int] = (64, 64),
    seen: bool = True,
) -> str:
    """A line of a label file with box and corners."""
    xs, ys = zip(*corners, strict=True)
    width, height = size
    values = [(min(xs) + max(xs)) / 2 / width, (min(ys) + max(ys)) / 2 / height]
    values += [(max(xs) - min(xs)) / width, (max(ys) - min(ys)) / height]
    for x, y in corners:
        values += [x / width, y / height, *([2] if seen else [])]
    return " ".join([str(number), *(f"{value:.6f}" for value in values)])


def folder(root: Path, sizes: tuple[int, int, int] = (3, 2, 1), more: str = "kpt_shape: [4, 3]\n") -> Path:
    """A YOLO folder with so many pictures for train, val and test."""
    seed = 0
    for split, size in zip(("train", "val", "test"), sizes, strict=True):
        for name in ("images", "labels"):
            (root / name / split).mkdir(parents=True)
        for _ in range(size):
            picture(seed).save(root / f"images/{split}/{seed}.png")
            (root / f"labels/{split}/{seed}.txt").write_text(line() + "\n")
            seed += 1
    (root / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: images/val\ntest: images/test\n{more}names: [plate]\n"
    )
    return root


def coco(root: Path, **changes: object) -> Path:
    """A COCO dataset with two pictures for train and one for val; `changes` go into the first annotation."""
    (root / "annotations").mkdir(parents=True)
    xs, ys = zip(*CORNERS, strict=True)
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    for split, seeds in (("train", (0, 1)), ("val", (2,))):
        (root / split).mkdir()
        images, annotations = [], []
        for seed in seeds:
            picture(seed).save(root / split / f"{seed}.png")
            images.append({"id": seed, "file_name": f"{seed}.png", "width": 64, "height": 64})
            points = [value for corner in CORNERS for value in (*corner, 2)]
            own = {"id": seed, "image_id": seed, "category_id": 7, "bbox": box, "keypoints": points, "iscrowd": 0}
            annotations.append({**own, **(changes if seed == 0 else {})})
        categories = [{"id": 7, "name": "plate", "keypoints": ["tl", "tr", "br", "bl"]}]
        held = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(held, indent=1))
    return root
