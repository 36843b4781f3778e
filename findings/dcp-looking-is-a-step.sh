#!/usr/bin/env bash
# torch 2.13.0: get_optimizer_state_dict before the first step takes an optimizer step, and some
# optimizers hardly move after it.
#
# Guess:    asking for the state of an optimizer reads it; a training that saves itself at step 0 is
#           the same training as one that does not.
# Happens:  torch.distributed.checkpoint's function fills empty states with a step over zero
#           gradients and a rate of 0, and leaves them in the living optimizer. Its count is 1.
#           Adam's first real update is 0.74 of what it is without the call, RAdam's and Adamax's
#           0.53, that of SGD with dampening 0.5 the half. Rprop took its step sizes from the rate
#           of 0: it begins at its smallest size and needs dozens of steps to recover. A second call
#           later in the training changes nothing.
# Version:  torch 2.13.0 (CPU), Python 3.11, without a process group.
# Known:    pytorch issue 164929 (open) shows it for AdamW. The documentation does not say it.
# Matters:  a save at step 0 (the usual test that saving works), and every resume that builds its
#           template in this way and then finds no checkpoint, begins another training.
# outlast:  reads torch's own state_dict(); nothing steps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict


def train(kind, options, ask):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = kind(model.parameters(), lr=0.1, **options)
    start = model.weight.detach().clone()
    moved = []
    for step in range(20):
        if step == ask:
            get_optimizer_state_dict(model, optimizer)
        optimizer.zero_grad()
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        (model(x) - 1).pow(2).mean().backward()
        optimizer.step()
        moved.append((model.weight.detach() - start).norm().item())
    return moved


optim = torch.optim
for kind, options in (
    (optim.SGD, {"momentum": 0.9}),
    (optim.AdamW, {}),
    (optim.RAdam, {}),
    (optim.Adamax, {}),
    (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    (optim.Rprop, {}),
):
    plain, at_0, at_1 = (train(kind, options, ask) for ask in (None, 0, 1))
    text = ", ".join(f"{k}={v}" for k, v in options.items())
    print(f"{kind.__name__}({text}) asked before step 1:", end=" ")
    print(f"moved {at_0[0] / plain[0]:.3f} of what it moves unasked,", end=" ")
    print(f"after 20 steps {at_0[-1] / plain[-1]:.1f}; asked before step 2: same {at_1 == plain}")
PY
cat >"$work/known" <<'TXT'
SGD(momentum=0.9) asked before step 1: moved 1.000 of what it moves unasked, after 20 steps 1.0; asked before step 2: same True
AdamW() asked before step 1: moved 0.745 of what it moves unasked, after 20 steps 1.0; asked before step 2: same True
RAdam() asked before step 1: moved 0.526 of what it moves unasked, after 20 steps 0.7; asked before step 2: same True
Adamax() asked before step 1: moved 0.526 of what it moves unasked, after 20 steps 1.0; asked before step 2: same True
SGD(momentum=0.9, dampening=0.5) asked before step 1: moved 0.500 of what it moves unasked, after 20 steps 0.8; asked before step 2: same True
Rprop() asked before step 1: moved 0.000 of what it moves unasked, after 20 steps 0.0; asked before step 2: same True
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 1.000, 1.0 and True in every line."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
