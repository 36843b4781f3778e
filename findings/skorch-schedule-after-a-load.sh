#!/usr/bin/env bash
# skorch 1.4.0: a training that goes on from a Checkpoint, or with partial_fit, has other learning
# rates than one that was not stopped.
#
# Guess:    three epochs, and three more after LoadInitState or by partial_fit, have the rates of six
#           epochs. The checkpoint holds the optimizer and the history, from which LRScheduler takes
#           its place.
# Happens:  LRScheduler makes a new scheduler when training begins. Callbacks run in the order of the
#           list; where LoadInitState stands after the schedule, the schedule begins at 0, and its
#           function is asked for epoch 1 after the fourth epoch: the rate jumps from 0.125 to 0.5.
#           A cosine ends at 0.375 and not at 0.067. With the place taken from the history
#           (partial_fit, or LoadInitState in front), the constructor of a StepLR makes the step
#           that was made at the end of the epoch before: it halves twice.
# Version:  skorch 1.4.0, torch 2.13.0 (CPU), Python 3.11.
# Known:    the documentation of LoadInitState speaks of model, optimizer and history, and gives no
#           order with regard to LRScheduler.
# Matters:  nothing is reported, and the rates after the stop are wrong to the end of the training.
#           Put LoadInitState in front of LRScheduler, and stop between two steps of a StepLR.
# outlast:  has no adapter for skorch; a scheduler that it tracks is restored with its state.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 skorch==1.4.0
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import shutil

import numpy as np
import torch
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, Checkpoint, LoadInitState, LRScheduler

X = np.zeros((8, 1), np.float32)


class Rates(Callback):
    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            rates.append(round(net.optimizer_.param_groups[0]["lr"], 4))


def net(epochs, schedule, *more):
    return NeuralNetRegressor(
        torch.nn.Linear,
        module__in_features=1,
        module__out_features=1,
        max_epochs=epochs,
        batch_size=8,
        lr=1.0,
        train_split=None,
        verbose=0,
        callbacks=[Rates(), LRScheduler(schedule[0], **schedule[1]), *more],
    )


half = lambda epoch: 0.5**epoch  # noqa: E731
for name, schedule in {
    "StepLR, halved after 3": ("StepLR", {"step_size": 3, "gamma": 0.5}),
    "LambdaLR, 0.5 ** epoch": ("LambdaLR", {"lr_lambda": half}),
    "cosine over 6": ("CosineAnnealingLR", {"T_max": 6}),
}.items():
    rates = []
    net(6, schedule).fit(X, X)
    print(f"{name}\n  six epochs        {rates}")

    rates = []
    model = net(3, schedule).fit(X, X)
    model.partial_fit(X, X)
    print(f"  partial_fit       {rates}")

    rates = []
    shutil.rmtree("checkpoint", ignore_errors=True)
    for _session in range(2):
        saves = Checkpoint(dirname="checkpoint", monitor=None)
        net(3, schedule, saves, LoadInitState(saves)).fit(X, X)
    print(f"  from a checkpoint {rates}")
PY
cat >"$work/known" <<'TXT'
StepLR, halved after 3
  six epochs        [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
  partial_fit       [1.0, 1.0, 1.0, 0.25, 0.25, 0.25]
  from a checkpoint [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
LambdaLR, 0.5 ** epoch
  six epochs        [1.0, 0.5, 0.25, 0.125, 0.0625, 0.0312]
  partial_fit       [1.0, 0.5, 0.25, 0.125, 0.0625, 0.0312]
  from a checkpoint [1.0, 0.5, 0.25, 0.125, 0.5, 0.25]
cosine over 6
  six epochs        [1.0, 0.933, 0.75, 0.5, 0.25, 0.067]
  partial_fit       [1.0, 0.933, 0.75, 0.5, 0.25, 0.067]
  from a checkpoint [1.0, 0.933, 0.75, 0.5, 0.4665, 0.375]
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: in each block, three times the rates of six epochs."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
