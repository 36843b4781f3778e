#!/usr/bin/env bash
# flax 0.12.8: a model's state that nnx.state or nnx.split returned trains along, so that "the best
# model so far" is the last one.
#
# Guess:    JAX has values and not references: `best = nnx.state(model)` is the state of that
#           moment, as `params` of a linen model is, and as the name "split into a functional state"
#           says.
# Happens:  the State holds the model's own Variables. Each update of the model changes it, with the
#           optimizer's state likewise; nnx.update(model, best) after a bad epoch does nothing, and
#           merge gives a second model that is the first. `copy.copy` and to_flat_state keep the
#           references. Any jax.tree.map over the state, nnx.to_pure_dict, copy.deepcopy and
#           nnx.clone end them.
# Version:  flax 0.12.8, jax 0.10.2, optax 0.2.8, Python 3.11, CPU.
# Known:    the documentation of state and split does not say it; that of merge names copy=False for
#           its own result. No issue was found.
# Matters:  "keep the best in memory, write it at the end" publishes the last model, with the best
#           one's metric. A run that returns to its last good state after a jump of the loss does
#           not return.
# outlast:  `run.offer(nnx.state(model))` is packed at the end of the step that offered it; eight
#           steps, stopped after the fourth, were equal to the twin (by hand).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet flax==0.12.8 optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import copy

import jax
import jax.numpy as jnp
import optax
from flax import nnx

model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)


def train(steps):
    for _ in range(steps):
        loss = nnx.grad(lambda m: ((m(jnp.ones((4, 2))) - 3) ** 2).mean())
        optimizer.update(model, loss(model))


def total(state):
    return round(sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(state)), 3)


train(2)
ways = {
    "nnx.state(model)": nnx.state(model),
    "nnx.state(model, nnx.Param)": nnx.state(model, nnx.Param),
    "nnx.split(model)": nnx.split(model)[1],
    "nnx.state(optimizer)": nnx.state(optimizer),
    "copy.copy(nnx.state(model))": copy.copy(nnx.state(model)),
    "jax.tree.map(lambda x: x, nnx.state(model))": jax.tree.map(lambda x: x, nnx.state(model)),
    "nnx.to_pure_dict(nnx.state(model))": nnx.to_pure_dict(nnx.state(model)),
    "copy.deepcopy(nnx.state(model))": copy.deepcopy(nnx.state(model)),
    "nnx.state(nnx.clone(model))": nnx.state(nnx.clone(model)),
}
held = {name: total(state) for name, state in ways.items()}
good = total(nnx.state(model))
train(3)
for name, state in ways.items():
    print(f"{name}: {'as it was' if total(state) == held[name] else 'has trained on'}")
nnx.update(model, ways["nnx.state(model)"])
print("back to the state of step 2 by nnx.state:", total(nnx.state(model)) == good)
nnx.update(model, ways["copy.deepcopy(nnx.state(model))"])
print("back to the state of step 2 by the copy:", total(nnx.state(model)) == good)
PY
cat >"$work/known" <<'TXT'
nnx.state(model): has trained on
nnx.state(model, nnx.Param): has trained on
nnx.split(model): has trained on
nnx.state(optimizer): has trained on
copy.copy(nnx.state(model)): has trained on
jax.tree.map(lambda x: x, nnx.state(model)): as it was
nnx.to_pure_dict(nnx.state(model)): as it was
copy.deepcopy(nnx.state(model)): as it was
nnx.state(nnx.clone(model)): as it was
back to the state of step 2 by nnx.state: False
back to the state of step 2 by the copy: True
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: as it was, and True, in every line."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
