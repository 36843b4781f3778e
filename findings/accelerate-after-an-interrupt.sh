#!/usr/bin/env bash
# accelerate 1.15.0: after an interrupt within gradient accumulation, the next training of the process
# changes no weight, and says nothing.
#
# Guess:    Ctrl-C ends a training in a notebook. The next one makes a new model, optimizer and
#           Accelerator, and trains.
# Happens:  whether an optimizer may step is kept for the whole process (GradientState), also for an
#           Accelerator that is made afterwards. An exception in a batch that only accumulates leaves
#           it at "no". A loop without accumulate() then calls backward and step as ever, and each
#           step is skipped: the weights move by 0. With accumulate() in the next loop, which sets
#           the flag at each batch, it trains.
# Version:  accelerate 1.15.0, torch 2.13.0 (CPU), Python 3.11.
# Known:    no issue found. That the state is shared is in accelerate's documentation of GradientState;
#           that it outlives the training that set it is not.
# Matters:  sessions in notebooks are interrupted and begun again in one process. The loss that is
#           printed is that of the first weights, for as long as one looks at it.
# outlast:  its callback for the Trainer gives the flag back when training is left between two batches:
#           tests/integrations/test_huggingface.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 ACCELERATE_USE_CPU=true
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import torch
from accelerate import Accelerator


def train(accelerator, *, accumulate, interrupt=False):
    """How far ten updates move the weights."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = [parameter.detach().clone() for parameter in model.parameters()]

    def update():
        accelerator.backward(model(torch.ones(4, 2)).mean())
        optimizer.step()
        optimizer.zero_grad()

    for batch in range(10):
        if not accumulate:
            update()
            continue
        with accelerator.accumulate(model):
            if interrupt and batch == 1:
                raise KeyboardInterrupt
            update()
    return max((old - new).abs().max().item() for old, new in zip(before, model.parameters(), strict=True))


def show(name, moved):
    print(f"{name}: weights moved by {moved:.2f}")


show("a plain loop", train(Accelerator(), accumulate=False))
try:
    train(Accelerator(gradient_accumulation_steps=4), accumulate=True, interrupt=True)
except KeyboardInterrupt:
    print("a training with accumulation is interrupted in its second batch")
show("the same plain loop, with a new Accelerator", train(Accelerator(), accumulate=False))
show("a loop with accumulate()", train(Accelerator(gradient_accumulation_steps=2), accumulate=True))
show("the plain loop after that", train(Accelerator(), accumulate=False))
PY
cat >"$work/known" <<'TXT'
a plain loop: weights moved by 1.00
a training with accumulation is interrupted in its second batch
the same plain loop, with a new Accelerator: weights moved by 0.00
a loop with accumulate(): weights moved by 0.50
the plain loop after that: weights moved by 1.00
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the plain loop moves the weights by 1.00 each time."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
