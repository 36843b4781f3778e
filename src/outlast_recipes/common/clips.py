"""The interface of clips: labelled recordings of different lengths, of which only visible points are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]


class Clip(Protocol):
    """One labelled recording, as a reader of files gives it."""

    @property
    def name(self) -> str:
        """Its name in its data set, used once."""

    @property
    def label(self) -> int:
        """Class, from 0."""

    @property
    def points(self) -> Floats:
        """(T, ..., D); zero where the mask is False."""

    @property
    def mask(self) -> Mask:
        """(T, ...): what was seen in each frame."""


class Entry(Protocol):
    """One clip in the index of a store, without its points. A recipe's own dataclass adds what it knows besides
    (subject, camera, ...)."""

    @property
    def name(self) -> str:
        """As `Clip.name`."""

    @property
    def label(self) -> int:
        """As `Clip.label`."""

    @property
    def length(self) -> int:
        """T."""

    @property
    def rows(self) -> int:
        """First row of the clip in the array of points."""

    @property
    def frames(self) -> int:
        """First row of the clip in the array of masks."""

    @property
    def hash(self) -> str:
        """`hash_points` of the clip's points."""


C = TypeVar("C", bound=Clip)
E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class RawFiles(Generic[C]):
    """The files of one data set, before they are prepared.

    Attributes:
        files: the files.
        read: turns one file into a clip or several; raises outlast.DataError for a file that it refuses.
        layout: name of what the points are, such as "kinect-2".
        classes: names of the classes, from the first; empty when the data set gives none.
    """

    files: Sequence[Path]
    read: Callable[[Path], C | list[C]]
    layout: str
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class ClipFormat(Generic[C, E]):
    """The clip format of one recipe, and the entries of its clip stores. Its functions are sent to worker processes.

    Attributes:
        recipe: name of the recipe, for the commands in messages.
        noun: what the clips show, for messages ("skeletons").
        points: name of the array of points; POINTS.npy in the store.
        entry: dataclass of an entry: the fields that `facts` gives, and length, rows, frames and hash.
        facts: clip -> the fields of its entry that it brings, as JSON values; `name` and `label` among them.
        find: folder -> the raw files of this recipe in it; raises outlast.DataError when there are none, or of several
            kinds.
        fixed: name -> function of a clip and the layout's name that gives an array of the same shape for every clip;
            NAME.npy.
    """

    recipe: str
    noun: str
    points: str
    entry: Callable[..., E]
    facts: Callable[[C], dict[str, Any]]
    find: Callable[[Path], RawFiles[C]]
    fixed: Mapping[str, Callable[[C, str], Floats]] = field(default_factory=dict)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the store's arrays."""
        return (self.points, "mask", *self.fixed)

    @property
    def command(self) -> str:
        """The command that makes a store."""
        return f"outlast data prepare {self.recipe}"


def hash_points(points: Floats) -> str:
    """Hash of the points alone: equal for copies under other names."""
    return hashlib.blake2b(np.ascontiguousarray(points), digest_size=16).hexdigest()


def duplicates(
    entries: Sequence[Entry],
    parts: Mapping[str, Sequence[int]],
    before: Sequence[str] = ("train", "val"),
    after: str = "test",
) -> list[tuple[str, str]]:
    """Pairs of names of clips with equal points: the first in one of the parts `before`, the second in the part
    `after`."""
    known = {entries[number].hash: entries[number].name for part in before for number in parts[part]}
    found = ((known.get(entries[number].hash), entries[number].name) for number in parts[after])
    return [(first, second) for first, second in found if first is not None]
