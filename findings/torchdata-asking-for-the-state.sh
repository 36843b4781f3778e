#!/usr/bin/env bash
# torchdata 0.11.0: asking a StatefulDataLoader for its state changes the training.
#
# Guess:    `state_dict()` reads. A loader that nobody has iterated yet says "at the beginning".
# Happens:  the first call builds the loader's iterator. With workers it starts their processes;
#           with or without them it draws from torch's global generator. The numbers that training
#           draws next (weights, dropout, noise) are other ones than without the question.
# Version:  torchdata 0.11.0 on torch 2.13.0, Python 3.11.
# Known:    that the state is whole before the first batch is on purpose (meta-pytorch/data pull
#           request 1260); that a question costs a draw and starts processes is not said there.
# Matters:  a program that saves, logs or compares the state before its first batch differs from
#           one that does not. The workers are there before the program has set up its signal
#           handlers.
# outlast:  asks at the same place in every attempt and sets the generators from the checkpoint
#           after it, so that a run and its twin agree: tests/data/test_feed.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 torchdata==0.11.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import multiprocessing

import torch
from torchdata.stateful_dataloader import StatefulDataLoader


def trial(workers, asks):
    torch.manual_seed(3)
    loader = StatefulDataLoader(list(range(8)), batch_size=2, num_workers=workers)
    processes = len(multiprocessing.active_children())
    if asks:
        loader.state_dict()
    started = len(multiprocessing.active_children()) - processes
    return started, torch.rand(4).tolist()


for workers in (0, 2):
    _, numbers = trial(workers, asks=False)
    started, others = trial(workers, asks=True)
    print(f"num_workers={workers}: processes started by state_dict(): {started}")
    print(f"num_workers={workers}: the next random numbers are the same: {numbers == others}")
PY
cat >"$work/known" <<'TXT'
num_workers=0: processes started by state_dict(): 0
num_workers=0: the next random numbers are the same: False
num_workers=2: processes started by state_dict(): 2
num_workers=2: the next random numbers are the same: False
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: no process, and the same random numbers."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
