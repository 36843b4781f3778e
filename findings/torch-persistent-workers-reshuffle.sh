#!/usr/bin/env bash
# torch 2.13.0: with persistent_workers=True, a training that resumes between two epochs shuffles in
# another order, although torch's generator was restored.
#
# Guess:    between two epochs a DataLoader holds nothing: with the state of torch's generator
#           restored, the next epoch has the order that it would have had. persistent_workers only
#           saves the time of starting processes.
# Happens:  without persistent workers that is so: order and the workers' random numbers are the
#           same. With them, the loader draws the seed of its workers once in its life and not once
#           an epoch. The first epoch of a new process therefore takes one draw more than the same
#           epoch of a process that went on: another permutation, other augmentation, and every
#           later draw from the generator (dropout, noise) is displaced by one. Turning the option
#           on changes the permutations of a seeded training, too.
# Version:  torch 2.13.0 (CPU), Python 3.11, torch's own DataLoader; a `generator=` of the loader is
#           concerned in the same way.
# Known:    torch documents that workers are seeded with base_seed + worker_id, and not when
#           base_seed is drawn.
# Matters:  "save at the end of each epoch, with the generators" is the usual recipe for an exact
#           resume without a stateful loader. One option that is about speed breaks it.
# outlast:  seeds order and augmentation from the seed and the epoch, and refuses
#           persistent_workers: tests/data/test_loaders.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import torch
from torch.utils.data import DataLoader, Dataset


class Noise(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return index, torch.rand(()).item()


def epoch(loader):
    batches = list(loader)
    return torch.cat([b[0] for b in batches]).tolist(), torch.cat([b[1] for b in batches]).tolist()


def trial(persistent, own):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0) if own else torch.default_generator

    def build():
        return DataLoader(
            Noise(),
            batch_size=4,
            shuffle=True,
            num_workers=2,
            persistent_workers=persistent,
            generator=generator if own else None,
        )

    running = build()
    for _ in range(2):
        epoch(running)
    state = generator.get_state()
    went_on = epoch(running)
    then = torch.rand((), generator=generator).item()
    generator.set_state(state)
    resumed = epoch(build())  # what a new process does
    same = torch.rand((), generator=generator).item() == then
    print(f"persistent_workers={persistent}, {'own' if own else 'global'} generator: the third epoch")
    print(f"  order as without a stop: {went_on[0] == resumed[0]},", end=" ")
    print(f"workers' numbers: {went_on[1] == resumed[1]}, next draw: {same}")


for own in (False, True):
    for persistent in (False, True):
        trial(persistent, own)
PY
cat >"$work/known" <<'TXT'
persistent_workers=False, global generator: the third epoch
  order as without a stop: True, workers' numbers: True, next draw: True
persistent_workers=True, global generator: the third epoch
  order as without a stop: False, workers' numbers: False, next draw: False
persistent_workers=False, own generator: the third epoch
  order as without a stop: True, workers' numbers: True, next draw: True
persistent_workers=True, own generator: the third epoch
  order as without a stop: False, workers' numbers: False, next draw: False
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the same epoch in all four cases."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
