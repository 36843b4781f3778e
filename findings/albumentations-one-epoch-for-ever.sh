#!/usr/bin/env bash
# albumentations 2.0.8: with loader workers and its defaults, every epoch has the augmentation of
# the first one, and all workers have the same.
#
# Guess:    "each call to the same Compose instance still produces random augmentations", as the
#           documentation says; a loader with workers only makes them faster.
# Happens:  Compose draws from generators of its own, which torch does not seed. A worker begins
#           with the copy that the dataset had when the workers started, and without persistent
#           workers they start anew each epoch. So the n-th sample of every worker gets the same
#           flip, crop and brightness in every epoch: ten epochs with four workers show 4 different
#           augmentations where there should be 160, with and without a seed. Without workers there
#           are 160. persistent_workers gives 40: the workers are still alike. With a seed, a resume
#           begins with the first epoch's numbers again.
# Version:  albumentations 2.0.8 (the last one under MIT), albucore 0.0.24, opencv-python-headless
#           5.0.0.93, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11, Linux (fork).
# Known:    AlbumentationsX issue 266 (2026) and its pull requests 272 and 273 mend the successor,
#           under another license. In 2.0.8 it stays.
# Matters:  the augmentation that a training relies on is nearly absent, and the loss curves only
#           look as if one overfitted.
# outlast:  outlast.DataLoader seeds the generators inside of a dataset for every batch: the same
#           with 0 and 2 workers, other numbers in each epoch, exact after a stop (by hand, this
#           version); tests/data/test_within.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 NO_ALBUMENTATIONS_UPDATE=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 albumentations==2.0.8 albucore==0.0.24 \
    opencv-python-headless==5.0.0.93 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import albumentations as A
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Grey(Dataset):
    def __init__(self, seed):
        self.augment = A.Compose([A.RandomBrightnessContrast(0.5, 0.5, p=1.0)], seed=seed)
        self.image = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return torch.from_numpy(self.augment(image=self.image)["image"].copy())


def trial(seed, workers, persistent=False):
    loader = DataLoader(
        Grey(seed), batch_size=4, num_workers=workers, persistent_workers=persistent
    )
    epochs = [torch.cat(list(loader)) for _ in range(10)]
    different = len({image.numpy().tobytes() for epoch in epochs for image in epoch})
    same = all(torch.equal(epochs[0], epoch) for epoch in epochs)
    print(f"seed {seed}, {workers} workers, persistent {persistent}:", end=" ")
    print(f"{different} different of 160, all epochs the same {same}")


torch.manual_seed(0)
for seed in (7, None):
    trial(seed, 4)
trial(7, 4, persistent=True)
trial(7, 0)
PY
cat >"$work/known" <<'TXT'
seed 7, 4 workers, persistent False: 4 different of 160, all epochs the same True
seed None, 4 workers, persistent False: 4 different of 160, all epochs the same True
seed 7, 4 workers, persistent True: 40 different of 160, all epochs the same False
seed 7, 0 workers, persistent False: 160 different of 160, all epochs the same False
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 160 different, or close to it, and False."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
