"""Power cuts at every point of one commit, in forks of a process that has imported little.

`python -m tests.durability.commits FOLDER` prints the first point that a commit does not have, and for each cut its
point and whether there is a manifest. Where there is one, all that it names is whole.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

from outlast.checkpoint import CheckpointStore, Snapshot, verify
from outlast.folder.layout import RunFolder
from outlast.state.array import Array
from tests.durability.crash import Counter, attempt

PARTS = {name: {"w": Array("U8", (2**12,), bytes(2**12))} for name in ("model", "optimizer", "ema")}
STATE = {"step": 4, "loop": [0, 0], "journal": {"bytes": 0, "xxh3_128": "0" * 32}, "parts": {}, "rng": None}


def commit(root: Path) -> None:
    CheckpointStore(RunFolder(root / "r")).commit(Snapshot.of(4, "steps", PARTS, STATE))


def main(folder: Path) -> None:
    survived = []
    for point, seed in itertools.product(range(1, 40), range(8)):
        root = folder / f"{point}-{seed}"
        (root / "r").mkdir(parents=True)
        status = attempt(commit, root, "outlast", Counter(root, point, power=True, torn=False, seed=seed))
        if not os.WIFSIGNALED(status):
            break
        manifest = root / "r/checkpoints/step-00000004/MANIFEST.json"
        survived.append((point, manifest.exists()))
        if manifest.exists():
            verify(manifest.parent)
    print(json.dumps([point, survived]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
