#!/usr/bin/env bash
# TensorFlow 2.21.0, tf.data: saved at the end of an epoch, shuffle().batch() has one and the same order
# in all later sessions; without batch() it is exact.
#
# Guess:    tf.train.Checkpoint(iterator=it) brings a seeded pipeline back: the rest of its epoch, and
#           the epochs that follow. tf.data is careful here: what it cannot save it refuses by name,
#           and 40 pipelines that were stopped within an epoch gave the exact rest.
# Happens:  how often a shuffle was started anew is in the state of its iterator. A stage that has taken
#           the last element of its input drops the iterator, and saves "empty" in its place: batch,
#           take, filter, flat_map, a second shuffle. After the restore that shuffle counts from the
#           start of the process. Sessions of one epoch, saved when the loop has ended, have the orders
#           of epochs 1, 3, 3, 3, 3. With map, interleave and prefetch alone it is right.
#           Shards that are shuffled, interleaved and shuffled again are empty for the second shuffle
#           within the first batches: a stop in the first epoch, and from the second one on all is
#           otherwise, also with one iterator over repeat().
# Version:  tensorflow-cpu 2.21.0, numpy 2.4.6, Python 3.11.
# Known:    tensorflow issues 48178 (2021) and 58925 (2022), both closed as stale, have a dataset in the
#           checkpoint, and ask for the order of the next epoch. That it depends on what follows the
#           shuffle is in neither, nor in the guide on iterator checkpoints.
# Matters:  "save at the end of each epoch" is the usual place. A session of three epochs goes through
#           the orders 3, 4, 5 again and again; shards that a buffer mixes never meet other shards.
#           Shuffle by a seed of your own for each epoch, and save what the seed is made of.
# outlast:  has no adapter for tf.data; its own loader draws orders from the seed and the epoch.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import tensorflow as tf


def shuffled():
    return tf.data.Dataset.range(12).shuffle(12, seed=1)


def pair(number):
    return tf.data.Dataset.from_tensors(number).repeat(2)


PIPELINES = {
    "shuffle": shuffled,
    "shuffle, map, prefetch": lambda: shuffled().map(lambda number: number + 1).prefetch(2),
    "shuffle, interleave": lambda: shuffled().interleave(pair, cycle_length=2),
    "shuffle, batch": lambda: shuffled().batch(4),
    "shuffle, batch, prefetch": lambda: shuffled().batch(4).prefetch(2),
    "shuffle, take": lambda: shuffled().take(9),
    "shuffle, filter": lambda: shuffled().filter(lambda number: number > 2),
    "shuffle, flat_map, batch": lambda: shuffled().flat_map(pair).batch(4),
}


def taken(elements):
    return [element.numpy().tolist() for element in elements]


def in_sessions(make):
    """Five sessions of one epoch; each saves its iterator when the loop has ended."""
    orders = []
    for session in range(5):
        pipeline = make()
        iterator = iter(pipeline)
        if session:
            tf.train.Checkpoint(iterator=iterator).read("state").assert_consumed()
            rest = taken(iterator)
            assert not rest
            iterator = iter(pipeline)
        orders.append(taken(iterator))
        tf.train.Checkpoint(iterator=iterator).write("state")
    return orders


print("the orders of five sessions, as epochs of one that is not stopped")
for name, make in PIPELINES.items():
    pipeline = make()
    whole = [taken(pipeline) for _ in range(5)]
    print(f"  {name}:", *(whole.index(order) + 1 for order in in_sessions(make)))


def shards(*, mixed):
    """12 shards of two rows, 4 epochs of 6 batches, all in one iterator."""
    rows = shuffled().interleave(pair, cycle_length=12)
    return (rows.shuffle(12, seed=2) if mixed else rows).batch(4).repeat(4)


print("one iterator over 4 epochs, stopped after 3 of 24 batches; epochs that end as unstopped")
for mixed in (False, True):
    whole, iterator = taken(shards(mixed=mixed)), iter(shards(mixed=mixed))
    before = [next(iterator).numpy().tolist() for _ in range(3)]
    tf.train.Checkpoint(iterator=iterator).write("state")
    resumed = iter(shards(mixed=mixed))
    tf.train.Checkpoint(iterator=resumed).read("state").assert_consumed()
    stopped = before + taken(resumed)
    equal = [stopped[first : first + 6] == whole[first : first + 6] for first in range(0, 24, 6)]
    print("  shards,", "interleaved, shuffled:" if mixed else "interleaved:", *equal)
PY
cat >"$work/known" <<'TXT'
the orders of five sessions, as epochs of one that is not stopped
  shuffle: 1 2 3 4 5
  shuffle, map, prefetch: 1 2 3 4 5
  shuffle, interleave: 1 2 3 4 5
  shuffle, batch: 1 3 3 3 3
  shuffle, batch, prefetch: 1 3 3 3 3
  shuffle, take: 1 3 3 3 3
  shuffle, filter: 1 3 3 3 3
  shuffle, flat_map, batch: 1 3 3 3 3
one iterator over 4 epochs, stopped after 3 of 24 batches; epochs that end as unstopped
  shards, interleaved: True True True True
  shards, interleaved, shuffled: True False False False
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 1 2 3 4 5 each time, and four times True."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
