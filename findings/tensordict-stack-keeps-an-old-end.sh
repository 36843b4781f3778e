#!/usr/bin/env bash
# tensordict 0.15.3: a lazy stack of two, saved over a stack of three, comes back as three; the
# third is of the save before.
#
# Guess:    `data.memmap(folder)` makes the folder hold `data`, as it does for a plain TensorDict of
#           which a key is gone.
# Happens:  the elements of a LazyStackedTensorDict go into folders 0, 1, 2, ... How many they are
#           is written nowhere: load_memmap counts the folders. Those of a longer stack before stay,
#           and the result is a mixture of two saves with an honest shape. A TensorDict has its
#           names in meta.json and is right.
# Version:  tensordict 0.15.3 on torch 2.13.0 (CPU), Python 3.11.
# Known:    no issue and no document was found.
# Matters:  episodes of different length are what lazy stacks are for. A buffer that is written to
#           the same folder at each save, and shrank once, trains on episodes that were dropped.
# outlast:  writes each checkpoint into a new folder with a list of its files.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 tensordict==0.15.3 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import torch
from tensordict import TensorDict, lazy_stack


def episode(length, save):
    return TensorDict({"reward": torch.full((length,), float(save))}, [length])


def show(title, stack):
    rewards = [element["reward"].tolist() for element in stack.unbind(0)]
    print(f"{title}: {len(rewards)} episodes", *rewards)


first = lazy_stack([episode(2, 1), episode(3, 1), episode(4, 1)])
second = lazy_stack([episode(3, 2), episode(1, 2)])
show("first save", first)
first.memmap("buffer")
show("second save", second)
second.memmap("buffer")
loaded = TensorDict.load_memmap("buffer")
show("loaded", loaded)
print("shape", list(loaded.batch_size))

TensorDict({"a": torch.zeros(1), "b": torch.zeros(1)}).memmap("plain")
TensorDict({"a": torch.ones(2)}).memmap("plain")
plain = TensorDict.load_memmap("plain")
print("a TensorDict, a and b, then a alone:", *plain.keys(), plain["a"].tolist())
PY
cat >"$work/known" <<'TXT'
first save: 3 episodes [1.0, 1.0] [1.0, 1.0, 1.0] [1.0, 1.0, 1.0, 1.0]
second save: 2 episodes [2.0, 2.0, 2.0] [2.0]
loaded: 3 episodes [2.0, 2.0, 2.0] [2.0] [1.0, 1.0, 1.0, 1.0]
shape [3, -1]
a TensorDict, a and b, then a alone: a [1.0, 1.0]
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: loaded is the second save."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
