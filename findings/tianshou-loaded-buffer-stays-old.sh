#!/usr/bin/env bash
# tianshou 2.0.1: what a loaded CachedReplayBuffer collects is never sampled, and a loaded
# VectorReplayBuffer does not know which episodes are running.
#
# Guess:    a buffer that comes from pickle or load_hdf5, as the documentation saves and loads buffers,
#           goes on as the one that was saved: what is added can be sampled, and returns end where
#           episodes end.
# Happens:  a buffer for several environments has one memory, and a small buffer for each environment
#           that looks into it. After a load, and after copy.deepcopy, the small ones hold copies. A
#           CachedReplayBuffer moves finished episodes through them: of 500 transitions that are
#           added after the load none is ever sampled, while len() counts them; with pickle, half of
#           what is sampled is zeros. A VectorReplayBuffer asks them which episodes are running, and
#           hears of those of the save: a return goes on into the rewards of the next environment. A
#           single ReplayBuffer, with priorities too, is right.
# Version:  tianshou 2.0.1, torch 2.13.0 (CPU), gymnasium 1.0.0, numpy 2.1.3, Python 3.11.
# Known:    tianshou issue 728 (2022, closed) says to load a buffer of this kind with load_hdf5. No
#           issue about the copies was found.
# Matters:  a resumed agent trains on the experience of before, or on zeros, to its end, and its losses
#           look well. After pickle, `buffer.set_batch(buffer._meta)` makes the small buffers look into
#           the one memory again; with hdf5 the main buffer is a third copy.
# outlast:  has no adapter for replay buffers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tianshou==2.0.1 torch==2.13.0 gymnasium==1.0.0 numpy==2.1.3
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import copy
import os
import pickle

import numpy as np
from tianshou.algorithm.algorithm_base import Algorithm
from tianshou.data import Batch, CachedReplayBuffer, ReplayBuffer, VectorReplayBuffer


def add(buffer, step, rewards, done):
    """One step of two environments."""
    seen = np.full(2, float(step))
    ends = {"terminated": np.full(2, done), "truncated": np.zeros(2, bool)}
    acts = {"act": np.zeros(2, int), "rew": np.array(rewards), "info": Batch()}
    buffer.add(Batch(obs=seen, obs_next=seen + 1, **ends, **acts))


def by_hdf5(buffer):
    buffer.save_hdf5("buffer.h5")
    loaded = type(buffer).load_hdf5("buffer.h5")
    os.remove("buffer.h5")
    return loaded


def mended(buffer):
    loaded = pickle.loads(pickle.dumps(buffer))
    loaded.set_batch(loaded._meta)
    return loaded


WAYS = {
    "the same object": lambda buffer: buffer,
    "pickle": lambda buffer: pickle.loads(pickle.dumps(buffer)),
    "hdf5": by_hdf5,
    "deepcopy": copy.deepcopy,
    "pickle, set_batch": mended,
}

print("CachedReplayBuffer for 2000, 2 environments, episodes of 5; 250 steps, the load, 250 steps")
for name, way in WAYS.items():
    buffer = CachedReplayBuffer(ReplayBuffer(2000), 2, 10)
    for step in range(1, 501):
        add(buffer, step, [1.0, 1.0], step % 5 == 0)
        if step == 250:
            buffer = way(buffer)
    sampled, _ = buffer.sample(0)
    new, zeros = (sampled.obs > 250).mean(), (sampled.obs == 0).mean()
    print(f"  {name}: len {len(buffer)}, from after the load {new:.0%}, zeros {zeros:.0%}")

print("VectorReplayBuffer, 2 x 10 steps, an episode ends at step 5; the load; 5 steps of a running episode")
print("rewards are 1 in the first environment and 100 in the second")
for name, way in WAYS.items():
    buffer = VectorReplayBuffer(20, 2)
    for step in range(1, 16):
        add(buffer, step, [1.0, 100.0], step == 5)
        if step == 10:
            buffer = way(buffer)
    batch, indices = buffer.sample(0)
    returns, _ = Algorithm.compute_episodic_return(batch, buffer, indices, gamma=1.0, gae_lambda=1.0)
    first = returns[indices < 10]
    running = buffer.unfinished_index().tolist()
    print(f"  {name}: running at {running}, returns of the first {first.min():g} to {first.max():g}")
PY
cat >"$work/known" <<'TXT'
CachedReplayBuffer for 2000, 2 environments, episodes of 5; 250 steps, the load, 250 steps
  the same object: len 1000, from after the load 50%, zeros 0%
  pickle: len 1000, from after the load 0%, zeros 50%
  hdf5: len 1000, from after the load 0%, zeros 0%
  deepcopy: len 1000, from after the load 0%, zeros 50%
  pickle, set_batch: len 1000, from after the load 50%, zeros 0%
VectorReplayBuffer, 2 x 10 steps, an episode ends at step 5; the load; 5 steps of a running episode
rewards are 1 in the first environment and 100 in the second
  the same object: running at [4, 14], returns of the first 1 to 10
  pickle: running at [], returns of the first 1001 to 1010
  hdf5: running at [], returns of the first 1001 to 1010
  deepcopy: running at [], returns of the first 1001 to 1010
  pickle, set_batch: running at [4, 14], returns of the first 1 to 10
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: each way as with the same object."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
