"""A clip store: prepared clips, read by memory map in any order and by any number of workers.

    STORE/index.json      format, layout, classes, and an entry for each clip; the files that were refused
    STORE/POINTS.npy      (N, ..., D) float32: the points that were seen, clip after clip, frame after frame
    STORE/mask.npy        (F, ...) bool: what was seen in each frame of each clip
    STORE/NAME.npy        (clips, ...) float32: an array of one shape for each clip, such as lengths of bones

Only what was seen is stored, without loss: the second body, which most clips do not have, takes no space. Nothing in it
is pickled. `preparing` makes stores.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np

import outlast
from outlast_recipes.common.clips import ClipFormat, E, Floats, Mask, RawFiles

FORMAT = 1
INDEX = "index.json"


@dataclass(frozen=True)
class RefusedFile:
    """A file that was left out, and why."""

    name: str
    why: str


class ClipStore(Generic[E]):
    """A prepared data set; cheap to open and to hand to workers.

    Args:
        folder: folder of the store.
        form: format of the recipe's clips.

    Attributes:
        entries: the clips, by name.
        refused: the files that were left out.
        layout: name of what the points are.
        classes: names of the classes.
        hash: hash of all points, labels and the layout; equal for equal data, on whatever machine they were prepared.

    Raises:
        outlast.DataError: it is not a complete store.
    """

    def __init__(self, folder: Path, form: ClipFormat[Any, E]) -> None:
        self.folder = folder
        self._names = (f"_{form.points}", *form.fixed)
        try:
            index = json.loads((folder / INDEX).read_bytes())
            # Attributes bear the arrays' names: a resume knows the samples that it compares by their paths.
            setattr(self, self._names[0], np.load(folder / f"{form.points}.npy", mmap_mode="r", allow_pickle=False))
            self._mask: Mask = np.load(folder / "mask.npy", mmap_mode="r", allow_pickle=False)
            for name in form.fixed:
                setattr(self, name, np.load(folder / f"{name}.npy", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise outlast.DataError(
                f"{folder} is a damaged store of {form.noun} ({error}). Prepare it again, with --replace."
                if (folder / INDEX).exists()
                else f"{folder} is not a prepared store of {form.noun} ({error}). Prepare one with: {form.command}"
            ) from error
        if index.get("format") != FORMAT:
            raise outlast.DataError(
                f"{folder} has format {index.get('format')}; this version reads {FORMAT}. Prepare it again, with "
                "--replace."
            )
        self.layout: str = index["layout"]
        self.hash: str = index["hash"]
        self.classes: list[str] = index["classes"]
        self.entries: list[E] = [form.entry(**each) for each in index["clips"]]
        self.refused = [RefusedFile(**each) for each in index["refused"]]
        complete = len(self._mask) == sum(entry.length for entry in self.entries)
        complete &= all(len(array) == len(self.entries) for array in self.fixed.values())
        if not complete:
            raise outlast.DataError(
                f"{folder} is incomplete or damaged: the sizes of its files do not match. "
                "Prepare it again, with --replace."
            )

    @property
    def fixed(self) -> dict[str, Floats]:
        """Name -> array with one row for each clip."""
        return {name: getattr(self, name) for name in self._names[1:]}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> tuple[Floats, Mask]:
        """Points (T, ..., D) and mask (T, ...) of one clip."""
        points, mask = self.padded([number])
        return points[0], mask[0]

    def padded(self, numbers: Sequence[int]) -> tuple[Floats, Mask]:
        """Points (N, T, ..., D) and mask (N, T, ...) of some clips; zero and False after a clip's length."""
        # As plain arrays: each slice of a memory map costs microseconds.
        masks, packed = np.asarray(self._mask), np.asarray(getattr(self, self._names[0]))
        entries = [self.entries[number] for number in numbers]
        longest = max((entry.length for entry in entries), default=0)
        mask = np.zeros((len(entries), longest, *masks.shape[1:]), np.bool_)
        rows = []
        for row, entry in enumerate(entries):
            seen = masks[entry.frames : entry.frames + entry.length]
            mask[row, : entry.length] = seen
            rows.append(packed[entry.rows : entry.rows + int(np.count_nonzero(seen))])
        points = np.zeros((*mask.shape, *packed.shape[1:]), np.float32)
        if entries:
            # What belongs to one bool is one item: NumPy is many times faster with as many items as bools.
            item = np.dtype((np.void, math.prod(packed.shape[1:]) * packed.itemsize))
            points.reshape(-1).view(item)[mask.reshape(-1)] = np.concatenate(rows).reshape(-1).view(item)
        return points, mask


def find_store(root: Path, form: ClipFormat[Any, Any]) -> Path:
    """The store in a folder: the folder itself, or the only one a few levels below it, as Kaggle attaches data sets
    below /kaggle/input.

    Raises:
        outlast.DataError: there is none, or several.
    """
    if (root / INDEX).is_file():
        return root
    levels = ("/".join(["*"] * depth) for depth in range(1, 5))
    found = [
        path.parent
        for level in levels
        for path in root.glob(f"{level}/{INDEX}")
        if (path.parent / f"{form.points}.npy").is_file()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise outlast.DataError(
            f"{root} holds {len(found)} clip stores: {', '.join(map(str, sorted(found)))}. Give the folder of one of "
            "them."
        )
    raw = raw_files(root, form)
    what = (
        f"holds raw files such as {raw.files[0].relative_to(root)} and no clip store"
        if raw
        else f"is not a prepared store of {form.noun}"
    )
    folder = shlex.quote(str(root)) if raw else "FOLDER"
    raise outlast.DataError(f"{root} {what}. Prepare one with: {form.command} {folder} --to STORE")


def raw_files(root: Path, form: ClipFormat[Any, Any]) -> RawFiles[Any] | None:
    """The raw files of one data set below a folder; None when there are none that the recipe knows, or of several
    kinds."""
    try:
        found = form.find(root)
    except outlast.DataError:
        return None
    return found if found.files else None
