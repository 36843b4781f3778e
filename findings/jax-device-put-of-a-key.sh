#!/usr/bin/env bash
# jax 0.10.2: device_put places numbers, and the data of a PRNG key, over two processes, and refuses
# the key itself.
#
# Guess:    a typed key (`jax.random.key`) can be placed wherever an array can: the same sharding, and
#           the same value on every process.
# Happens:  with two processes, `jax.device_put(x, sharding)` of a replicated sharding over both works
#           for a NumPy array, for a jax.Array of numbers and for `jax.random.key_data(key)`. For the
#           key it raises ValueError: it may only be placed on addressable devices. On one process the
#           same line works. Ways that work on two: `jax.jit(lambda: key, out_shardings=sharding)()`,
#           or `wrap_key_data` of the placed data.
# Version:  jax 0.10.2, jaxlib 0.10.2, numpy 2.4.6, Python 3.11.
# Known:    JAX documents device_put of a value to a sharding of several processes; no issue about keys
#           was found.
# Matters:  a training state whose keys are typed is placed leaf by leaf after a restore. That line is
#           tried on one process, and fails when a second machine joins.
# outlast:  places keys over several processes by their data (state/jax.py):
#           tests/durability/test_jax_processes.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 JAX_PLATFORMS=cpu
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

count, number, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if count > 1:
    jax.distributed.initialize(address, num_processes=count, process_id=number, initialization_timeout=60)
mesh = jax.make_mesh((len(jax.devices()),), ("all",))
everywhere = NamedSharding(mesh, PartitionSpec())
key = jax.random.key(3)


def placed():
    return jax.device_put(key, everywhere)


def wrapped():
    return jax.random.wrap_key_data(jax.device_put(jax.random.key_data(key), everywhere))


WAYS = {
    "NumPy array": lambda: jax.device_put(np.arange(4.0), everywhere),
    "jax.Array": lambda: jax.device_put(jax.numpy.arange(4.0), everywhere),
    "data of a key": lambda: jax.device_put(jax.random.key_data(key), everywhere),
    "key": placed,
    "key, by jit": lambda: jax.jit(lambda: key, out_shardings=everywhere)(),
    "key, wrapped": wrapped,
}
for name, way in WAYS.items():
    try:
        found = f"over {len(way().sharding.device_set)} devices"
    except ValueError as error:
        found = f"ValueError, which names addressable devices: {'addressable' in str(error)}"
    if number == 0:
        print(f"processes {count}: {name}: {found}")
PY
cat >"$work/known" <<'TXT'
processes 1: NumPy array: over 1 devices
processes 1: jax.Array: over 1 devices
processes 1: data of a key: over 1 devices
processes 1: key: over 1 devices
processes 1: key, by jit: over 1 devices
processes 1: key, wrapped: over 1 devices
processes 2: NumPy array: over 2 devices
processes 2: jax.Array: over 2 devices
processes 2: data of a key: over 2 devices
processes 2: key: ValueError, which names addressable devices: True
processes 2: key, by jit: over 2 devices
processes 2: key, wrapped: over 2 devices
TXT

address=127.0.0.1:$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$work"
"$python" case.py 1 0 "$address" 2>"$work/errors" >"$work/seen" || { cat "$work/errors"; exit 2; }
timeout 120 "$python" case.py 2 1 "$address" 2>"$work/errors1" >/dev/null &
timeout 120 "$python" case.py 2 0 "$address" 2>"$work/errors" >>"$work/seen" || { cat "$work/errors"; exit 2; }
wait $! || { cat "$work/errors1"; exit 2; }
sed -i '/^\[Gloo\]/d' seen  # how many processes it has connected
echo "Expected: what can be placed over two processes does not depend on whether it is a key."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
