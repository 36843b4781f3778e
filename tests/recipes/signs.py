"""The recipe sign in miniature, and made-up signs as files, in the folders that the original had."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from outlast_recipes.common.clips import Floats, Mask

TINY = {
    "data.smoke_test": True, "data.num_gloss": "12", "data.num_cat": "3", "batch_size": "4", "network.width": "16",
    "epochs": "2", "log_every": "1", "save_every": "never", "keep_best": "0",
}  # fmt: skip
"""12 steps of 6 batches an epoch, on generated clips."""

GLOSSES, CATEGORIES = 4, 2


def keypoints(number: int, length: int | None = None) -> tuple[Floats, Mask]:
    """(T, 156) in shares of the frame and (T, 78): a person in a frame of 16:9; the gloss `number % 4` is how the right
    hand moves. The left hand is not seen in the first frames."""
    chance = np.random.default_rng(number)
    gloss, length = number % GLOSSES, length or 14 + number % 9
    points = np.tile(np.random.default_rng(0).normal(scale=0.15, size=(1, 78, 2)), (length, 1, 1))
    points[:, 11], points[:, 12] = (0.5, 0.0), (-0.5, 0.0)
    time = np.linspace(0, 1, length)[:, None, None]
    ways = ((0.8, 0.0), (-0.8, 0.0), (0.0, 0.8), (0.0, -0.8))
    points[:, 46:67] += time * np.array(ways[gloss]) + (-0.4, 0.5)
    points[:, 25:46] += (0.4, 0.5)
    points += 0.01 * chance.normal(size=points.shape)
    points = points * (0.25 * 9 / 16, 0.25) + (0.5 + 0.05 * chance.random(), 0.4)
    seen = np.ones((length, 78), bool)
    seen[:3, 25:46] = False
    return np.float32(points.clip(0, 1) * seen[..., None]).reshape(length, 156), seen


def folder(root: Path, counts: dict[str, int] | None = None, *, group: bool = False, mask: bool = True) -> Path:
    """A folder of keypoints_{train,val,test} with their labels and the names of the glosses."""
    first = 0
    for split, count in (counts or {"train": 24, "val": 8, "test": 8}).items():
        (root / f"keypoints_{split}").mkdir(parents=True)
        lines = ["file,gloss,cat,occluded" + (",group" if group else "")]
        for number in range(first, first + count):
            points, seen = keypoints(number)
            arrays = {"X": points, "mask": seen} if mask else {"X": points}
            np.savez_compressed(root / f"keypoints_{split}" / f"clip{number:03d}.npz", **arrays)
            gloss = number % GLOSSES
            row = f"clip{number:03d},{gloss},{gloss % CATEGORIES},{int(number % 5 == 0)}"
            lines.append(row + (f",signer{number % 3}" if group else ""))
        (root / f"{split}_labels.csv").write_text("\n".join(lines) + "\n")
        first += count
    rows = [f"{gloss},SIGN {gloss},{gloss % CATEGORIES},KIND {gloss % CATEGORIES}" for gloss in range(GLOSSES)]
    (root / "labels_reference.csv").write_text("\n".join(["gloss_id,label,cat_id,category", *rows]) + "\n")
    return root


def features(root: Path, counts: dict[str, int] | None = None, key: str = "X2048") -> Path:
    """A folder of features_{train,val,test} with their labels."""
    first = 0
    for split, count in (counts or {"train": 8, "val": 4}).items():
        (root / f"features_{split}").mkdir(parents=True, exist_ok=True)
        lines = ["file,gloss,cat,occluded"]
        for number in range(first, first + count):
            gloss = number % GLOSSES
            own = np.random.default_rng(gloss).normal(size=2048) + np.zeros((5 + number % 4, 1))
            np.savez(root / f"features_{split}" / f"clip{number:03d}.npz", **{key: np.float32(own)})
            lines.append(f"clip{number:03d},{gloss},{gloss % CATEGORIES},0")
        (root / f"{split}_labels.csv").write_text("\n".join(lines) + "\n")
        first += count
    return root
