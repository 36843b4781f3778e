"""The raw formats that the recipe reads: .skeleton files of NTU RGB+D, NW-UCLA's .json, UTKinect's .txt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import outlast
from outlast_recipes.common.clips import RawFiles
from outlast_recipes.skeleton import ntu, nw_ucla, utkinect
from outlast_recipes.skeleton.bodies import Clip
from outlast_recipes.skeleton.layouts import KINECT_1, KINECT_2

Raw: TypeAlias = RawFiles[Clip]


@dataclass(frozen=True)
class _Kind:
    pattern: str
    read: Callable[[Path], Clip | list[Clip]]
    layout: str
    classes: Sequence[str] = ()


def _utkinect(path: Path) -> list[Clip]:
    return utkinect.read_clips(path, path.with_name("actionLabel.txt"))


_KINDS = {
    "ntu": _Kind("*.skeleton", ntu.read_clip, KINECT_2.name),
    "nw-ucla": _Kind("a*_s*_e*_v*.json", nw_ucla.read_clip, KINECT_1.name, nw_ucla.CLASSES),
    "utkinect": _Kind("joints_s*_e*.txt", _utkinect, KINECT_1.name, utkinect.CLASSES),
}
NAMES = ("auto", *_KINDS)


def find(folder: Path, name: str = "auto") -> Raw:
    """The files of a data set in a folder, at any depth.

    Args:
        folder: where they are.
        name: format of the files; auto: by their names.

    Raises:
        outlast.DataError: there are none, or of several formats.
    """
    found = {each: sorted(folder.rglob(_KINDS[each].pattern)) for each in (_KINDS if name == "auto" else [name])}
    found = {each: files for each, files in found.items() if files}
    if len(found) != 1:
        if not folder.is_dir():
            raise outlast.DataError(
                f"{folder} is not a folder; expected a folder of unpacked files. Unpack archives first."
            )
        if found:
            raise outlast.DataError(f"{folder} holds {' and '.join(found)} files: choose one with --format.")
        raise outlast.DataError(
            f"{folder} holds no file of a known format; expected .skeleton files of NTU RGB+D, .json of NW-UCLA or "
            "joints_*.txt of UTKinect."
        )
    ((each, files),) = found.items()
    kind = _KINDS[each]
    return RawFiles(files, kind.read, kind.layout, kind.classes)


def without_missing(raw: Raw) -> Raw:
    """Without the clips on NTU's list of missing skeletons."""
    kept = [path for path in raw.files if path.name.partition(".")[0] not in ntu.missing()]
    return replace(raw, files=kept)


def find_complete(folder: Path) -> Raw:
    """The files that a training prepares: `find`, without NTU's missing skeletons."""
    return without_missing(find(folder))
