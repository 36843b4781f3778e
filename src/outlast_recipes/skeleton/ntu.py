"""NTU RGB+D and NTU RGB+D 120: `.skeleton` text, file names, the published splits.

Format (rose1.ntu.edu.sg): frames; per frame the number of bodies; per body a line of ten fields that begins with its
id, the number of joints, and per joint a line of twelve: x y z, depth x y, colour x y, orientation w x y z, tracking
state. Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2019.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.common.plain_file import read_plain
from outlast_recipes.skeleton.bodies import LARGEST, Body, Clip, assembled, denoised, tracks
from outlast_recipes.skeleton.layouts import KINECT_2

JOINTS = KINECT_2.joints
_BODY, _JOINT = 10, 12  # fields of a line
_BODY_LINES = (_BODY, 1, *(_JOINT,) * JOINTS)

TRAIN_60 = frozenset((1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38))
TRAIN_120 = TRAIN_60 | frozenset((
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94,
    95, 97, 98, 100, 103,
))  # fmt: skip
"""Subjects of the training halves of cross-subject, NTU-60 (20 of 40) and NTU-120 (53 of 106)."""
TRAIN_CAMERAS = frozenset((2, 3))
"""Cameras of the training part of cross-view; camera 1 is the test."""


@dataclass(frozen=True)
class Name:
    """The fields of a file name: S = set-up, C = camera, P = performer, R = replication, A = action, each from 1."""

    setup: int
    camera: int
    subject: int
    repeat: int
    action: int


def parse_name(path: Path) -> Name:
    """Read SsssCcccPpppRrrrAaaa.

    Raises:
        outlast.DataError: the file is not named so.
    """
    match = re.fullmatch(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", path.name.removesuffix(".skeleton"))
    if match is None:
        raise outlast.DataError(
            f"{path} is not named as NTU RGB+D names its files; expected SsssCcccPpppRrrrAaaa.skeleton, such as "
            "S001C002P003R002A013.skeleton."
        )
    return Name(*map(int, match.groups()))


@functools.cache
def missing() -> frozenset[str]:
    """The 535 published names whose skeletons are missing or incomplete; the 302 of NTU-60 are among them.

    Source: NTU_RGBD120_samples_with_missing_skeletons.txt of the data set's own repository, shahroudy/NTURGB-D.
    """
    text = importlib.resources.files("outlast_recipes.skeleton").joinpath("missing.txt").read_text()
    return frozenset(line for line in text.split() if line)


def actions() -> list[str]:
    """The 120 actions of NTU RGB+D 120 by their published names; those of NTU RGB+D are the first 60."""
    return importlib.resources.files("outlast_recipes.skeleton").joinpath("actions.txt").read_text().splitlines()


def read_bodies(path: Path) -> list[Body]:
    """The bodies of a `.skeleton` file in the order in which they appear; empty when nobody was seen.

    Raises:
        outlast.DataError: the file is not what the format says; names the line.
    """
    try:
        text = read_plain(path, LARGEST).decode("ascii", errors="replace")
    except OSError as error:
        raise outlast.DataError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return _bodies(text.split(), _fields(text))
    except (ValueError, IndexError):
        raise outlast.DataError(_what_is_wrong(path, text)) from None


def _fields(text: str) -> NDArray[np.int64]:
    """Words of each line, without the empty lines at the end."""
    letters = np.frombuffer(text.encode("ascii", errors="replace"), np.uint8)
    begins = letters > ord(" ")
    begins[1:] &= ~begins[:-1].copy()
    counts = np.bincount(np.cumsum(letters == ord("\n"))[begins])
    return np.asarray(counts, np.int64)


def _bodies(words: list[str], fields: NDArray[np.int64]) -> list[Body]:
    """From all words of a file; ValueError or IndexError when they, or how many stand in a line, are not what the
    format says."""
    seen: dict[str, list[tuple[int, int]]] = {}  # id -> frame, and where its joints begin
    place, total = 1, int(words[0])
    expected = [1]
    for frame in range(total):
        count, place = int(words[place]), place + 1
        expected.append(1)
        for _ in range(count):
            expected += _BODY_LINES
            joints = int(words[place + _BODY])
            if joints != JOINTS:
                raise ValueError(joints)
            if not all(math.isfinite(float(word)) for word in words[place : place + _BODY]):
                raise ValueError("not finite")
            seen.setdefault(words[place], []).append((frame, place + _BODY + 1))
            place += _BODY + 1 + JOINTS * _JOINT
    if place != len(words) or not np.array_equal(fields, expected):
        raise ValueError(place)
    found = []
    for where in seen.values():
        lines = np.array([words[start : start + JOINTS * _JOINT] for _, start in where], dtype=np.float32)
        positions = lines.reshape(-1, JOINTS, _JOINT)[:, :, :3]
        if not np.isfinite(positions).all():
            raise ValueError("not finite")
        found.append(Body(np.array([frame for frame, _ in where], np.int32), np.ascontiguousarray(positions)))
    return found


def _what_is_wrong(path: Path, text: str) -> str:
    """The first line that is not what the format says, in a sentence."""
    lines = _Lines(text)
    try:
        for _ in range(int(lines.take(1, "the number of frames", _natural)[0])):
            for _ in range(int(lines.take(1, "the number of bodies", _natural)[0])):
                lines.take(_BODY, "a body's line")
                lines.take(1, "the number of joints", _count)
                for _ in range(JOINTS):
                    lines.take(_JOINT, "a joint's line")
        wrong = lines.rest()
    except _MalformedLine as error:
        wrong = str(error)
    return f"{path}:{lines.number} holds {wrong}. The file is damaged; download it again."


def _natural(word: str) -> int:
    if int(word) < 0:
        raise ValueError(word)
    return int(word)


def _count(word: str) -> int:
    if int(word) != JOINTS:
        raise ValueError(word)
    return JOINTS


_WANTED: dict[Callable[[str], float], str] = {_natural: "a whole number from 0", _count: str(JOINTS)}


class _MalformedLine(Exception):
    """The content of a line is malformed."""


class _Lines:
    """A text, line by line; `number` is that of the last one taken."""

    def __init__(self, text: str) -> None:
        self._lines, self.number = text.splitlines(), 0

    def take(self, fields: int, what: str, kind: Callable[[str], float] = float) -> list[str]:
        """The words of the next line; raises _MalformedLine when they are not the expected number of finite numbers."""
        words = self._lines[self.number].split() if self.number < len(self._lines) else []
        self.number += 1
        if len(words) != fields:
            raise _MalformedLine(f"{len(words)} fields where {what} has {fields}")
        for word in words:
            try:
                finite = np.isfinite(kind(word))
            except ValueError:
                finite = np.False_
            if not finite:
                raise _MalformedLine(f"{word[:30]!r} where {what} has {_WANTED.get(kind, 'a number')}")
        return words

    def rest(self) -> str:
        """The text after the last frame, for messages."""
        for line in self._lines[self.number :]:
            self.number += 1
            if line.strip():
                return f"more text after the last frame: {line[:40]!r}"
        return "numbers that are too large"


def read_clip(path: Path, *, named: bool = True) -> Clip:
    """A `.skeleton` file as a clip: denoised, at most two bodies, centred.

    Args:
        path: of the file.
        named: whether its name must say what it shows; if not, it is read as if of class 0.

    Raises:
        outlast.DataError: the name or the text is not what it should be, or nobody is in it.
    """
    name = parse_name(path) if named else Name(0, 0, 0, 0, 1)
    if name.action < 1:
        raise outlast.DataError(f"{path} has action {name.action} in its name; expected 1 or more.")
    bodies = read_bodies(path)
    if not bodies:
        raise outlast.DataError(f"{path} has no body in any frame, so it cannot be used.")
    chosen = tracks(denoised(bodies))
    joints, mask = assembled(chosen, spine=KINECT_2.spine)
    return Clip(
        path.name.removesuffix(".skeleton"), name.action - 1, name.subject, name.camera, joints, mask, name.setup
    )
