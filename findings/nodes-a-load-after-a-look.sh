#!/usr/bin/env bash
# torchdata 0.11.0, torchdata.nodes: a Loader that was asked for its state once ignores the state
# that it is given next, for a whole epoch.
#
# Guess:    load_state_dict decides where the next iteration begins, as its documentation says
#           ("used to initialize the next iter() requested from this loader").
# Happens:  after state_dict() on a new Loader, load_state_dict() has no effect on the next
#           iteration, which begins at the first sample. The iteration after that begins at the
#           loaded place, and so lacks the samples before it. Nothing is said. A Loader that was
#           iterated before, asked between a load and the next iteration, answers with the old
#           place, so that a checkpoint of that moment loses the place for good.
#           StatefulDataLoader does neither.
# Version:  torchdata 0.11.0, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11.
# Known:    no issue was found. The documentation of torchdata.nodes shows the load without a
#           question before it.
# Matters:  whoever looks at the state of new objects before a load: to know which keys to read, as
#           torch.distributed.checkpoint's in-place loads need it, or to compare. The resumed session
#           sees the first part of the epoch again, and the next epoch is cut.
# outlast:  looks at new objects, and made this mistake. It ends what the question began, and gives
#           the loaded state until a batch is taken: tests/data/test_nodes.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 torchdata==0.11.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import warnings

from torchdata.nodes import IterableWrapper, Loader
from torchdata.stateful_dataloader import StatefulDataLoader

warnings.filterwarnings("ignore")


def nodes():
    return Loader(IterableWrapper(range(8)))


def stateful():
    return StatefulDataLoader(list(range(8)), batch_size=None)


for make in (stateful, nodes):
    before = make()
    batches = iter(before)
    for _ in range(5):
        next(batches)
    state = before.state_dict()
    for look in (False, True):
        loader = make()
        if look:
            loader.state_dict()
        loader.load_state_dict(state)
        print(f"{make.__name__}, looked at {look}:", [int(item) for item in loader], [int(item) for item in loader])
    loader = make()
    loader.load_state_dict(state)
    print(f"{make.__name__}, asked after the load: as loaded", loader.state_dict() == state)
    loader = make()
    list(loader)
    loader.load_state_dict(state)
    print(f"{make.__name__}, asked after an epoch and the load: as loaded", loader.state_dict() == state)
PY
cat >"$work/known" <<'TXT'
stateful, looked at False: [5, 6, 7] [0, 1, 2, 3, 4, 5, 6, 7]
stateful, looked at True: [5, 6, 7] [0, 1, 2, 3, 4, 5, 6, 7]
stateful, asked after the load: as loaded True
stateful, asked after an epoch and the load: as loaded True
nodes, looked at False: [5, 6, 7] [0, 1, 2, 3, 4, 5, 6, 7]
nodes, looked at True: [0, 1, 2, 3, 4, 5, 6, 7] [5, 6, 7]
nodes, asked after the load: as loaded True
nodes, asked after an epoch and the load: as loaded False
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 5, 6, 7 and then a whole epoch, and the loaded state, in all rows."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
