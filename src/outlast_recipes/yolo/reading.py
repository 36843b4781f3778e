"""Reads a dataset, whatever format its files have."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import outlast
from outlast_recipes.common.problems import Problems, counted
from outlast_recipes.yolo.coco_json import coco_files, read_coco
from outlast_recipes.yolo.data import Dataset, Sample
from outlast_recipes.yolo.files import Place
from outlast_recipes.yolo.images import quiet
from outlast_recipes.yolo.yolo_folder import read_samples
from outlast_recipes.yolo.yolo_yaml import read_data_yaml


def read_dataset(root: Path, *, outside: bool = False) -> Dataset:
    """The dataset in a folder, from its labels and the headers of its images; their pixels are not read.

    Args:
        root: a folder with data.yaml or COCO JSON, or such a data.yaml, or a COCO JSON file, which is then "train".
        outside: whether files may lie outside the folder, by a path in data.yaml or behind a link.

    Raises:
        outlast.DataError: there is none, it cannot be trained on, or it has no images to train and to validate on.
    """
    problems = Problems()
    found = read_with_problems(root, problems, outside=outside)
    problems.refuse(root, "yolo")
    for split in ("train", "val"):
        if not found.splits.get(split):
            raise outlast.DataError(
                f"{root} has no images for {split!r}; it has {', '.join(found.splits) or 'no split'}. Name folders of "
                "images as 'train' and 'val' in data.yaml, or give a COCO JSON for each."
            )
    if problem := without_objects(found):
        raise outlast.DataError(f"{root} {problem}")
    return found


def without_objects(dataset: Dataset) -> str | None:
    """What is wrong when nothing is labelled in the images to train on, or None."""
    samples = dataset.splits.get("train", ())
    if not samples or any(len(sample.boxes) for sample in samples):
        return None
    alone = sum(sample.source is None for sample in samples)
    return (
        f"has {counted(len(samples), 'image')} to train on, of which {alone:,} have no label file, and no object in "
        f"them. Labels of images/NAME.jpg are in labels/NAME.txt."
    )


def read_with_problems(root: Path, problems: Problems, *, outside: bool = False) -> Dataset:
    """The same without what is wrong, which is noted; raises outlast.DataError only when there is nothing to read."""
    if root.is_file() and root.suffix in (".yaml", ".yml", ".json"):
        given, root = root, root.parent
    elif root.is_dir():
        given = None
    else:
        found = "is no dataset" if root.exists() else "does not exist"
        raise outlast.DataError(
            f"{root} {found}; expected the folder of a dataset, or its data.yaml or COCO JSON. Check the path."
        )
    place = Place(root, outside, problems)
    with quiet():
        file = given if given and given.suffix != ".json" else None if given else _data_yaml(root)
        if file is not None:
            return _yolo(file, place)
        files = {"train": given} if given else coco_files(root)
        if not files:
            raise outlast.DataError(
                f"{root} has no data.yaml, and no COCO JSON with train or val in its name; expected a YOLO folder or a "
                "COCO dataset. Give the folder that has the file."
            )
        names, splits, keypoints = read_coco(files, place)
    return _dataset(root, names, splits, keypoints, None)


def _data_yaml(root: Path) -> Path | None:
    """data.yaml, or the only YAML file of a folder that names classes."""
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    found = [
        path
        for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
        if path.is_file() and path.stat().st_size < 2**20 and b"\nnames:" in b"\n" + path.read_bytes()
    ]
    if len(found) > 1:
        shown = " and ".join(path.name for path in found[:2])
        raise outlast.DataError(
            f"{root} has {shown}, which both name classes; expected one file. Give the path of the file instead of the "
            "folder."
        )
    return found[0] if found else None


def _yolo(file: Path, place: Place) -> Dataset:
    told = read_data_yaml(file, place) if place.check(file, place.shown(file)) else None
    if told is None:
        return _dataset(place.root, (), {}, 0, None)
    splits, keypoints = read_samples(told, place)
    return _dataset(place.root, told.names, splits, keypoints, told.flip_index)


def _dataset(
    root: Path,
    names: tuple[str, ...],
    splits: Mapping[str, tuple[Sample, ...]],
    keypoints: int,
    flip_index: tuple[int, ...] | None,
) -> Dataset:
    found = Dataset(root, names, splits, keypoints, flip_index)
    return replace(found, hash=_hash(found))


def _hash(dataset: Dataset) -> str:
    """Of labels, of paths below the folder, and of the sizes of images in pixels; not of their pixels."""
    made = hashlib.sha256(json.dumps([dataset.names, dataset.keypoints, dataset.flip_index]).encode())
    for split, samples in sorted(dataset.splits.items()):
        for sample in samples:
            place = os.path.relpath(sample.path, dataset.root)
            made.update(json.dumps([split, place, sample.width, sample.height, len(sample.boxes)]).encode())
            for array in (sample.boxes, sample.classes, sample.keypoints, sample.visible):
                made.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return made.hexdigest()
