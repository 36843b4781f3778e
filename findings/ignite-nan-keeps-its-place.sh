#!/usr/bin/env bash
# pytorch-ignite 0.5.5: a checkpoint whose score is NaN cannot be beaten, and the best model of the
# training is not written.
#
# Guess:    Checkpoint(score_function=..., n_saved=2) holds the two best; any number is better than
#           a NaN of the first epochs.
# Happens:  a new score is compared with the lowest that is kept. While a NaN stands there, "greater
#           than NaN" is false for every score, so that nothing is saved any more: after NaN, 0.5,
#           0.8, 0.9 the files are those of NaN and 0.5. Only a NaN in the first n_saved evaluations
#           does the harm: one that comes later is not saved. A resume with load_state_dict keeps
#           the place taken.
# Version:  pytorch-ignite 0.5.5 on torch 2.13.0 (CPU), Python 3.11.
# Known:    no issue and no document was found.
# Matters:  a mean over a class that the first validation never predicts is NaN, once. Hours later
#           there is no best model.
# outlast:  any number is better than NaN: tests/checkpoint/test_store.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 pytorch-ignite==0.5.5 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import math
import os
import tempfile

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver


def train(scores, stop_after=None):
    """Returns the scores of the files at the end."""
    engine = Engine(lambda engine, batch: None)
    model = torch.nn.Linear(1, 1)

    def score(engine):
        return scores[engine.state.epoch - 1]

    def build(folder):
        saver = DiskSaver(folder, require_empty=False)
        number = lambda engine, event: engine.state.epoch  # noqa: E731
        return Checkpoint(
            {"model": model}, saver, n_saved=2, score_function=score, global_step_transform=number
        )

    folder = tempfile.mkdtemp()
    handler = build(folder)
    if stop_after is not None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
        engine.run([0], max_epochs=stop_after)
        state, handler = handler.state_dict(), build(folder)
        handler.load_state_dict(state)
        later = Engine(lambda engine, batch: None)
        later.load_state_dict(engine.state_dict())
        engine = later
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.run([0], max_epochs=len(scores))
    steps = sorted(int(name.split("_")[1]) for name in os.listdir(folder))
    return [scores[step - 1] for step in steps]


nan = math.nan
for scores in ([0.5, 0.6, 0.8, 0.9], [nan, 0.5, 0.8, 0.9], [0.5, nan, 0.8, 0.9], [0.5, 0.6, nan, 0.9]):
    print("scores", *scores)
    print("  kept", *train(scores), end="; ")
    print("stopped after 3 and resumed:", *train(scores, stop_after=3))
PY
cat >"$work/known" <<'TXT'
scores 0.5 0.6 0.8 0.9
  kept 0.8 0.9; stopped after 3 and resumed: 0.8 0.9
scores nan 0.5 0.8 0.9
  kept nan 0.5; stopped after 3 and resumed: nan 0.5
scores 0.5 nan 0.8 0.9
  kept nan 0.8; stopped after 3 and resumed: nan 0.8
scores 0.5 0.6 nan 0.9
  kept 0.6 0.9; stopped after 3 and resumed: 0.6 0.9
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the two highest numbers are kept, and never a NaN."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
