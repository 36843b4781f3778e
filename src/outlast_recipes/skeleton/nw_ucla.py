"""NW-UCLA Multiview Action3D as JSON (the all_sqe files that CTR-GCN links): 1,484 sequences, 10 classes, 10 subjects,
3 cameras.

J. Wang et al., CVPR 2014. File aAA_sSS_eEE_vVV.json; `skeletons` [T][20][3] metres, `label` from 1.
95 of the 464 test sequences are copies of training ones: `outlast data check skeleton` finds them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

import outlast
from outlast_recipes.common.plain_file import read_plain
from outlast_recipes.skeleton.bodies import LARGEST, Body, Clip, assembled
from outlast_recipes.skeleton.layouts import KINECT_1

CLASSES = (
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down", "stand up", "donning",
    "doffing", "throw", "carry",
)  # fmt: skip


def read_clip(path: Path) -> Clip:
    """One sequence; there is always one body.

    Raises:
        outlast.DataError: the name or the contents are not what they should be.
    """
    match = re.fullmatch(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)", path.stem)
    if match is None:
        raise outlast.DataError(f"{path} is not named as NW-UCLA names its files; expected aAA_sSS_eEE_vVV.json.")
    try:
        found = json.loads(read_plain(path, LARGEST))
        label, joints = int(found["label"]), np.array(found["skeletons"], np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise outlast.DataError(
            f"{path} is not a sequence of NW-UCLA ({type(error).__name__}: {error}). The file is damaged; download it "
            "again."
        ) from error
    if joints.ndim != 3 or joints.shape[1:] != (KINECT_1.joints, 3) or not np.isfinite(joints).all() or label < 1:
        raise outlast.DataError(
            f"{path} holds label {label} and joints of shape {joints.shape}; expected a label from 1 and finite (T, "
            f"{KINECT_1.joints}, 3)."
        )
    body = Body(np.arange(len(joints), dtype=np.int32), joints)
    positions, mask = assembled([body], spine=KINECT_1.spine)
    _, subject, _, camera = map(int, match.groups())
    return Clip(path.stem, label - 1, subject, camera, positions, mask)
