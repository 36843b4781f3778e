"""UTKinect-Action3D in its own form: joints_sSS_eEE.txt (frame number and 60 numbers a line) and actionLabel.txt (frame
ranges).

L. Xia, C. Chen, J. K. Aggarwal, CVPRW 2012. One file holds all ten actions of a subject's repeat.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

import outlast
from outlast_recipes.common.plain_file import read_plain
from outlast_recipes.skeleton.bodies import LARGEST, Body, Clip, assembled
from outlast_recipes.skeleton.layouts import KINECT_1

CLASSES = ("walk", "sitDown", "standUp", "pickUp", "carry", "throw", "push", "pull", "waveHands", "clapHands")


def read_clips(path: Path, labels: Path) -> list[Clip]:
    """The actions of one file; those whose range is NaN, or holds no frame, are left out.

    Raises:
        outlast.DataError: a file is not what it should be.
    """
    match = re.fullmatch(r"joints_s(\d+)_e(\d+)", path.stem)
    if match is None:
        raise outlast.DataError(f"{path} is not named as UTKinect names its files; expected joints_sSS_eEE.txt.")
    try:
        rows = np.loadtxt(io.BytesIO(read_plain(path, LARGEST)), ndmin=2)
    except (OSError, ValueError) as error:
        raise outlast.DataError(f"{path} is not a table of numbers ({error}).") from error
    if rows.shape[1] != 1 + KINECT_1.joints * 3 or not np.isfinite(rows).all():
        raise outlast.DataError(f"{path} has {rows.shape[1]} columns; expected a frame number and 60 finite numbers.")
    subject, repeat = map(int, match.groups())
    clips = []
    known = ranges(labels)
    if path.stem.removeprefix("joints_") not in known:
        raise outlast.DataError(
            f"{labels} has no entry for {path.name}; expected a line {path.stem.removeprefix('joints_')}."
        )
    for label, first, last in known[path.stem.removeprefix("joints_")]:
        inside = rows[(rows[:, 0] >= first) & (rows[:, 0] <= last), 1:]
        if len(inside):
            joints = inside.reshape(-1, KINECT_1.joints, 3).astype(np.float32)
            positions, mask = assembled([Body(np.arange(len(joints), dtype=np.int32), joints)], spine=KINECT_1.spine)
            name = f"a{label + 1:02d}_s{subject:02d}_e{repeat:02d}"
            clips.append(Clip(name, label, subject, 0, positions, mask))
    return clips


def ranges(path: Path) -> dict[str, list[tuple[int, int, int]]]:
    """sSS_eEE -> (class, first frame, last frame) of each action; ranges of NaN are left out.

    Raises:
        outlast.DataError: a line is not what it should be.
    """
    found: dict[str, list[tuple[int, int, int]]] = {}
    where = ""
    try:
        lines = read_plain(path, LARGEST).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise outlast.DataError(
            f"{path} cannot be read ({error}). Put UTKinect's list of actions beside its joints_*.txt files."
        ) from error
    for number, line in enumerate(lines, start=1):
        words = line.replace(":", " ").split()
        if len(words) == 1 and re.fullmatch(r"s\d\d_e\d\d", words[0]):
            where = words[0]
            found[where] = []
        elif (
            len(words) == 3
            and words[0] in CLASSES
            and where
            and all(word == "NaN" or word.isdigit() for word in words[1:])
        ):
            if "NaN" not in words:
                found[where].append((CLASSES.index(words[0]), int(words[1]), int(words[2])))
        elif words:
            raise outlast.DataError(f"{path}:{number} holds {line!r}; expected sSS_eEE, or an action and two frames.")
    return found
