#!/usr/bin/env bash
# flax 0.12.8: an array in big-endian order comes back from msgpack as other numbers, without an
# error.
#
# Guess:    `from_bytes(target, to_bytes(state))` gives the numbers back; an order of bytes that
#           msgpack cannot hold is swapped or refused.
# Happens:  the bytes are written as they lie in memory, and the type by its name, which is
#           "float32" for both orders. They are read as little-endian: 1.0 becomes 4.6e-41, and the
#           label 5 becomes 83886080. Shape, type and sizes are right, and a target of the right
#           order changes nothing. NumPy's own file format, and pickle, keep the order.
# Version:  flax 0.12.8, jax 0.10.2, numpy 2.4.6, Python 3.11, on a little-endian machine.
# Known:    that from_bytes ignores the shape and type of its target is another matter. No document
#           speaks of the order of bytes.
# Matters:  MNIST's files, FITS and netCDF 3 are big-endian, and `np.frombuffer(..., ">i4")` stays
#           so until something copies it. Means, labels or a normalisation kept beside the weights
#           are wrong after a resume. jax itself refuses such arrays, so the weights are safe.
# outlast:  keeps the order (tests/state/test_round_trip.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet flax==0.12.8 jax==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import io

import numpy as np
from flax import serialization

for name, values, dtype in (("mean", [0.0, 1.0, 2.0], "f4"), ("labels", [5, 0, 4], "i4")):
    for order in "<>":
        array = np.array(values, dtype=order + dtype)
        state = {name: array}
        back = serialization.from_bytes({name: np.zeros_like(array)}, serialization.to_bytes(state))[name]
        file = io.BytesIO()
        np.save(file, array)
        file.seek(0)
        saved = np.load(file)
        print(f"{name} as {order}{dtype}: flax gives {back.tolist()}; np.save gives {saved.tolist()}")
PY
cat >"$work/known" <<'TXT'
mean as <f4: flax gives [0.0, 1.0, 2.0]; np.save gives [0.0, 1.0, 2.0]
mean as >f4: flax gives [0.0, 4.600602988224807e-41, 8.96831017167883e-44]; np.save gives [0.0, 1.0, 2.0]
labels as <i4: flax gives [5, 0, 4]; np.save gives [5, 0, 4]
labels as >i4: flax gives [83886080, 0, 67108864]; np.save gives [5, 0, 4]
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: flax gives what was saved, in either order of bytes."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
