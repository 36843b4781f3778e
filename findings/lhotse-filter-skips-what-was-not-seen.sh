#!/usr/bin/env bash
# lhotse 1.33.0: a dynamic sampler with a filter, resumed within an epoch, skips batches that were never
# seen; on two ranks the load raises StopIteration.
#
# Guess:    load_state_dict "will result in the sampler yielding batches from where the previous training
#           left it off"; a filter that is set again before the load changes nothing of that.
# Happens:  DynamicCutSampler and DynamicBucketingSampler go forward by the number of batches that their state
#           has counted, and each cut that the filter rejects is counted there as a (discarded) batch. With
#           a filter that rejects 9 of 60 cuts, and a stop after 5 batches, the load goes forward by
#           9 or 12: 11 or 21 of the cuts are never seen. On two ranks twice as many are skipped; it runs
#           off the end of this small epoch, and load_state_dict ends in a bare StopIteration. Without a
#           filter, with the filter on the cuts, and with the two samplers that are not dynamic it is exact.
# Version:  lhotse 1.33.0, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11; and urllib3 2.8.0, which lhotse
#           imports and does not ask for.
# Known:    issues 753 and 785 (2022, closed) had a StopIteration in the load for other reasons. No issue names
#           the filter.
# Matters:  what is too long, too short or empty is a small part of the cuts, but a batch has tens of cuts, so
#           that as many are rejected as batches are made. A part of the epoch is not trained on, in
#           silence. Filter the cuts (cuts.filter) and not the sampler.
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
from lhotse.dataset.sampling import BucketingSampler, DynamicBucketingSampler, DynamicCutSampler, SimpleCutSampler
from lhotse.testing.dummies import dummy_cut

warnings.filterwarnings("ignore")
STOP = 5
draws = random.Random(0)
durations = [round(draws.uniform(1, 5), 2) for _ in range(60)]
CutSet.from_cuts(dummy_cut(n, duration=seconds) for n, seconds in enumerate(durations)).to_file("cuts.jsonl")


def short(cut):
    return cut.duration < 4.5


KINDS = {
    "DynamicCutSampler": (DynamicCutSampler, {"shuffle_buffer_size": 20}),
    "DynamicBucketingSampler": (DynamicBucketingSampler, {"num_buckets": 3, "buffer_size": 20}),
    "SimpleCutSampler": (SimpleCutSampler, {}),
    "BucketingSampler": (BucketingSampler, {"num_buckets": 3}),
}


def build(kind, where, ranks):
    cls, options = KINDS[kind]
    cuts = CutSet.from_jsonl_lazy("cuts.jsonl") if "Dynamic" in kind else CutSet.from_jsonl("cuts.jsonl")
    if where == "cuts":
        cuts = cuts.filter(short)
    sampler = cls(cuts, max_duration=12, shuffle=True, world_size=ranks, rank=0, **options)
    if where == "sampler":
        sampler.filter(short)
    return sampler


def resume(kind, where, ranks=1):
    whole = [tuple(batch.ids) for batch in build(kind, where, ranks)]
    sampler = build(kind, where, ranks)
    batches = iter(sampler)
    first = [tuple(next(batches).ids) for _ in range(STOP)]
    state = copy.deepcopy(sampler.state_dict())
    counted = dict(state["diagnostics"]["stats_per_epoch"][0])
    sampler = build(kind, where, ranks)
    try:
        sampler.load_state_dict(state)
    except StopIteration:
        return "load_state_dict raises StopIteration"
    rest = [tuple(batch.ids) for batch in sampler]
    if first + rest == whole:
        return "exact"
    missed = {cut for batch in whole for cut in batch} - {cut for batch in first + rest for cut in batch}
    at = f"goes on with batch {whole.index(rest[0]) + 1} of {len(whole)}"
    return f"{at}, misses {len(missed)} cuts; counted {counted['kept_batches']} + {counted['discarded_batches']} batches"


print(f"{sum(not seconds < 4.5 for seconds in durations)} of 60 cuts are rejected; stopped after batch {STOP}")
for kind in KINDS:
    for where in ("nowhere", "cuts", "sampler"):
        print(f"{kind}, filter on {where}: {resume(kind, where)}")
for kind in list(KINDS)[:2]:
    print(f"{kind}, filter on sampler, two ranks: {resume(kind, 'sampler', 2)}")
PY
cat >"$work/known" <<'TXT'
9 of 60 cuts are rejected; stopped after batch 5
DynamicCutSampler, filter on nowhere: exact
DynamicCutSampler, filter on cuts: exact
DynamicCutSampler, filter on sampler: goes on with batch 10 of 19, misses 11 cuts; counted 5 + 4 batches
DynamicBucketingSampler, filter on nowhere: exact
DynamicBucketingSampler, filter on cuts: exact
DynamicBucketingSampler, filter on sampler: goes on with batch 13 of 17, misses 21 cuts; counted 5 + 7 batches
SimpleCutSampler, filter on nowhere: exact
SimpleCutSampler, filter on cuts: exact
SimpleCutSampler, filter on sampler: exact
BucketingSampler, filter on nowhere: exact
BucketingSampler, filter on cuts: exact
BucketingSampler, filter on sampler: exact
DynamicCutSampler, filter on sampler, two ranks: load_state_dict raises StopIteration
DynamicBucketingSampler, filter on sampler, two ranks: load_state_dict raises StopIteration
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: each resumed sampler goes on with batch 9."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
