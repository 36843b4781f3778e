#!/usr/bin/env bash
# jax 0.10.2 with orbax-checkpoint 0.12.8, equinox 0.13.8 or flax 0.12.8: a number of the state that
# was weakly typed comes back strongly typed, and a bfloat16 training goes on in float32.
#
# Guess:    a state that is restored with the live state as its template trains on as the live one
#           does: same dtypes, same numbers.
# Happens:  `jnp.asarray(0.1)` is a weakly typed float32: bfloat16 weights times it stay bfloat16.
#           All three libraries give back a float32 of the same value that is not weak. The first
#           step after the resume turns the weights into float32; from then on they are twice as
#           large, and another program computes other numbers. No library warns, equality of the
#           values before and after the restore holds, and equinox, which compares dtypes with the
#           template, is content. A number that was given a dtype is not concerned.
# Version:  jax 0.10.2, orbax-checkpoint 0.12.8, equinox 0.13.8, flax 0.12.8, numpy 2.4.6, Python 3.11.
# Known:    JAX documents weak types and their promotion. No issue about checkpoints was found.
# Matters:  a learning rate, a loss scale, a temperature or an EMA's decay that lies in the state as
#           `jnp.asarray(number)`. A resumed run in half precision needs more memory than the session
#           before it had, and is not the run that was stopped.
# outlast:  keeps the weak type, as part of the dtype: tests/state/test_jax.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet orbax-checkpoint==0.12.8 equinox==0.13.8 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import io
import tempfile

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

x = jax.random.normal(jax.random.key(0), (64, 8), jnp.bfloat16)
y = x @ jnp.arange(8, dtype=jnp.bfloat16)


@jax.jit
def step(state):
    slope = jax.grad(lambda weights: jnp.mean((x @ weights - y) ** 2))(state["weights"])
    return {"weights": state["weights"] - state["rate"] * slope, "rate": state["rate"] * 0.9}


def train(state, steps):
    for _ in range(steps):
        state = step(state)
    return state


def by_orbax(state):
    folder = tempfile.mkdtemp() + "/state"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder, state)


def by_equinox(state):
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, state)
    file.seek(0)
    return eqx.tree_deserialise_leaves(file, state)


def by_flax(state):
    return flax.serialization.from_bytes(state, flax.serialization.to_bytes(state))


for name, rate in (("jnp.asarray(0.1)", jnp.asarray(0.1)), ("of bfloat16", jnp.asarray(0.1, jnp.bfloat16))):
    start = {"weights": jnp.zeros(8, jnp.bfloat16), "rate": rate}
    half, twin = train(start, 5), train(start, 10)
    print(f"rate {name}: weights of the twin {twin['weights'].dtype}")
    for restore in (by_orbax, by_equinox, by_flax):
        back = restore(half)
        values = all(map(jnp.array_equal, jax.tree.leaves(half), jax.tree.leaves(back)))
        end = train(back, 5)
        same = bool(jnp.array_equal(end["weights"], twin["weights"]))
        print(f"  {restore.__name__}: restored values equal {values}, at the end {end['weights'].dtype},", end=" ")
        print(f"{end['weights'].nbytes} bytes, equal to the twin {same}")
PY
cat >"$work/known" <<'TXT'
rate jnp.asarray(0.1): weights of the twin bfloat16
  by_orbax: restored values equal True, at the end float32, 32 bytes, equal to the twin False
  by_equinox: restored values equal True, at the end float32, 32 bytes, equal to the twin False
  by_flax: restored values equal True, at the end float32, 32 bytes, equal to the twin False
rate of bfloat16: weights of the twin bfloat16
  by_orbax: restored values equal True, at the end bfloat16, 16 bytes, equal to the twin True
  by_equinox: restored values equal True, at the end bfloat16, 16 bytes, equal to the twin True
  by_flax: restored values equal True, at the end bfloat16, 16 bytes, equal to the twin True
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: bfloat16, 16 bytes, equal to the twin, in all rows."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
