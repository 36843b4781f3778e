"""Reads COCO JSON: a file for each split, with images, annotations and categories.

The files are found by their names: `train/_annotations.coco.json` beside the images (Roboflow), or a file with train,
val (or valid) or test in its name, in the folder or in `annotations/`.
"""

from __future__ import annotations

import itertools
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from outlast_recipes.yolo.annotations import Annotations
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.files import Place, is_file
from outlast_recipes.yolo.images import ImageRefused, read_header
from outlast_recipes.yolo.json_lines import JsonRefused, read_object
from outlast_recipes.yolo.outlines import Outlines

ROBOFLOW = "_annotations.coco.json"
_TRIED = 100  # images by which the folder of all is found
_SPLIT = re.compile(r"(?:^|[^a-z])(train|valid|val|test)(?:[^a-z]|$)")


@dataclass
class CocoFile:
    """One file: its categories, images and annotations, each with its line.

    Attributes:
        path: of the file.
        names: id of a category -> its name, in the order of the ids.
        keypoints: K, by the categories' own lists.
        images: id -> line and entry.
        annotations: id of an image -> line and entry.
    """

    path: Path
    names: dict[Any, str] = field(default_factory=dict)
    keypoints: int = 0
    images: dict[Any, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    annotations: dict[Any, list[tuple[int, Mapping[str, Any]]]] = field(default_factory=dict)


def coco_files(root: Path) -> dict[str, Path]:
    """Split -> its file; empty where no file is named for a split."""
    found: dict[str, Path] = {}
    for path in sorted([*root.glob("*.json"), *root.glob("annotations/*.json"), *root.glob(f"*/{ROBOFLOW}")]):
        name = path.parent.name if path.name == ROBOFLOW else path.stem
        named = _SPLIT.search(name.lower())
        if named:
            found.setdefault("val" if named[1] == "valid" else named[1], path)
    return found


def read_coco(files: Mapping[str, Path], place: Place) -> tuple[tuple[str, ...], dict[str, tuple[Sample, ...]], int]:
    """Names, splits and K of these files."""
    read = {split: _read(path, place) for split, path in files.items() if place.check(path, place.shown(path))}
    known = {split: file for split, file in read.items() if file is not None}
    if not known:
        return (), {}, 0
    first = next(iter(known.values()))
    for file in known.values():
        differ = [item for item in file.names.items() if item not in first.names.items()] or [
            item for item in first.names.items() if item not in file.names.items()
        ]
        if differ:
            number, name = differ[0]
            place.problems.error(
                "category",
                place.shown(file.path),
                f"has other categories than {place.shown(first.path)}, such as {number!r:.40} {name!r:.60}; expected "
                "the same ids and names in both. Export the splits together.",
            )
    quads = [] if first.keypoints else _quads(known.values())
    outlines = Outlines.of(quads, place.shown(first.path), place.problems) if quads else None
    keypoints = 4 if outlines else first.keypoints
    splits = {split: tuple(_samples(file, keypoints, outlines, place)) for split, file in known.items()}
    return tuple(first.names.values()), splits, keypoints


def _read(path: Path, place: Place) -> CocoFile | None:
    text = place.read_text(path)
    if text is None:
        return None
    try:
        values, lines = read_object(text)
    except JsonRefused as error:
        place.problems.error(
            "json", f"{place.shown(path)}:{error.line}", f"is no JSON of COCO: {error}. Export it again."
        )
        return None
    entries: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for key in ("categories", "images", "annotations"):
        if not isinstance(values.get(key), list):
            found = f"{key} is {_found(values[key])}" if key in values else f"has no {key}"
            place.problems.error(
                "json", place.shown(path), f"{found}; expected the lists 'categories', 'images' and 'annotations'."
            )
            return None
        entries[key] = []
        for line, entry in zip(lines[key], values[key], strict=True):
            if isinstance(entry, dict):
                entries[key].append((line, entry))
            else:
                place.problems.error(
                    "json",
                    f"{place.shown(path)}:{line}",
                    f"an entry of {key!r} is {_found(entry)}; expected an object in {{}}.",
                )
    file = CocoFile(path)
    _take_categories(file, entries["categories"], place)
    _take_images(file, entries["images"], place)
    for line, entry in entries["annotations"]:
        if _id(entry.get("image_id")) not in file.images:
            place.problems.error(
                "label-alone",
                f"{place.shown(path)}:{line}",
                f"image_id is {_found(entry.get('image_id'))}; expected the id of an entry of 'images'.",
            )
        else:
            file.annotations.setdefault(entry["image_id"], []).append((line, entry))
    return file


def _found(value: Any) -> str:
    """A value for a message."""
    return "missing" if value is None else reprlib.repr(value)


def _id(value: Any) -> Any:
    """An id, or None where it is none that can be looked up."""
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _take_categories(file: CocoFile, entries: list[tuple[int, Mapping[str, Any]]], place: Place) -> None:
    names: dict[Any, str] = {}
    sizes = set()
    for line, entry in entries:
        number, name = _id(entry.get("id")), entry.get("name")
        if number is None or number in names or not isinstance(name, str) or name in names.values():
            place.problems.error(
                "category",
                f"{place.shown(file.path)}:{line}",
                f"id is {_found(entry.get('id'))} and name {_found(name)}; expected an id and a name that no other "
                "category has.",
            )
            continue
        names[number] = name
        sizes.add(len(entry["keypoints"]) if isinstance(entry.get("keypoints"), list) else 0)
    file.names = dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))
    file.keypoints = max(sizes, default=0)
    if len(sizes) > 1:
        place.problems.error(
            "category",
            place.shown(file.path),
            f"its categories have {' and '.join(map(str, sorted(sizes)))} keypoints; expected as many in each. Remove "
            "categories that no annotation uses, or give each the same 'keypoints'.",
        )


