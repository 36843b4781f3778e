#!/usr/bin/env bash
# torch 2.13.0 (CPU) and jax 0.10.2: a seed counts with its lower 32 bits, so that seeds which
# differ above them are one and the same run.
#
# Guess:    what the documentation allows is used: torch.manual_seed takes "-0x8000_0000_0000_0000
#           to 0xffff_ffff_ffff_ffff", jax.random.key "a 64- or 32-bit integer". What does not fit
#           is refused, as by NumPy's RandomState.
# Happens:  torch.manual_seed(5) and torch.manual_seed(2**32 + 5) give the same numbers on a CPU,
#           with a Generator as well, while initial_seed() goes on to name 4294967301.
#           jax.random.key(2**32 + 5) is key(5) as long as jax_enable_x64 is off, which is the
#           default; its fold_in raises OverflowError for that Python integer and drops the half of
#           a NumPy integer. Eight ranks that are seeded with `rank << 32 | seed` all draw the same.
#           NumPy's default_rng uses all bits. Python's random does, too, but 5 and 4 << 32 | 5 are
#           one seed to it: its array of words is added to its own indices.
# Version:  torch 2.13.0 (CPU), jax 0.10.2, numpy 2.4.6, Python 3.11.
# Known:    jax issue 16808 (open) wishes for longer seeds; pull request 4877 settled 32 bits in
#           2020. pytorch issue 87509 says in passing that any 32-bit integer is a seed. Neither
#           documentation says that the rest is dropped.
# Matters:  seeds from a hash of the run's name, from time_ns(), or from
#           SeedSequence(...).generate_state(1, np.uint64) have 32 bits less than one thinks, and
#           packed ones have nothing left. Repeats that should be independent are copies, in initial
#           weights, order and dropout; logs show different seeds.
# outlast:  seed_everything mixes the upper half in, for torch and for NumPy, where outlast itself
#           had dropped it: tests/state/test_long_seeds.py. The emergence recipe does so for JAX:
#           tests/recipes/emergence/test_learning.py. Seeds below 2**32 are the library's own. A
#           script's own Generator().manual_seed and key are as above.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import random

import jax
import numpy as np
import torch

HIGH = 2**32


def torch_global(seed):
    torch.manual_seed(seed)
    return torch.rand(4).tolist()


def torch_generator(seed):
    return torch.randperm(1000, generator=torch.Generator().manual_seed(seed)).tolist()


def jax_key(seed):
    return jax.random.key_data(jax.random.key(seed)).tolist()


def jax_rbg(seed):
    return jax.random.key_data(jax.random.key(seed, impl="rbg")).tolist()


def numpy_generator(seed):
    return np.random.default_rng(seed).random()


def python(seed):
    return random.Random(seed).random()


def look(*ways):
    for draw in ways:
        ranks = {str(draw(rank << 32 | 5)) for rank in range(8)}
        print(f"  {draw.__name__}: 5 and 2**32 + 5 are the same {draw(5) == draw(HIGH + 5)},", end=" ")
        print(f"8 ranks with rank << 32 | 5: {len(ranks)} different")


look(torch_global, torch_generator, jax_key, jax_rbg, numpy_generator, python)
print("torch's initial_seed:", torch.Generator().manual_seed(HIGH + 5).initial_seed())
key = jax.random.key(0)
same = jax.random.key_data(jax.random.fold_in(key, np.int64(HIGH + 5))).tolist()
print("fold_in, int64: the same", same == jax.random.key_data(jax.random.fold_in(key, 5)).tolist())
try:
    jax.random.fold_in(key, HIGH + 5)
except OverflowError:
    print("fold_in, int: OverflowError")
jax.config.update("jax_enable_x64", True)
print("with jax_enable_x64")
look(jax_key)
PY
cat >"$work/known" <<'TXT'
  torch_global: 5 and 2**32 + 5 are the same True, 8 ranks with rank << 32 | 5: 1 different
  torch_generator: 5 and 2**32 + 5 are the same True, 8 ranks with rank << 32 | 5: 1 different
  jax_key: 5 and 2**32 + 5 are the same True, 8 ranks with rank << 32 | 5: 1 different
  jax_rbg: 5 and 2**32 + 5 are the same True, 8 ranks with rank << 32 | 5: 1 different
  numpy_generator: 5 and 2**32 + 5 are the same False, 8 ranks with rank << 32 | 5: 8 different
  python: 5 and 2**32 + 5 are the same False, 8 ranks with rank << 32 | 5: 7 different
torch's initial_seed: 4294967301
fold_in, int64: the same True
fold_in, int: OverflowError
with jax_enable_x64
  jax_key: 5 and 2**32 + 5 are the same False, 8 ranks with rank << 32 | 5: 8 different
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: False and 8 different for each library."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
