"""Made-up clips that a test can learn from, and the recipe in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from outlast_recipes.common.preparing import write
from outlast_recipes.skeleton.bodies import Body, Clip, assembled
from outlast_recipes.skeleton.layouts import KINECT_2
from outlast_recipes.skeleton.store import FORM, Store
from tests.conftest import REPOSITORY

DATA = REPOSITORY.parent / "shared/data"

TINY = {
    "model.size": "nano", "epochs": "3", "batch_size": "8", "data.frames": "16", "data.split": "xview",
    "data.validate_subjects": "1", "log_every": "1", "save_every": "never", "keep_best": "0", "ema": "0.9",
}  # fmt: skip
"""12 steps of 4 batches an epoch."""


def clip(number: int) -> Clip:
    """Class 0 raises the left hand over time, class 1 lowers it, class 2 does both; subjects and cameras differ in size
    and place; some are not alone."""
    chance = np.random.default_rng(number)
    label, subject, camera = number % 3, 1 + number // 3 % 4, 1 + number // 12 % 3
    length = 12 + number % 9
    joints = np.tile(np.random.default_rng(0).normal(size=(1, 25, 3)), (length, 1, 1)) * (1 + 0.1 * subject) + camera
    up = np.linspace(0, 1.5, length)
    rise = (up, -up, np.minimum(2 * up, 3 - 2 * up))[label]
    joints[:, 4:8, 1] += rise[:, None]
    joints += 0.02 * chance.normal(size=joints.shape)
    bodies = [Body(np.arange(length, dtype=np.int32), joints.astype(np.float32))]
    if number % 5 == 0:
        bodies.append(Body(np.arange(length, dtype=np.int32), (joints[:1] + 2 + 0 * joints).astype(np.float32)))
    positions, mask = assembled(bodies, spine=KINECT_2.spine)
    return Clip(f"made-up-{number:03d}", label, subject, camera, positions, mask)


def store(folder: Path, clips: int = 72) -> Store:
    """A store of such clips: 36 to train on (with subject 4 kept back), 12 to choose by, 24 to test with --split
    xview."""
    return made(folder, [clip(number) for number in range(clips)])


def made(folder: Path, clips: list[Clip]) -> Store:
    """A store of these clips."""
    return write(clips, folder, FORM, layout=KINECT_2.name, classes=("raise", "lower", "both"))


def skeleton_text(clip: Clip) -> str:
    """A clip as a `.skeleton` file."""
    lines = [str(len(clip.mask))]
    for joints, mask in zip(clip.joints, clip.mask, strict=True):
        lines.append(str(int(mask.sum())))
        for body in np.flatnonzero(mask):
            lines += [f"7205759403793{body} 0 1 1 1 1 0 0.1 0.2 2", "25"]
            lines += [" ".join(f"{value:.7g}" for value in joint) + " 0 0 0 0 0 0 0 0 2" for joint in joints[body]]
    return "\n".join(lines) + "\n"
