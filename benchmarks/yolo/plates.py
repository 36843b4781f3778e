"""Writes a made-up set of pictures of container numbers, with their corners as labels: a YOLO folder.

    python -m benchmarks.yolo.plates plates/

Each picture has one plate, or sometimes two, with a valid number of ISO 6346, seen in perspective and rotated by up to
25 degrees, on a background of shapes and noise. The same arguments write the same files.
"""

from __future__ import annotations

import argparse
import string
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from outlast_recipes.yolo.iso6346 import check_digit
from outlast_recipes.yolo.rectify import perspective

PLATE = (240, 60)  # pixels of a plate that is seen from the front
COLOURS = (((240, 240, 230), (20, 20, 30)), ((30, 60, 140), (245, 245, 245)), ((235, 190, 40), (15, 15, 15)))

Chance = np.random.Generator


def number(chance: Chance) -> str:
    """A container number with its check digit, in groups."""
    owner = "".join(chance.choice(list(string.ascii_uppercase), 3)) + "U"
    digits = "".join(map(str, chance.integers(0, 10, 6)))
    return f"{owner} {digits} {check_digit(owner + digits)}"


def plate(text: str, chance: Chance) -> Image.Image:
    """A plate from the front."""
    paper, ink = COLOURS[int(chance.integers(len(COLOURS)))]
    made = Image.new("RGB", PLATE, paper)
    draw = ImageDraw.Draw(made)
    draw.rectangle((3, 3, PLATE[0] - 4, PLATE[1] - 4), outline=ink, width=2)
    draw.text((PLATE[0] / 2, PLATE[1] / 2), text, fill=ink, font=ImageFont.load_default(30), anchor="mm")
    return made


def corners(chance: Chance, size: int) -> NDArray[np.float64]:
    """Corners (4, 2) of a plate in a square picture, in reading order: rotated, and seen in perspective."""
    wide = size * chance.uniform(0.32, 0.62)
    high = wide * PLATE[1] / PLATE[0] * chance.uniform(0.9, 1.25)
    angle = np.radians(chance.uniform(-25, 25))
    flat = np.array([(-wide, -high), (wide, -high), (wide, high), (-wide, high)]) / 2
    flat += chance.uniform(-0.12, 0.12, (4, 2)) * high
    turned = flat @ np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    low, room = -turned.min(0) + 2, size - np.ptp(turned, axis=0) - 4
    return turned + low + chance.uniform(0, 1, 2) * room


def background(chance: Chance, size: int) -> Image.Image:
    """Smooth colours with boxes and lines on them."""
    rough = chance.integers(30, 220, (4, 4, 3), np.uint8)
    made = Image.fromarray(rough).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(made)
    for _ in range(int(chance.integers(4, 10))):
        (x, y), (wide, high) = chance.uniform(0, size, 2), chance.uniform(4, size / 3, 2)
        fill = tuple(map(int, chance.integers(0, 256, 3)))
        if chance.random() < 0.5:
            draw.rectangle((x, y, x + wide, y + high), fill=fill)
        else:
            draw.line((x, y, x + wide, y + high), fill=fill, width=2)
    return made


def picture(chance: Chance, size: int) -> tuple[Image.Image, list[NDArray[np.float64]]]:
    """A picture, and the corners of its plates."""
    made, places = background(chance, size), []
    for _ in range(1 + (chance.random() < 0.2)):
        place = corners(chance, size)
        if any((place.min(0) < other.max(0)).all() and (other.min(0) < place.max(0)).all() for other in places):
            continue  # it would hide the first
        front = plate(number(chance), chance)
        rectangle = np.array([(0, 0), (PLATE[0], 0), PLATE, (0, PLATE[1])], np.float64)
        shape, way = (size, size), perspective(place, rectangle)
        seen = front.transform(shape, Image.Transform.PERSPECTIVE, way, Image.Resampling.BICUBIC)
        whole = Image.new("L", PLATE, 255)
        mask = whole.transform(shape, Image.Transform.PERSPECTIVE, way, Image.Resampling.BILINEAR)
        made.paste(seen, mask=mask)
        places.append(place)
    noise = chance.normal(0, 6, (size, size, 3)) + chance.uniform(-30, 30)
    return Image.fromarray(np.clip(np.asarray(made) + noise, 0, 255).astype(np.uint8)), places


def label(place: NDArray[np.float64], size: int) -> str:
    """The line of a label file: class, box, and corners that are visible."""
    low, high = place.min(0), place.max(0)
    shares: list[Any] = [*((low + high) / 2 / size), *((high - low) / size)]
    words = [f"{share:.6f}" for share in shares]
    return " ".join(["0", *words, *(f"{x / size:.6f} {y / size:.6f} 2" for x, y in place)])


def write(folder: Path, counts: tuple[int, int, int], size: int, seed: int) -> None:
    """Write the set.

    Args:
        folder: that does not exist, or is empty.
        counts: of pictures for train, val and test.
        size: of their sides in pixels.
        seed: of everything in them.
    """
    chance = np.random.default_rng(seed)
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            made, places = picture(chance, size)
            made.save(folder / f"images/{split}/{split}-{index:03}.jpg", quality=92)
            lines = "".join(f"{label(place, size)}\n" for place in places)
            (folder / f"labels/{split}/{split}-{index:03}.txt").write_text(lines)
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [plate]\nkpt_shape: [4, 3]\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a made-up set of pictures of container numbers.")
    parser.add_argument("folder", type=Path, help="folder for the set; it must not exist")
    parser.add_argument(
        "--counts", type=int, nargs=3, default=(140, 30, 30), metavar=("TRAIN", "VAL", "TEST"), help="pictures"
    )
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="side of a picture (default: 224)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all pictures (default: 0)")
    values = parser.parse_args()
    if values.folder.exists():
        parser.error(f"{values.folder} exists; give a new folder")
    if min(values.counts) < 1 or not 64 <= values.size <= 4096:
        parser.error("expected at least one picture for each split, and a size of 64 to 4096 pixels")
    write(values.folder, tuple(values.counts), values.size, values.seed)
    print(f"Wrote {sum(values.counts)} pictures to {values.folder}: outlast data check yolo {values.folder}")


if __name__ == "__main__":
    main()
