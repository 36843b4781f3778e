"""The clips of sign in a clip store.

STORE/values.npy      (N, 2) float32 shares of the frame: the keypoints that were seen; or (F, 2048) features
STORE/mask.npy        (F, 78) bool: which keypoints were seen; or (F,) True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import outlast
from outlast_recipes.common.clip_store import ClipStore
from outlast_recipes.common.clips import ClipFormat, Floats, Mask, RawFiles
from outlast_recipes.sign import npz
from outlast_recipes.sign.labels import Label

KEYPOINTS, FEATURES = "keypoints-78", "features-2048"
"""Layouts of stores."""


@dataclass(frozen=True)
class Clip:
    """One labelled clip.

    Attributes:
        name: SPLIT/FILE.
        label: gloss, from 0.
        points: (T, 78, 2) shares of the frame, or (T, 2048) features.
        mask: (T, 78) what was seen, or (T,) True.
        labels: the row of the CSV.
        aspect: width of the frame by its height; 0 when the file does not say.
    """

    name: str
    label: int
    points: Floats
    mask: Mask
    labels: Label
    aspect: float


@dataclass(frozen=True)
class Entry:
    """A clip in the index of a store; see `common.clips.Entry`. The order of the fields is part of the store's hash."""

    name: str
    label: int
    category: int
    occluded: bool
    group: str
    aspect: float
    length: int
    rows: int
    frames: int
    hash: str

    @property
    def split(self) -> str:
        """The split of the folder that it comes from: train, val or test."""
        return self.name.partition("/")[0]


Store: TypeAlias = ClipStore[Entry]


def facts(clip: Clip) -> dict[str, Any]:
    """The entry of a clip."""
    return {
        "name": clip.name,
        "label": clip.label,
        "category": clip.labels.category,
        "occluded": clip.labels.occluded,
        "group": clip.labels.group,
        "aspect": clip.aspect,
    }


def no_folder(folder: Path) -> RawFiles[Clip]:
    """A store of sign is made from files and their labels together, not from a folder."""
    raise outlast.DataError(f"{folder} is no clip store of sign.")


FORM: ClipFormat[Clip, Entry] = ClipFormat(
    recipe="sign", noun="signs", points="values", entry=Entry, facts=facts, find=no_folder
)


def raw_files(splits: Mapping[str, Mapping[Path, Label]], key: str, *, features: bool) -> RawFiles[Clip]:
    """The files of all splits, with their labels.

    Args:
        splits: split -> file -> its label.
        key: of the array in a file.
        features: whether the files hold image features.
    """
    labels = {path: (split, label) for split, files in splits.items() for path, label in files.items()}
    read = partial(_read, labels=labels, key=key, features=features)
    return RawFiles(list(labels), read, FEATURES if features else KEYPOINTS)


def _read(path: Path, labels: Mapping[Path, tuple[str, Label]], key: str, *, features: bool) -> Clip:
    split, label = labels[path]
    name = f"{split}/{label.file}"
    if features:
        values = npz.read_features(path, key)
        return Clip(name, label.gloss, values, np.ones(len(values), np.bool_), label, 0.0)
    found = npz.read_keypoints(path, key)
    return Clip(name, label.gloss, found.points, found.seen, label, found.aspect or 0.0)
