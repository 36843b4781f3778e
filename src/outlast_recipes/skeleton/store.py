"""The entry of a clip in a clip store of skeletons.

STORE/joints.npy      (N, V, 3) float32 metres: the positions of all bodies that were seen
STORE/mask.npy        (F, M) bool: which bodies were seen
STORE/bones.npy       (clips, M, V) float32 metres: mean length of the bone that ends in each joint; 0 for none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from outlast_recipes.common.clip_store import ClipStore
from outlast_recipes.common.clips import ClipFormat, Floats
from outlast_recipes.skeleton import formats
from outlast_recipes.skeleton.bodies import Clip
from outlast_recipes.skeleton.layouts import LAYOUTS


@dataclass(frozen=True)
class Entry:
    """A clip in the index of a store; see `common.clips.Entry`. The order of the fields is part of the store's hash."""

    name: str
    label: int
    subject: int
    camera: int
    setup: int
    bodies: int
    length: int
    rows: int
    frames: int
    hash: str


Store: TypeAlias = ClipStore[Entry]


def facts(clip: Clip) -> dict[str, Any]:
    """The entry of a clip."""
    return {
        "name": clip.name,
        "label": clip.label,
        "subject": clip.subject,
        "camera": clip.camera,
        "setup": clip.setup,
        "bodies": int(clip.mask.any(axis=0).sum()),
    }


def bones_of(clip: Clip, layout: str) -> Floats:
    """(M, V) metres: mean length of the bone that ends in each joint."""
    return bone_lengths(clip, LAYOUTS[layout].parents)


def bone_lengths(clip: Clip, parents: Sequence[int]) -> Floats:
    """(M, V) metres: mean over the frames in which a body was seen, 0 for bodies that never were."""
    lengths = np.linalg.norm(clip.joints - clip.joints[:, :, list(parents)], axis=-1)
    seen = np.maximum(clip.mask.sum(axis=0), 1)[:, None]
    return np.float32((lengths * clip.mask[..., None]).sum(axis=0) / seen)


FORM: ClipFormat[Clip, Entry] = ClipFormat(
    recipe="skeleton",
    noun="skeletons",
    points="joints",
    entry=Entry,
    facts=facts,
    find=formats.find_complete,
    fixed={"bones": bones_of},
)


def open_store(folder: Path) -> Store:
    """The store in a folder; raises outlast.DataError when it is not a complete store of skeletons."""
    return ClipStore(folder, FORM)
