#!/usr/bin/env bash
# torch_geometric 2.8.1: eval() on a TGNMemory that was just loaded changes all memories and sets the time
# of every node to 0; and the newest messages are in no state.
#
# Guess:    memory and last_update are buffers, and load_state_dict matches all keys; a loaded model says of
#           each node what the trained one says.
# Happens:  new messages of a node are kept in dictionaries until its next event. The first eval() writes
#           them into the memory: it runs the GRU for every node, and takes the time of the newest message. On
#           a model that was built, loaded and set to eval(), which is the order of every tutorial, there are no
#           messages: the GRU runs over nothing, so all memories move, and all times are 0. That the saved
#           model was in eval() does not help. A model that is saved while it trains loses the messages as
#           well, and goes on with other memories. With eval() before the load, for a model that was saved
#           in eval(), all is exact.
# Version:  torch_geometric 2.8.1, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11.
# Known:    no issue and no document was found; the example trains and tests in one process.
# Matters:  the memory is what the model has learned of the nodes. Evaluation in a later session is of
#           another model, with a strict load that is content. For a resume within an epoch keep
#           msg_s_store and msg_d_store beside the state, and give them back.
# outlast:  does not see it, as the buffers are equal; offer the two dictionaries, and evaluate a model that was
#           set to eval() before it was tracked.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch_geometric==2.8.1 torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import copy

import torch
from torch_geometric.nn import TGNMemory
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator

NODES = torch.arange(6)
draws = torch.Generator().manual_seed(1)
EVENTS = [
    (
        torch.randint(0, 3, (4,), generator=draws),
        torch.randint(3, 6, (4,), generator=draws),
        torch.arange(4) + 4 * step,
        torch.randn(4, 3, generator=draws),
    )
    for step in range(6)
]


def build():
    torch.manual_seed(0)
    return TGNMemory(6, 3, 4, 2, message_module=IdentityMessage(3, 4, 2), aggregator_module=LastAggregator())


def live(model, events):
    """What the model says of the nodes of each batch, which then becomes known to it."""
    said = []
    for source, target, times, message in events:
        said.append(model(torch.cat([source, target]).unique())[0].detach().clone())
        model.update_state(source, target, times, message)
        model.detach()
    return said


def compare(name, model, loaded):
    (memory, times), (other, its_times) = model(NODES), loaded(NODES)
    far = (memory - other).abs().max().item()
    print(f"{name}: memories differ by {far:.2f}; times {times.tolist()} and {its_times.tolist()}")


trained = build()
live(trained, EVENTS)
training = copy.deepcopy(trained)
trained.eval()
print("all keys matched:", build().load_state_dict(trained.state_dict()))

loaded = build()
loaded.load_state_dict(trained.state_dict())
loaded.eval()
compare("saved in eval; built, loaded, eval()", trained, loaded)
loaded = build()
loaded.eval()
loaded.load_state_dict(trained.state_dict())
compare("saved in eval; built, eval(), loaded", trained, loaded)
loaded = build()
loaded.load_state_dict(training.state_dict())
loaded.eval()
compare("saved while training; built, loaded, eval()", trained, loaded)

whole = live(build(), EVENTS)[3:]
stopped = build()
live(stopped, EVENTS[:3])
for keep in (False, True):
    resumed = build()
    resumed.load_state_dict(stopped.state_dict())
    if keep:
        resumed.msg_s_store, resumed.msg_d_store = dict(stopped.msg_s_store), dict(stopped.msg_d_store)
    far = [f"{(a - b).abs().max():.2f}" for a, b in zip(whole, live(resumed, EVENTS[3:]), strict=True)]
    print(f"resumed after batch 3, messages kept: {keep}; the memories of batches 4 to 6 differ by", *far)
PY
cat >"$work/known" <<'TXT'
all keys matched: <All keys matched successfully>
saved in eval; built, loaded, eval(): memories differ by 0.67; times [23, 20, 22, 22, 21, 23] and [0, 0, 0, 0, 0, 0]
saved in eval; built, eval(), loaded: memories differ by 0.00; times [23, 20, 22, 22, 21, 23] and [23, 20, 22, 22, 21, 23]
saved while training; built, loaded, eval(): memories differ by 0.91; times [23, 20, 22, 22, 21, 23] and [0, 0, 0, 0, 0, 0]
resumed after batch 3, messages kept: False; the memories of batches 4 to 6 differ by 0.80 0.52 0.47
resumed after batch 3, messages kept: True; the memories of batches 4 to 6 differ by 0.00 0.00 0.00
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the loaded memory is the one that was saved."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
