#!/usr/bin/env bash
# torch 2.13.0: with a tensor as learning rate all groups of an optimizer share one tensor, and two
# schedulers set other rates than with a float.
#
# Guess:    lr=torch.tensor(1.0) is lr=1.0 in a form that compiled and captured optimizers can
#           change without compiling again.
# Happens:  the constructor puts the very same tensor into every group that names no rate, and
#           schedulers write into it. ReduceLROnPlateau reduces it once for each group: with two
#           groups by factor**2, with ten by factor**10. LambdaLR with a function for each group
#           gives all groups the value of the last one. The other schedulers compute all values
#           before they write, and are right as long as the groups have the same rate. A state_dict
#           through torch.save keeps the tensor shared, so a resume goes on in the same way.
# Version:  torch 2.13.0 (CPU), Python 3.11. Adam and AdamW take a tensor without further options.
# Known:    pytorch issue 126854 was another fault of LambdaLR over tensors (closed). No issue and
#           no document was found that names the shared tensor.
# Matters:  two groups (with and without weight decay) are what most trainings have, and tensors are
#           advised for torch.compile. The rate is gone after a few plateaus, without a message.
# outlast:  fills the tensors that the program built, so that what is shared stays shared; the
#           resume is exact (by hand: six steps, stopped after the third, the same rates). It does
#           not correct the schedule: write the rate into each group, {"params": ..., "lr":
#           torch.tensor(1.0)}.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import io

import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau


def build(rate, groups=3, each=False):
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(groups)]
    own = [{"lr": rate.clone()} if each else {} for _ in range(groups)]
    return torch.optim.AdamW([{"params": [p], **o} for p, o in zip(parameters, own)], lr=rate)


def rates(optimizer):
    return [round(float(group["lr"]), 6) for group in optimizer.param_groups]


def plateau(optimizer):
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for _ in range(2):  # the second value is no better: one reduction
        scheduler.step(1.0)
    return rates(optimizer)


def functions(optimizer):
    scheduler = LambdaLR(optimizer, [lambda e: 1.0, lambda e: 1 / (e + 1), lambda e: 0.1])
    scheduler.step()
    return rates(optimizer)


for name, make in (
    ("lr=1.0", lambda: build(1.0)),
    ("lr=torch.tensor(1.0)", lambda: build(torch.tensor(1.0))),
    ("a tensor for each group", lambda: build(torch.tensor(1.0), each=True)),
):
    optimizer = make()
    one = optimizer.param_groups[0]["lr"] is optimizer.param_groups[1]["lr"]
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded = make()
    loaded.load_state_dict(torch.load(file))
    print(f"{name}: one object {one}")
    print(f"  after one plateau {plateau(make())}, loaded before {plateau(loaded)}")
    print(f"  three functions, one step {functions(make())}")
PY
cat >"$work/known" <<'TXT'
lr=1.0: one object True
  after one plateau [0.5, 0.5, 0.5], loaded before [0.5, 0.5, 0.5]
  three functions, one step [1.0, 0.5, 0.1]
lr=torch.tensor(1.0): one object True
  after one plateau [0.125, 0.125, 0.125], loaded before [0.125, 0.125, 0.125]
  three functions, one step [0.1, 0.1, 0.1]
a tensor for each group: one object False
  after one plateau [0.5, 0.5, 0.5], loaded before [0.5, 0.5, 0.5]
  three functions, one step [1.0, 0.5, 0.1]
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the same rates for the number and for the tensor."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
