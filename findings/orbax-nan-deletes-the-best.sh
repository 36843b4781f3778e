#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: one checkpoint with a NaN metric, and the manager deletes the best one.
#
# Guess:    best_fn with best_mode="min" and max_to_keep=2 keeps the two checkpoints with the lowest
#           loss. A NaN is no loss at all: it is the first to go, or refused.
# Happens:  the checkpoints are sorted by the metric, and a NaN among them stops the sorting,
#           because it is neither more nor less than a number. What happens to stand at the end is
#           "best". After losses of 0.5, 0.2, NaN and 0.8 the manager holds NaN and 0.8; both good
#           ones are deleted from the disk, and best_step() names 0.8. With "max", and with the
#           newer preservation_policy=BestN, it is the same. Nothing warns.
# Version:  orbax-checkpoint 0.12.8, jax 0.10.2, Python 3.11.
# Known:    no issue and no document was found. Ray mended the same in 2022 (pull request 23862).
# Matters:  a run that diverges is just the run whose best checkpoint one wants back; and a metric
#           of an empty class (0/0) is NaN without any divergence. Return float("inf") from best_fn.
# outlast:  NaN is never better, and checkpoints without a value are not compared:
#           tests/checkpoint/test_store.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import math
import tempfile

import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy


def run(values, **options):
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **options)
    with ocp.CheckpointManager(tempfile.mkdtemp(), options=options) as manager:
        for step, value in enumerate(values):
            state = ocp.args.StandardSave({"weight": jnp.full(2, float(step))})
            manager.save(step, args=state, metrics={"loss": value})
        kept = [values[step] for step in sorted(manager.all_steps())]
        best = manager.best_step()
    return kept, None if best is None else values[best]


def loss(metrics):
    return metrics["loss"]


nan = math.nan
policy = preservation_policy.BestN(get_metric_fn=loss, reverse=True, n=2)
for values in ([0.5, 0.2, 0.9, 0.8], [0.5, 0.2, nan, 0.8], [0.1, 0.9, 0.5, nan, 0.6, 0.7]):
    print("values", *values)
    for mode in ("min", "max"):
        kept, best = run(values, best_fn=loss, best_mode=mode, max_to_keep=2)
        print(f"  {mode}: kept", *kept, "best", best)
    print("  BestN, lowest: kept", *run(values, preservation_policy=policy)[0])
PY
cat >"$work/known" <<'TXT'
values 0.5 0.2 0.9 0.8
  min: kept 0.5 0.2 best 0.2
  max: kept 0.9 0.8 best 0.9
  BestN, lowest: kept 0.5 0.2
values 0.5 0.2 nan 0.8
  min: kept nan 0.8 best 0.8
  max: kept nan 0.8 best 0.8
  BestN, lowest: kept nan 0.8
values 0.1 0.9 0.5 nan 0.6 0.7
  min: kept 0.6 0.7 best 0.6
  max: kept 0.6 0.7 best 0.7
  BestN, lowest: kept 0.6 0.7
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the two lowest (highest) numbers are kept, and NaN never."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
