#!/usr/bin/env bash
# grain 0.2.18: InterleaveIterDataset writes into the state that it was given.
#
# Guess:    `set_state(state)` copies what it needs; a state in memory may be loaded as often as
#           one likes.
# Happens:  the iterator keeps the lists inside of the dict and changes them while it goes on. The
#           first load is exact. Loading the same dict again gives a stream that is too long, with
#           elements twice and others never. Nothing warns.
# Version:  grain 0.2.18, Python 3.11. The class is in grain.experimental.
# Matters:  a run that goes back to its last good state in memory (after a jump of the loss, or
#           once for training and once for a comparison) trains on another stream from the second
#           time on. A state that is read from a file each time is not concerned, nor is
#           copy.deepcopy(state).
# outlast:  reads a state from its checkpoint anew at each load.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grain==0.2.18
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import copy

import grain
from grain.experimental import InterleaveIterDataset


def stream():
    parts = [grain.MapDataset.range(k * 10, k * 10 + 4 + k).to_iter_dataset() for k in range(5)]
    return iter(InterleaveIterDataset(parts, cycle_length=2))


plain = [int(x) for x in stream()]
iterator = stream()
for _ in range(3):
    next(iterator)
state = iterator.get_state()
original = copy.deepcopy(state)
for load in (1, 2):
    again = stream()
    again.set_state(state)
    got = [int(x) for x in again]
    twice = len(got) - len(set(got))
    never = len(set(plain[3:]) - set(got))
    print(f"load {load}: as without a stop {got == plain[3:]},", end=" ")
    print(f"{len(got)} elements for {len(plain) - 3},", end=" ")
    print(f"{twice} twice, {never} never; the dict is unchanged {state == original}")
again = stream()
again.set_state(copy.deepcopy(original))
print("a copy of before: as without a stop", [int(x) for x in again] == plain[3:])
PY
cat >"$work/known" <<'TXT'
load 1: as without a stop True, 27 elements for 27, 0 twice, 0 never; the dict is unchanged False
load 2: as without a stop False, 33 elements for 27, 12 twice, 6 never; the dict is unchanged False
a copy of before: as without a stop True
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: each load gives the 27 elements that were left."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
