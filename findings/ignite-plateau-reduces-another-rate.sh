#!/usr/bin/env bash
# pytorch-ignite 0.5.5: after a resume ReduceLROnPlateauScheduler counts on and reduces nothing: its
# state holds the function that reduces the rate of the optimizer of before.
#
# Guess:    the scheduler's state is the best metric and how long ago it was, as torch's; loaded
#           into a new scheduler it reduces the rate of the new optimizer, as all other schedulers of
#           ignite do.
# Happens:  ignite replaces torch's `_reduce_lr` in the scheduler by a method of its own. torch's
#           `state_dict` takes all attributes, and so this method, with the scheduler of ignite and the
#           optimizer that it belongs to. After `load_state_dict` the new scheduler calls it: the
#           rate of an optimizer that nobody trains with is halved, and the one in use stays
#           as it is to the end. Nothing is said, and the plateaus are counted as if they had been
#           answered. By a file it is the same where the file is read with weights_only=False, which torch
#           demands, as the whole optimizer is in it; ignite's `Checkpoint.load_objects` of a path
#           raises UnpicklingError. `scheduler.scheduler._reduce_lr = scheduler._reduce_lr` after the load
#           mends it.
# Version:  pytorch-ignite 0.5.5, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11.
# Known:    no issue and no document was found.
# Matters:  a resumed training stays at the rate of its stop, however flat the metric is.
# outlast:  packs no functions: such a state is refused before the first step.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pytorch-ignite==0.5.5 torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import copy
import pickle

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from ignite.handlers.param_scheduler import LinearCyclicalScheduler, LRScheduler, ReduceLROnPlateauScheduler

EPOCHS, STOP = 12, 4


def one_batch(engine, batch):
    """The metric never gets better."""
    engine.state.metrics["loss"] = 1.0


class Training:
    def __init__(self, kind):
        weight = torch.nn.Parameter(torch.ones(1))
        self.optimizer, self.kind = torch.optim.SGD([weight], lr=0.64), kind
        if kind == "plateau":
            self.scheduler = ReduceLROnPlateauScheduler(self.optimizer, "loss", patience=1, factor=0.5)
        elif kind == "linear":
            self.scheduler = LinearCyclicalScheduler(self.optimizer, "lr", 0.64, 0.01, 20)
        else:
            self.scheduler = LRScheduler(torch.optim.lr_scheduler.StepLR(self.optimizer, 2, 0.5))
        self.engine, self.rates = Engine(one_batch), []
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, self.scheduler)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self.rates.append(self.optimizer.param_groups[0]["lr"]))

    def parts(self):
        return {"optimizer": self.optimizer, "scheduler": self.scheduler, "trainer": self.engine}

    def run(self, epochs):
        self.engine.run([0], max_epochs=epochs)
        return self.rates


def saved(training):
    return copy.deepcopy({name: part.state_dict() for name, part in training.parts().items()})


def by_file(state):
    torch.save(state, "state.pt")
    return torch.load("state.pt", weights_only=False)


for kind in ("linear", "step", "plateau"):
    whole = Training(kind).run(EPOCHS)[STOP:]
    stopped = Training(kind)
    stopped.run(STOP)
    for name, way in (("in memory", lambda state: state), ("by a file", by_file)):
        for mend in (False, True) if kind == "plateau" else (False,):
            resumed = Training(kind)
            Checkpoint.load_objects(resumed.parts(), way(saved(stopped)))
            if mend:
                resumed.scheduler.scheduler._reduce_lr = resumed.scheduler._reduce_lr
            rest = resumed.run(EPOCHS)
            print(f"{kind}, {name}{', mended' if mend else ''}: {rest == whole}; {rest[0]:.3f} to {rest[-1]:.3f}, not stopped {whole[-1]:.3f}")
torch.save(saved(stopped), "state.pt")
try:
    Checkpoint.load_objects(Training("plateau").parts(), "state.pt")
except pickle.UnpicklingError:
    print("plateau, load_objects of a path: UnpicklingError")
PY
cat >"$work/known" <<'TXT'
linear, in memory: True; 0.388 to 0.073, not stopped 0.073
linear, by a file: True; 0.388 to 0.073, not stopped 0.073
step, in memory: True; 0.160 to 0.020, not stopped 0.020
step, by a file: True; 0.160 to 0.020, not stopped 0.020
plateau, in memory: False; 0.320 to 0.320, not stopped 0.020
plateau, in memory, mended: True; 0.160 to 0.020, not stopped 0.020
plateau, by a file: False; 0.320 to 0.320, not stopped 0.020
plateau, by a file, mended: True; 0.160 to 0.020, not stopped 0.020
plateau, load_objects of a path: UnpicklingError
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: True."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
