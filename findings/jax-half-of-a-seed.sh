#!/usr/bin/env bash
# jax 0.10.2: key(seed) uses the lower 32 bits of a seed, so that seeds which differ above them are
# one and the same run.
#
# Guess:    "a 64- or 32-bit integer used as the value of the key", as its documentation says; what
#           does not fit is refused, as NumPy's RandomState and `fold_in` of a Python integer do.
# Happens:  without jax_enable_x64, which is the default, the upper half is dropped without a word:
#           key(5), key(2**32 + 5) and key(np.int64(2**32 + 5)) are equal, with threefry and with
#           rbg. Ranks that are seeded with `rank << 32 | seed` all draw the same numbers. A
#           negative seed -n is 2**32 - n. fold_in drops the upper half of a NumPy integer, and
#           raises OverflowError for the same Python integer. With x64 the keys differ, so that
#           turning it on for one metric gives a run with such a seed another stream.
# Version:  jax 0.10.2, Python 3.11, CPU.
# Known:    jax issue 16808 (open) wishes for longer seeds; pull request 4877 settled the 32 bits in
#           2020. The documentation names 64.
# Matters:  seeds from a hash of the run's name, from time_ns(), or from
#           SeedSequence(...).generate_state(1, np.uint64) have 32 bits less than one thinks; packed
#           ones have nothing left. Repeats of an evolution that should be independent are copies.
# outlast:  the emergence recipe folds the upper half in:
#           tests/recipes/emergence/test_learning.py::test_the_upper_half_of_a_long_seed_counts. An
#           own JAX script has to do so itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import jax
import numpy as np

HIGH = 2**32


def words(seed, impl="threefry2x32"):
    return tuple(jax.random.key_data(jax.random.key(seed, impl=impl)).tolist())


def folded(number):
    try:
        key = jax.random.fold_in(jax.random.key(0), number)
    except OverflowError:
        return "OverflowError"
    return tuple(jax.random.key_data(key).tolist())


def look():
    for impl in ("threefry2x32", "rbg"):
        same = words(5, impl) == words(HIGH + 5, impl) == words(np.int64(HIGH + 5), impl)
        print(f"  {impl}: key(5), key(2**32 + 5), key(int64(2**32 + 5)) are the same: {same}")
    ranks = [words(rank << 32 | 5) for rank in range(8)]
    print(f"  rank << 32 | 5 for 8 ranks: {len(set(ranks))} different")
    print(f"  key(-1) is key(2**32 - 1): {words(-1) == words(HIGH - 1)}")


print("as installed")
look()
same = folded(np.int64(HIGH + 5)) == folded(5)
print(f"  fold_in of 2**32 + 5: {folded(HIGH + 5)}; of int64(2**32 + 5) is that of 5: {same}")
print("with jax_enable_x64")
jax.config.update("jax_enable_x64", True)
look()
PY
cat >"$work/known" <<'TXT'
as installed
  threefry2x32: key(5), key(2**32 + 5), key(int64(2**32 + 5)) are the same: True
  rbg: key(5), key(2**32 + 5), key(int64(2**32 + 5)) are the same: True
  rank << 32 | 5 for 8 ranks: 1 different
  key(-1) is key(2**32 - 1): True
  fold_in of 2**32 + 5: OverflowError; of int64(2**32 + 5) is that of 5: True
with jax_enable_x64
  threefry2x32: key(5), key(2**32 + 5), key(int64(2**32 + 5)) are the same: False
  rbg: key(5), key(2**32 + 5), key(int64(2**32 + 5)) are the same: False
  rank << 32 | 5 for 8 ranks: 8 different
  key(-1) is key(2**32 - 1): False
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: False, 8 different and a refusal."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
