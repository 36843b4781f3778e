"""Reads a YOLO folder: data.yaml, images, and for each image a text file with a line for each object.

A line has the class and then, as shares of the image's width and height: the middle, width and height of a box; the
same with K keypoints; or the points of a polygon, of which four are the corners of an oriented box.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast_recipes.yolo.annotations import MOST_OBJECTS, Annotations
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.files import Place, is_file, text_lines
from outlast_recipes.yolo.images import SUFFIXES, ImageRefused, read_header
from outlast_recipes.yolo.outlines import Outlines
from outlast_recipes.yolo.yolo_yaml import DataFile

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SLACK = 1e-4  # shares of the image beyond 0 and 1 that rounding explains


@dataclass(frozen=True)
class _Line:
    """A line of a label file: its number in the file, and the numbers in it."""

    line: int
    numbers: tuple[float, ...]


def read_samples(file: DataFile, place: Place) -> tuple[dict[str, tuple[Sample, ...]], int]:
    """The images of every split with their objects, and K, which polygons of four points set to 4."""
    named = {split: list(dict.fromkeys(_images(paths, place))) for split, paths in file.splits.items()}
    listed = {
        split: [image for image in images if place.check(image, place.shown(image))] for split, images in named.items()
    }
    for split, images in named.items():
        if not images and file.splits[split]:
            place.problems.error(
                "split",
                ", ".join(map(place.shown, file.splits[split])),
                f"has no images; expected files that end in {', '.join(sorted(SUFFIXES))}.",
            )
    lines = {
        image: _lines(label, place) for images in listed.values() for image in images for label in [label_of(image)]
    }
    if not file.keypoints and (count := _unsaid_keypoints(lines.values())):
        place.problems.error(
            "yaml",
            place.shown(file.path),
            f"kpt_shape is missing, and all labels have {5 + 3 * count} numbers, which are those of a box and {count} "
            f"keypoint{'s' if count > 1 else ''} with visibility; expected kpt_shape: [{count}, 3].",
        )
        return {}, 0
    outlines = None
    if not file.keypoints and _are_quads(lines.values()):
        quads = [_pairs(line.numbers[1:]) for own in lines.values() for line in own or ()]
        outlines = Outlines.of(quads, place.root, place.problems)
    keypoints = 4 if outlines else file.keypoints
    _orphans(named, place)
    splits = {
        split: tuple(
            sample for image in images if (sample := _sample(image, lines[image], file, keypoints, outlines, place))
        )
        for split, images in listed.items()
    }
    return splits, keypoints


def label_of(image: Path) -> Path:
    """The label file of an image: the last folder called images becomes labels, the ending .txt."""
    pieces = list(image.parts)
    for number in range(len(pieces) - 2, -1, -1):
        if pieces[number] == "images":
            pieces[number] = "labels"
            break
    return Path(*pieces).with_suffix(".txt")


def _images(paths: Iterable[Path], place: Place) -> Iterator[Path]:
    for path in paths:
        yield from place.images_in(path) if path.is_dir() else _listed(path, place)


def _listed(path: Path, place: Place) -> Iterator[Path]:
    """The images that a text file names, one a line; "./" is the folder of the file."""
    text = place.read_text(path) if path.suffix == ".txt" else None
    if path.suffix != ".txt":
        place.problems.error(
            "split", place.shown(path), "is no folder; expected one, or a .txt file with paths of images."
        )
    for number, line in enumerate(text_lines(text or ""), 1):
        name = line.strip()
        if not name:
            continue
        image = path.parent / name if name.startswith("./") else place.root / name
        if not is_file(image):
            place.problems.error(
                "image-missing",
                f"{place.shown(path)}:{number}",
                f"{name!r:.200} is no file; expected the path of an image from the folder of the dataset on, or with "
                "./ from that of this list on.",
            )
        else:
            yield image


def _lines(label: Path, place: Place) -> list[_Line] | None:
    """The lines of a label file with numbers in them; None without a file."""
    if not label.is_symlink() and not label.exists():
        return None
    if not place.check(label, place.shown(label)):
        return []
    found, text = [], place.read_text(label)
    for number, line in enumerate(text_lines(text or ""), 1):
        words = line.split()
        if not words:
            continue
        if number > MOST_OBJECTS:
            place.problems.error(
                "objects",
                f"{place.shown(label)}:{number}",
                f"has more lines; expected at most {MOST_OBJECTS:,} objects in an image.",
            )
            break
        wrong = next((word for word in words if not _NUMBER.fullmatch(word)), None)
        if wrong is None:
            found.append(_Line(number, tuple(map(float, words))))
        else:
            place.problems.error(
                "number", f"{place.shown(label)}:{number}", f"{wrong!r:.60} is no number; expected numbers and spaces."
            )
    return found


def _are_quads(files: Iterable[list[_Line] | None]) -> bool:
    sizes = {len(line.numbers) for lines in files for line in lines or ()}
    return sizes == {9}


def _unsaid_keypoints(files: Iterable[list[_Line] | None]) -> int:
    """K, if every line has the form of a box and K keypoints with visibility, which is hardly that of a polygon."""
    lines = [line.numbers for own in files for line in own or ()]
    size = len(lines[0]) if lines else 0
    if size <= 5 or (size - 5) % 3 or {len(line) for line in lines} != {size}:
        return 0
    are_seen = all(seen in (0, 1, 2) for line in lines for seen in line[7::3])
    whole = all(value in (0, 1) for line in lines for value in line[1:])  # a polygon around the image
    return (size - 5) // 3 if are_seen and not whole else 0


def _pairs(values: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _orphans(listed: dict[str, list[Path]], place: Place) -> None:
    """Label files beside those of the images that belong to no image."""
    labels = {label_of(image) for images in listed.values() for image in images}
    images_in = {image.parent for images in listed.values() for image in images}
    for folder in sorted({label.parent for label in labels} - images_in):
        for path in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
            if path not in labels and path.name != "classes.txt":
                place.problems.warning("label-alone", place.shown(path), "no image belongs to these labels.")


def _sample(
    image: Path,
    lines: list[_Line] | None,
    file: DataFile,
    keypoints: int,
    outlines: Outlines | None,
    place: Place,
) -> Sample | None:
    try:
        header = read_header(image)
    except ImageRefused as error:
        place.problems.error("image", place.shown(image), f"{error}. Replace it, or remove it with its labels.")
        return None
    if header.is_rotated:
        place.problems.warning(
            "exif",
            place.shown(image),
            "is rotated by its EXIF data; its labels are taken for those of the rotated one.",
        )
    label = label_of(image)
    plain_corners = keypoints == 4 and file.flip_index in (None, (0, 1, 2, 3))
    objects = Annotations(image, header, keypoints, plain_corners, place.problems, label if lines is not None else None)
    for line in lines or ():
        at = f"{place.shown(label)}:{line.line}"
        number = _class_of(line, at, file, place)
        if number is None:
            continue
        shares = _shares(line, at, file, quads=outlines is not None, place=place)
        if shares is None:
            continue
        box, points = shares
        width, height = header.width, header.height
        keypoint_pixels = [(x * width, y * height, seen) for x, y, seen in points]
        if outlines:
            found = outlines.corners([point[:2] for point in keypoint_pixels], at)
            keypoint_pixels = [(x, y, 2) for x, y in found.tolist()]
        box_pixels = [value * (height if axis % 2 else width) for axis, value in enumerate(box)]
        objects.add(at, line.line, number, box_pixels, keypoint_pixels)
    return objects.sample()


def _class_of(line: _Line, at: str, file: DataFile, place: Place) -> int | None:
    number = line.numbers[0]
    if 0 <= number < len(file.names) and number == int(number):
        return int(number)
    last = len(file.names) - 1
    place.problems.error(
        "class",
        at,
        f"the class is {number:g}; expected 0{f' to {last}' if last else ''} by 'names' in data.yaml.",
    )
    return None


def _shares(
    line: _Line, at: str, file: DataFile, *, quads: bool, place: Place
) -> tuple[list[float], list[tuple[float, float, int]]] | None:
    """Box (x1, y1, x2, y2) and keypoints as shares of the image; None after a problem was noted."""
    values = line.numbers[1:]
    expected = 4 + file.keypoints * file.dimensions
    polygon = not file.keypoints and len(values) >= 6 and len(values) % 2 == 0
    if len(values) != expected and not polygon:
        hint = ""
        if len(values) == 5 and not file.keypoints:
            hint = "; a sixth number is a score, which labels have not"
        elif len(values) == 4 or (not file.keypoints and len(values) > 4):
            hint = "; kpt_shape in data.yaml says how many keypoints there are"
        place.problems.error(
            "columns", at, f"has {len(line.numbers)} numbers; expected {1 + expected}: {_columns(file)}{hint}."
        )
        return None
    if polygon:
        points = _pairs(values)
        if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
            _beyond(max(values, key=lambda value: abs(value - 0.5)), at, place)
            return None
        xs, ys = zip(*points, strict=True)
        return [min(xs), min(ys), max(xs), max(ys)], [(x, y, 2) for x, y in points] if quads else []
    x, y, width, height = values[:4]
    wrong = next((value for value in values[:4] if not -_SLACK <= value <= 1 + _SLACK), None)
    if wrong is not None:
        _beyond(wrong, at, place)
        return None
    keypoints = []
    for start in range(4, len(values), file.dimensions):
        px, py, *seen = values[start : start + file.dimensions]
        if seen and seen[0] not in (0, 1, 2):
            place.problems.error("visibility", at, f"a keypoint's visibility is {seen[0]:g}; expected 0, 1 or 2.")
            return None
        keypoints.append((px, py, int(seen[0]) if seen else 2))
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2], keypoints


def _columns(file: DataFile) -> str:
    keypoints = f" and {file.keypoints} keypoints of {file.dimensions}" if file.keypoints else ""
    return f"the class, 4 of the box{keypoints}"


def _beyond(value: float, at: str, place: Place) -> None:
    pixels = "; pixels must be divided by the width and height of the image" if value > 2 else ""
    place.problems.error("range", at, f"{value:g} is no share of the image; expected 0 to 1{pixels}.")
