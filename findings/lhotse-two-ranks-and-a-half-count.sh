#!/usr/bin/env bash
# lhotse 1.33.0: on two ranks SimpleCutSampler and BucketingSampler resume at half of the way, and half of
# what was trained comes again.
#
# Guess:    load_state_dict "will result in the sampler yielding batches from where the previous training
#           left it off"; it refuses another number of ranks, so ranks are provided for.
# Happens:  every rank draws the batches of all ranks and takes its own. The state counts the cuts of its own
#           batches, and SimpleCutSampler goes forward by that count: on two ranks by half of what was
#           drawn, on four by a quarter. Stopped in the middle of an epoch, 30 of 120 cuts are trained on
#           twice on two ranks, and 46 on four; the epoch becomes longer by as much. BucketingSampler is made of
#           the same source and does the same, and so does a RoundRobinSampler over it. The dynamic
#           samplers count batches, and are exact. On one rank two are not: RoundRobinSampler with
#           randomize=True makes its generator anew, so that the sources come in another order; and
#           WeightedSimpleCutSampler raises KeyError in each load_state_dict.
# Version:  lhotse 1.33.0, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11; and urllib3 2.8.0, which lhotse
#           imports and does not ask for.
# Known:    pull requests 417 and 639 made and mended the states. No issue about ranks was found.
# Matters:  several ranks are what long trainings have, and nothing is said. DynamicBucketingSampler is exact
#           on all of them.
# outlast:  has no adapter for samplers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet lhotse==1.33.0 urllib3==2.8.0 torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import copy
import random
import warnings

from lhotse import CutSet
from lhotse.dataset import sampling
from lhotse.testing.dummies import dummy_cut

warnings.filterwarnings("ignore")
draws = random.Random(0)
cuts = CutSet.from_cuts(dummy_cut(n, duration=round(draws.uniform(1, 5), 2)) for n in range(120))
cuts.to_file("cuts.jsonl")
lazy = CutSet.from_jsonl_lazy("cuts.jsonl")
first, second = cuts.split(2)


def simple(some, **place):
    return sampling.SimpleCutSampler(some, max_duration=12, shuffle=True, **place)


KINDS = {
    "SimpleCutSampler": lambda **place: simple(cuts, **place),
    "BucketingSampler": lambda **place: sampling.BucketingSampler(
        cuts, num_buckets=3, max_duration=12, shuffle=True, **place
    ),
    "RoundRobinSampler": lambda **place: sampling.RoundRobinSampler(simple(first, **place), simple(second, **place)),
    "DynamicCutSampler": lambda **place: sampling.DynamicCutSampler(lazy, max_duration=12, shuffle=True, **place),
    "DynamicBucketingSampler": lambda **place: sampling.DynamicBucketingSampler(
        lazy, num_buckets=3, max_duration=12, shuffle=True, **place
    ),
    "RoundRobinSampler, randomize": lambda **place: sampling.RoundRobinSampler(
        simple(first, **place), simple(second, **place), randomize=True
    ),
    "WeightedSimpleCutSampler": lambda **place: sampling.WeightedSimpleCutSampler(
        cuts, [1.0] * 120, num_samples=80, max_duration=12, **place
    ),
}


def resume(kind, ranks):
    """All ranks stop after half of the epoch, and take up the state of rank 0, whose number is not compared."""
    build, seen, exact = KINDS[kind], [], True
    for rank in range(ranks):
        whole = [tuple(batch.ids) for batch in build(world_size=ranks, rank=rank)]
        sampler = build(world_size=ranks, rank=rank)
        batches = iter(sampler)
        done = [tuple(next(batches).ids) for _ in range(len(whole) // 2)]
        state = copy.deepcopy(sampler.state_dict()) if not rank else state
        sampler = build(world_size=ranks, rank=rank)
        try:
            sampler.load_state_dict(copy.deepcopy(state))
        except KeyError as error:
            return f"KeyError {error}"
        both = done + [tuple(batch.ids) for batch in sampler]
        exact = exact and both == whole
        seen += [cut for batch in both for cut in batch]
    again = len(seen) - len(set(seen))
    return "exact" if exact else f"{len(both)} batches in place of {len(whole)}, {again} cuts twice"


for kind in KINDS:
    print(f"{kind}:", "; ".join(f"{ranks} rank(s) {resume(kind, ranks)}" for ranks in (1, 2, 4)))
PY
cat >"$work/known" <<'TXT'
SimpleCutSampler: 1 rank(s) exact; 2 rank(s) 34 batches in place of 27, 30 cuts twice; 4 rank(s) 19 batches in place of 14, 46 cuts twice
BucketingSampler: 1 rank(s) exact; 2 rank(s) 31 batches in place of 25, 30 cuts twice; 4 rank(s) 18 batches in place of 13, 45 cuts twice
RoundRobinSampler: 1 rank(s) exact; 2 rank(s) 33 batches in place of 26, 31 cuts twice; 4 rank(s) 19 batches in place of 14, 51 cuts twice
DynamicCutSampler: 1 rank(s) exact; 2 rank(s) exact; 4 rank(s) exact
DynamicBucketingSampler: 1 rank(s) exact; 2 rank(s) exact; 4 rank(s) exact
RoundRobinSampler, randomize: 1 rank(s) 52 batches in place of 52, 0 cuts twice; 2 rank(s) 33 batches in place of 26, 31 cuts twice; 4 rank(s) 19 batches in place of 14, 51 cuts twice
WeightedSimpleCutSampler: 1 rank(s) KeyError 'time_constraint'; 2 rank(s) KeyError 'time_constraint'; 4 rank(s) KeyError 'time_constraint'
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: each resume is exact."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
