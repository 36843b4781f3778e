#!/usr/bin/env bash
# NumPy 2.4.6: the state of a generator does not say how many children it has spawned.
#
# Guess:    `generator.bit_generator.state = saved` brings a Generator back, so that all it gives
#           afterwards is what it would have given without the stop.
# Happens:  the draws are the same. `spawn()` is not: the restored generator hands out its first
#           children once more. Nothing warns. `pickle` keeps the count of children.
# Version:  numpy 2.4.6, Python 3.11.
# Matters:  a run that spawns a child for every epoch or worker repeats the random numbers of its
#           first epochs after each resume, and differs from the run that never stopped.
# outlast:  keeps the seed sequence and its count beside the state (tests/state/test_round_trip.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import pickle

import numpy as np


def child(generator):
    return generator.spawn(1)[0].random(4).tolist()


running = np.random.default_rng(11)
before = [child(running) for _ in range(3)]
state, pickled = running.bit_generator.state, pickle.dumps(running)

restored = np.random.default_rng(11)
restored.bit_generator.state = state
unpickled = pickle.loads(pickled)

fourth = child(running)
print("pickled: the fourth child is the same:", child(unpickled) == fourth)
again = child(restored)
print("state restored: the fourth child is the same:", again == fourth)
print("state restored: the fourth child is the first one again:", again == before[0])
draws = [generator.random(4).tolist() for generator in (running, restored)]
print("state restored: draws are the same:", draws[0] == draws[1])
PY
cat >"$work/known" <<'TXT'
pickled: the fourth child is the same: True
state restored: the fourth child is the same: False
state restored: the fourth child is the first one again: True
state restored: draws are the same: True
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the fourth child and the draws are the same after a resume."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
