#!/usr/bin/env bash
# torchdata 0.11.0, torchdata.nodes: a pipeline over a RandomSampler that is resumed in any epoch
# but the first goes on with the first epoch's order.
#
# Guess:    a Loader whose state is saved within the second epoch and loaded into a new one gives
#           the rest of the second epoch.
# Happens:  it gives the rest of the first epoch's order, from the same place: with the sampler made
#           anew from its seed, samples come twice and others never, in every resumed epoch. A state
#           of the end of the second epoch repeats the second epoch. That holds for torch's
#           RandomSampler with a seeded generator, and for torchdata's own RandomSampler, which does
#           keep its generator's state in StatefulDataLoader: its iterator has the state, and
#           SamplerWrapper asks the sampler. State and resume of the first epoch are right, so that
#           a short test passes. A sampler whose order follows from set_epoch is right.
# Version:  torchdata 0.11.0, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11.
# Known:    meta-pytorch/data issue 1513 (open) reports that the epoch of StatefulDistributedSampler
#           is not restored. The documentation wraps RandomSampler in its examples and names
#           mid-epoch checkpoints among the features.
# Matters:  every session after the first one trains on a mix of two epochs' orders.
# outlast:  refuses such a pipeline before the first step: tests/data/test_nodes.py. It restores the
#           epoch of samplers that have one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 torchdata==0.11.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import warnings

import torch
from torch.utils.data import DistributedSampler, RandomSampler
from torchdata.nodes import Loader, MapStyleWrapper
from torchdata.stateful_dataloader.sampler import RandomSampler as TheirRandomSampler

warnings.filterwarnings("ignore")
ITEMS = list(range(8))


def seeded(kind):
    return kind(ITEMS, generator=torch.Generator().manual_seed(0))


SAMPLERS = {
    "torch's RandomSampler": lambda: seeded(RandomSampler),
    "torchdata's RandomSampler": lambda: seeded(TheirRandomSampler),
    "DistributedSampler": lambda: DistributedSampler(ITEMS, num_replicas=1, rank=0, seed=0),
}

for name, make in SAMPLERS.items():
    loader = Loader(MapStyleWrapper(ITEMS, make()))
    twin = [list(loader) for _ in range(3)]
    print(f"{name}: uninterrupted", *twin)
    for epoch in (0, 1):
        loader = Loader(MapStyleWrapper(ITEMS, make()))
        for _ in range(epoch):
            list(loader)
        batches = iter(loader)
        seen = [next(batches) for _ in range(4)]
        again = Loader(MapStyleWrapper(ITEMS, make()))
        again.load_state_dict(loader.state_dict())
        rest = list(again)
        never = sorted(set(ITEMS) - {*seen, *rest})
        print(f"  resumed in epoch {epoch + 1} after {seen}: {rest}, as uninterrupted {seen + rest == twin[epoch]},", end=" ")
        print(f"never seen {never}, the next epoch as uninterrupted {list(again) == twin[epoch + 1]}")
PY
cat >"$work/known" <<'TXT'
torch's RandomSampler: uninterrupted [4, 0, 7, 3, 2, 5, 1, 6] [6, 5, 2, 0, 3, 1, 4, 7] [5, 0, 3, 1, 7, 2, 4, 6]
  resumed in epoch 1 after [4, 0, 7, 3]: [2, 5, 1, 6], as uninterrupted True, never seen [], the next epoch as uninterrupted True
  resumed in epoch 2 after [6, 5, 2, 0]: [2, 5, 1, 6], as uninterrupted False, never seen [3, 4, 7], the next epoch as uninterrupted False
torchdata's RandomSampler: uninterrupted [4, 0, 7, 3, 2, 5, 1, 6] [7, 5, 1, 4, 6, 2, 0, 3] [6, 5, 2, 0, 3, 1, 4, 7]
  resumed in epoch 1 after [4, 0, 7, 3]: [2, 5, 1, 6], as uninterrupted True, never seen [], the next epoch as uninterrupted True
  resumed in epoch 2 after [7, 5, 1, 4]: [2, 5, 1, 6], as uninterrupted False, never seen [0, 3], the next epoch as uninterrupted False
DistributedSampler: uninterrupted [4, 0, 7, 3, 2, 5, 1, 6] [5, 4, 2, 6, 7, 3, 1, 0] [0, 4, 7, 2, 6, 5, 1, 3]
  resumed in epoch 1 after [4, 0, 7, 3]: [2, 5, 1, 6], as uninterrupted True, never seen [], the next epoch as uninterrupted True
  resumed in epoch 2 after [5, 4, 2, 6]: [7, 3, 1, 0], as uninterrupted True, never seen [], the next epoch as uninterrupted True
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: as uninterrupted, True, for each sampler and epoch."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