def _take_images(file: CocoFile, entries: list[tuple[int, Mapping[str, Any]]], place: Place) -> None:
    names: set[str] = set()
    for line, entry in entries:
        at, number, name = f"{place.shown(file.path)}:{line}", _id(entry.get("id")), entry.get("file_name")
        if number is None or number in file.images:
            found = _found(entry.get("id"))
            place.problems.error("image-entry", at, f"id is {found}; expected one that no other image has.")
        elif not isinstance(name, str) or not name or "\0" in name or name in names:
            place.problems.error(
                "image-entry", at, f"file_name is {_found(name)}; expected one that no other image has."
            )
        else:
            names.add(name)
            file.images[number] = (line, entry)


def _quads(files: Iterable[CocoFile]) -> list[list[tuple[float, float]]]:
    """The outlines of all objects, if each of them is one polygon of four points; otherwise nothing."""
    found = [_polygon(entry) for file in files for own in file.annotations.values() for _, entry in own]
    quads = [quad for quad in found if quad]
    return quads if len(quads) == len(found) else []


def _polygon(entry: Mapping[str, Any]) -> list[tuple[float, float]] | None:
    """The four points of an annotation's outline, if it has exactly one of four."""
    outline = entry.get("segmentation")
    if not isinstance(outline, list) or len(outline) != 1 or not _are_numbers(outline[0], 8):
        return None
    return list(zip(outline[0][::2], outline[0][1::2], strict=True))


def _are_numbers(value: Any, count: int) -> TypeGuard[list[float]]:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e9 for each in value)
    )


def _samples(file: CocoFile, keypoints: int, outlines: Outlines | None, place: Place) -> Iterator[Sample]:
    folder = _folder_of(file, place.root)
    numbers = {number: count for count, number in enumerate(file.names)}
    for number, (line, entry) in sorted(file.images.items(), key=lambda item: str(item[1][1]["file_name"])):
        at = f"{place.shown(file.path)}:{line}"
        path = folder / entry["file_name"]
        if not place.check(path, at):
            continue
        try:
            header = read_header(path)
        except ImageRefused as error:
            place.problems.error("image", at, f"{place.shown(path)} {error}. Replace it, or remove its entry.")
            continue
        size = (entry.get("width"), entry.get("height"))
        if size != (header.width, header.height):
            place.problems.error(
                "image-size",
                at,
                f"{place.shown(path)} has {header.width} x {header.height} pixels"
                f"{', after the rotation of its EXIF data' if header.is_rotated else ''}; the entry says "
                f"{size[0]!r:.20} x {size[1]!r:.20}. Export labels and images together, or correct the entry.",
            )
            continue
        objects = Annotations(path, header, keypoints, keypoints == 4, place.problems, file.path)
        for own_line, annotation in file.annotations.get(number, ()):
            own = f"{place.shown(file.path)}:{own_line}"
            if found := _object(annotation, own, numbers, keypoints, outlines, place):
                objects.add(own, own_line, *found)
        yield objects.sample()


def _folder_of(file: CocoFile, root: Path) -> Path:
    """The folder that the images of a file are in: the first of the usual ones that has any of them."""
    split = file.path.parent.name if file.path.name == ROBOFLOW else ""
    named = _SPLIT.search(file.path.stem.lower())
    words = [split] if split else [named[1], file.path.stem.rpartition("_")[2]] if named else []
    places = [file.path.parent, root, root / "images"]
    places += [place / word for word in words for place in (root, root / "images")]
    names = [entry["file_name"] for _, entry in itertools.islice(file.images.values(), _TRIED)]
    return next((place for name in names for place in places if is_file(place / name)), places[-1])


def _object(
    entry: Mapping[str, Any],
    at: str,
    numbers: Mapping[Any, int],
    keypoints: int,
    outlines: Outlines | None,
    place: Place,
) -> tuple[int, list[float], list[tuple[float, float, int]]] | None:
    """Class, box and keypoints of an annotation; None after a problem was noted."""
    if entry.get("iscrowd") not in (None, 0, False):
        place.problems.warning("crowd", at, "is a crowd, which is not trained on.")
        return None
    category = _id(entry.get("category_id"))
    if category not in numbers:
        place.problems.error(
            "class",
            at,
            f"category_id is {_found(entry.get('category_id'))}; expected an id of 'categories': "
            f"{reprlib.repr(list(numbers))}.",
        )
        return None
    if not _are_numbers(entry.get("bbox"), 4):
        place.problems.error(
            "number",
            at,
            f"bbox is {_found(entry.get('bbox'))}; expected four numbers: x, y, width, height in pixels.",
        )
        return None
    x, y, width, height = entry["bbox"]
    points: list[tuple[float, float, int]] = []
    if outlines and (outline := _polygon(entry)):
        points = [(px, py, 2) for px, py in outlines.corners(outline, at).tolist()]
    elif keypoints:
        given = entry.get("keypoints")
        if not _are_numbers(given, 3 * keypoints) or any(seen not in (0, 1, 2) for seen in given[2::3]):
            place.problems.error(
                "columns",
                at,
                f"keypoints is {_found(given)}; expected {3 * keypoints} numbers: x, y and 0, 1 or 2 for each of "
                f"{keypoints} keypoints.",
            )
            return None
        points = [(given[i], given[i + 1], int(given[i + 2])) for i in range(0, 3 * keypoints, 3)]
    return numbers[category], [x, y, x + width, y + height], points
