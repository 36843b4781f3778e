"""`python -m outlast.launch.slurm.node FOLDER PORT`: the training on one node of several. srun starts it once on each.

It starts torchrun with a rank for each GPU of the job on this node, or with one. Node 0 of the job, on which its script
runs, has rank 0, so that the keeper sees at once what rank 0 has written.

A request to stop goes to the ranks, and not to torchrun, which would end with an error and would kill them after 30 s.
The keeper's own request is a file, which node 0 sees at once because the keeper is there too; the ranks of the other
nodes agree with its ranks. Slurm sends a signal to all processes of all nodes, torchrun included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.environment import slurm
from outlast.environment.base import gpus
from outlast.folder import plain
from outlast.launch.keeper import STOP, training_command
from outlast.launch.process import children

_LOOK = 0.1  # seconds between two checks
_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


def on_all(nodes: int, folder: Path, port: int) -> Sequence[str]:
    """The command of a job's script that starts this program on all its nodes.

    Args:
        nodes: their number.
        folder: the session's folder.
        port: a port of the first node, on which the ranks meet.
    """
    return [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        "--export=ALL",  # also in a job of `sbatch --export=NONE`
        "--mpi=none",
        "--cpu-bind=none",
        "--kill-on-bad-exit=1",  # one that fails ends the others
        *[sys.executable, "-P", "-m", "outlast.launch.slurm.node", str(folder), str(port)],
    ]


def free_port() -> int:
    """A port of this machine that no program uses."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def meeting(port: int, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Flags of torchrun by which the nodes of a job meet.

    The address is that from which srun spoke to this node. A node's name need not have an address.
    """
    return [
        f"--nnodes={slurm.nodes(environ)}",
        f"--node-rank={environ['SLURM_NODEID']}",
        f"--master-addr={environ['SLURM_LAUNCH_NODE_IPADDR']}",
        f"--master-port={port}",
    ]


def main(folder: Path, port: int) -> int:
    """Train on this node; returns the exit code of torchrun."""
    first, asked = os.environ["SLURM_NODEID"] == "0", list[int]()
    command = training_command(folder, max(1, len(slurm.within(gpus()))), meeting(port))
    for number in _WARNINGS:
        signal.signal(number, signal.SIG_IGN)  # inherited: they would kill torchrun
    training = subprocess.Popen(command, process_group=0)
    for number in (signal.SIGTERM, *_WARNINGS):
        signal.signal(number, lambda number, _: asked.append(number))
    told: set[int] = set()
    while training.poll() is None:
        if asked or (first and plain.kind_of(folder / STOP)):
            for rank in set(children(training.pid)) - told:
                told.add(rank)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank, signal.SIGTERM)
        time.sleep(_LOOK)
    if asked and not first:
        return 0  # torchrun fails at SIGTERM; what counts is what rank 0 says
    return training.returncode if training.returncode >= 0 else 128 - training.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
