#!/usr/bin/env bash
# optax 0.2.8: inject_hyperparams(adam) over bfloat16 parameters gives NaN from the first update on,
# where adam trains; one float32 parameter anywhere mends it.
#
# Guess:    inject_hyperparams(adam)(learning_rate=...) is adam(...) with hyperparameters that can
#           be read and set.
# Happens:  without hyperparam_dtype all numbers that the optimizer takes, its defaults as well,
#           become arrays of the highest type among the parameters. b2 = 0.999 in bfloat16 is 1.
#           Then 1 - b2**t is 0, and 0/0 goes into all parameters. With RMSprop and decay=0.999 the
#           average stays 0, and three updates at a rate of 0.01 move a weight by 150. A model with
#           one float32 array, such as a norm, trains: whether it does is decided by a layer that
#           has nothing to do with it.
# Version:  optax 0.2.8, jax 0.10.2, Python 3.11, CPU; inject_stateful_hyperparams is the same.
# Known:    optax issue 1414 (open) shows the types and asks for others. Neither it nor the
#           documentation says that Adam cannot run.
# Matters:  it is the usual way to log, and to change, the rate of a run; and to fine-tune in pure
#           bfloat16 begins by casting all parameters. Name hyperparam_dtype=jnp.float32.
# outlast:  saves a pytree as it is; the recipes have float32 parameters.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import jax.numpy as jnp
import optax

B, F = jnp.bfloat16, jnp.float32


def train(optimizer, types):
    parameters = {name: jnp.ones(2, dtype) for name, dtype in types.items()}
    state = optimizer.init(parameters)
    for _ in range(3):
        gradients = {name: jnp.full(2, 0.5, x.dtype) for name, x in parameters.items()}
        updates, state = optimizer.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return {name: round(float(x[0]), 3) for name, x in parameters.items()}, state


def show(title, optimizer, types):
    parameters, state = train(optimizer, types)
    text = ", ".join(f"{name} {value}" for name, value in parameters.items())
    held = getattr(state, "hyperparams", {})
    numbers = [f"{k} {float(held[k]):.4f}" for k in ("b2", "decay") if k in held]
    print(f"  {title}: {text}", *numbers, sep="; " if numbers else "")


inject = optax.inject_hyperparams
slow = {"learning_rate": 0.01, "decay": 0.999}
for types in ({"kernel": B}, {"kernel": B, "norm": F}):
    kinds = ", ".join(f"{name} {dtype.__name__}" for name, dtype in types.items())
    print(f"after three updates of {kinds}")
    show("adam", optax.adam(0.01), types)
    show("inject_hyperparams(adam)", inject(optax.adam)(learning_rate=0.01), types)
    show("with hyperparam_dtype", inject(optax.adam, hyperparam_dtype=F)(learning_rate=0.01), types)
    show("rmsprop", optax.rmsprop(**slow), types)
    show("inject_hyperparams(rmsprop)", inject(optax.rmsprop)(**slow), types)
PY
cat >"$work/known" <<'TXT'
after three updates of kernel bfloat16
  adam: kernel 0.965
  inject_hyperparams(adam): kernel nan; b2 1.0000
  with hyperparam_dtype: kernel 0.965; b2 0.9990
  rmsprop: kernel 0.277
  inject_hyperparams(rmsprop): kernel -149.0; decay 1.0000
after three updates of kernel bfloat16, norm float32
  adam: kernel 0.965, norm 0.97
  inject_hyperparams(adam): kernel 0.965, norm 0.97; b2 0.9990
  with hyperparam_dtype: kernel 0.965, norm 0.97; b2 0.9990
  rmsprop: kernel 0.277, norm 0.277
  inject_hyperparams(rmsprop): kernel 0.275, norm 0.277; decay 0.9990
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: finite numbers, as from adam."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
