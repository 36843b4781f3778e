#!/usr/bin/env bash
# torch 2.13.0: set_num_threads in a new thread of Python is undone by the call of another thread,
# unless the thread has asked for the number first; sums get other bits.
#
# Guess:    the number belongs to the thread that set it, or to the process. A thread that sets 1
#           computes with 1 until it sets another number; and get_num_threads() only reads.
# Happens:  it is both. The thread has 1. When another thread then sets 3, and the first one has
#           neither asked nor computed in parallel yet, its next question or sum takes the process's
#           number, 3. With `torch.get_num_threads()` in front of its own call it keeps 1: the
#           question is what binds the number to the thread.
# Version:  torch 2.13.0 (CPU), Python 3.11.
# Known:    github.com/pytorch/pytorch/pull/37461 (2020) gave each thread the process's number at its
#           first parallel work. It does not count set_num_threads as a first use.
# Matters:  a sum over 1 and over 3 threads has other last bits. A helper thread (evaluation, a
#           prefetcher) that sets 1 in order to be the same everywhere is the same or not by which
#           thread sets its number last, and a resumed training may differ from the first one.
# outlast:  its own threads ask first (outlast_recipes/common/lanes.py); in a thread of yours, do so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" MKL_DYNAMIC=FALSE PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import threading

import torch

values = torch.rand(1_000_003, generator=torch.Generator().manual_seed(0))
torch.set_num_threads(1)
alone = values.sum().item()


def case(ask):
    torch.set_num_threads(2)
    is_set, go_on, seen = threading.Event(), threading.Event(), {}

    def helper():
        if ask:
            torch.get_num_threads()
        torch.set_num_threads(1)
        is_set.set()
        go_on.wait()
        seen["sum"] = values.sum().item()
        seen["threads"] = torch.get_num_threads()

    thread = threading.Thread(target=helper)
    thread.start()
    is_set.wait()
    torch.set_num_threads(3)
    go_on.set()
    thread.join()
    same = "the sum of one thread" if seen["sum"] == alone else "another sum"
    return f"{seen['threads']} thread(s), {same}"


print("helper sets 1, then the main thread sets 3:", case(ask=False))
print("the same, but the helper asks first:       ", case(ask=True))
PY
cat >"$work/known" <<'TXT'
helper sets 1, then the main thread sets 3: 3 thread(s), another sum
the same, but the helper asks first:        1 thread(s), the sum of one thread
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 1 thread and its sum, twice."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
