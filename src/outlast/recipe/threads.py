"""What the libraries below a framework read once, when they are imported: how many threads compute, and how they wait.

Torch computes on a CPU with OpenMP's threads. It makes one for each core of the machine, also where a container may use
two of sixty-four. A thread that waits for the others keeps its core busy, for some milliseconds with libgomp. On cores
that other processes use too, that made steps forty times as long; some microseconds are enough where nobody else does
(docs/log.md).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from outlast.environment.base import affinity, cores

_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_WAIT = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def settle(environ: MutableMapping[str, str] = os.environ, root: Path = Path("/")) -> None:
    """Set the variables of OpenMP that the user has not set; to be called before a framework is imported.

    Args:
        environ: the environment variables, also those of processes that are started later.
        root: of the file system.
    """
    allowed = cores(root)
    if allowed < affinity() and not any(name in environ for name in _NUMBER):
        environ["OMP_NUM_THREADS"] = str(allowed)
    if not any(name in environ for name in _WAIT):
        environ["GOMP_SPINCOUNT"] = "2000"  # of libgomp, which torch has on Linux; then a thread that waits sleeps
