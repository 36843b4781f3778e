#!/usr/bin/env bash
# grain 0.2.18: RebatchIterDataset, resumed at the end of an epoch, gives one more batch of
# nothing.
#
# Guess:    a state that was taken after the last batch gives nothing more.
# Happens:  where the number of elements is a multiple of the batch size, the resumed iterator
#           gives one batch of shape (0,). The iterator that went on gives none. With a rest in
#           the last batch (22 elements in fours), or with drop_remainder=True, it is right.
# Version:  grain 0.2.18, Python 3.11. The class is in grain.experimental.
# Matters:  a run that saves at the end of an epoch makes one step more after a resume, on no
#           data: the mean of an empty batch is NaN, and one step with it ends the training's
#           numbers.
# outlast:  nothing yet: it has no adapter for grain.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grain==0.2.18
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import grain
from grain.experimental import RebatchIterDataset


def batches(elements, source_batch, batch):
    source = grain.MapDataset.range(elements).to_iter_dataset().batch(source_batch)
    return iter(RebatchIterDataset(source, batch))


for elements, source_batch, batch in ((24, 3, 4), (24, 6, 4), (20, 5, 4), (24, 4, 4), (22, 3, 4)):
    plain = [x.shape for x in batches(elements, source_batch, batch)]
    iterator = batches(elements, source_batch, batch)
    for _ in plain:
        next(iterator)
    resumed = batches(elements, source_batch, batch)
    resumed.set_state(iterator.get_state())
    print(f"{elements} elements, batches of {source_batch} made into batches of {batch}:", end=" ")
    print(f"{len(list(iterator))} left without a stop,", end=" ")
    print(f"after a resume {[x.shape for x in resumed]}")
PY
cat >"$work/known" <<'TXT'
24 elements, batches of 3 made into batches of 4: 0 left without a stop, after a resume [(0,)]
24 elements, batches of 6 made into batches of 4: 0 left without a stop, after a resume [(0,)]
20 elements, batches of 5 made into batches of 4: 0 left without a stop, after a resume [(0,)]
24 elements, batches of 4 made into batches of 4: 0 left without a stop, after a resume [(0,)]
22 elements, batches of 3 made into batches of 4: 0 left without a stop, after a resume []
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: nothing is left after the last batch, resumed or not."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
