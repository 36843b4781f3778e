#!/usr/bin/env bash
# NumPy 2.4.6: default_rng([seed, 0]) is default_rng(seed), so that rank, worker or epoch 0 repeats
# the program's own stream.
#
# Guess:    a list of integers is a seed of its own: [5], [5, 0] and [5, 0, 0] are three, as they
#           are three keys of a dict.
# Happens:  a short list is filled up with zeros to 128 bits. Zeros at its end change nothing, and
#           integers are cut into 32-bit words first, so that [5, 1] is 5 + 2**32. Of
#           default_rng([seed, rank]) the one of rank 0 draws what default_rng(seed) draws: its
#           noise is the initial weights, number for number. A list of five words can also be a
#           child: [5, 0, 0, 0, 1] is the second child that SeedSequence(5) spawns. With the number
#           first, [rank, seed], nothing collides.
# Version:  numpy 2.4.6, Python 3.11.
# Known:    the page on parallel generation puts the number first, because spawn() appends to the
#           seed; it does not say that zeros vanish, nor does SeedSequence. numpy issue 16539 (2020)
#           was the same between a parent and its first child, which is mended.
# Matters:  [seed, epoch], [seed, rank] and [seed, worker] are written everywhere, and 0 is where
#           all three begin. One process of a run is correlated with its initialization and the
#           others are not; tests with one process see nothing but that.
# outlast:  draws orders from Philox with (seed, epoch) as its key, and seeds the generators of a
#           batch with four words that it derives from (seed, epoch, batch); a script's
#           default_rng(seed) is neither.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import numpy as np
from numpy.random import SeedSequence, default_rng


def same(one, other):
    return bool((default_rng(one).random(8) == default_rng(other).random(8)).all())


for one, other in (
    ("[5]", "[5, 0]"),
    ("5", "[5, 0, 0, 0]"),
    ("5 + 2**32", "[5, 1]"),
    ("SeedSequence(5).spawn(2)[0]", "5"),
    ("SeedSequence(5).spawn(2)[1]", "[5, 0, 0, 0, 1]"),
    ("[0, 5]", "5"),
    ("[0, 5]", "[1, 5]"),
):
    print(f"{one} and {other}: the same {same(eval(one), eval(other))}")

weights = default_rng(5).standard_normal(100_000)
for name, seed in (("[seed, rank]", lambda rank: [5, rank]), ("[rank, seed]", lambda rank: [rank, 5])):
    noise = [default_rng(seed(rank)).standard_normal(100_000) for rank in range(3)]
    found = [round(abs(float(np.corrcoef(weights, each)[0, 1])), 1) for each in noise]
    print(f"{name}: correlation of the noise of ranks 0, 1, 2 with the weights", *found)
PY
cat >"$work/known" <<'TXT'
[5] and [5, 0]: the same True
5 and [5, 0, 0, 0]: the same True
5 + 2**32 and [5, 1]: the same True
SeedSequence(5).spawn(2)[0] and 5: the same False
SeedSequence(5).spawn(2)[1] and [5, 0, 0, 0, 1]: the same True
[0, 5] and 5: the same False
[0, 5] and [1, 5]: the same False
[seed, rank]: correlation of the noise of ranks 0, 1, 2 with the weights 1.0 0.0 0.0
[rank, seed]: correlation of the noise of ranks 0, 1, 2 with the weights 0.0 0.0 0.0
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: False in every line, and no correlation."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
