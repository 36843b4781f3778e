"""A job of a Slurm cluster: its end, cores, memory and GPUs. Any machine may be a node.

Variables: the manual page of sbatch. Slurm 22.05 gives no SLURM_JOB_END_TIME, so scontrol is asked there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from outlast.environment.base import Environment, Gpu

_TIMEOUT = 20.0  # seconds for an answer of scontrol
_FACTS = ("SLURM_JOB_ID", "SLURM_CLUSTER_NAME", "SLURM_JOB_PARTITION", "SLURM_RESTART_COUNT", "SLURM_JOB_NUM_NODES")


def detected(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs in a job: the variables of one of its steps or of its script.

    A shell of `salloc` on a login node has the job's number and none of its steps.
    """
    return bool(environ.get("SLURM_JOB_ID") and environ.get("SLURMD_NODENAME"))


def inside(found: Environment, environ: Mapping[str, str] = os.environ) -> Environment:
    """A machine with the limits of the job, of which this process may use no more."""
    limits, left = found.limits, [found.limits.seconds]
    if (end := ends(environ)) is not None:
        left.append(end - time.time())
    cores = _whole(environ, "SLURM_CPUS_ON_NODE") or limits.cores
    known = {name.removeprefix("SLURM_").lower(): environ[name] for name in _FACTS if environ.get(name)}
    return found._replace(
        name="slurm" if found.name == "local" else found.name,
        limits=limits._replace(
            seconds=min((seconds for seconds in left if seconds is not None), default=None),
            cores=min(limits.cores, cores),
            ram=min(limits.ram, _memory(environ, cores) or limits.ram),
            gpus=within(limits.gpus, environ),
        ),
        facts={**found.facts, **known, **({} if end is not None else {"end": "unknown"})},
    )


def ends(environ: Mapping[str, str] = os.environ) -> float | None:
    """The Unix time at which the job ends; None if it has no end, or it cannot be asked for."""
    if stated := _whole(environ, "SLURM_JOB_END_TIME"):
        return float(stated)
    program, job = shutil.which("scontrol", path=environ.get("PATH")), environ.get("SLURM_JOB_ID", "")
    if program is None or not re.fullmatch(r"[0-9]{1,12}", job):
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            [program, "show", "job", "-o", job],
            env={**environ, "SLURM_TIME_FORMAT": "%s"},  # seconds, in no time zone
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        ).stdout
        if found := re.search(r" EndTime=([1-9][0-9]{0,11}) ", told):
            return float(found[1])
    return None


def restarts(environ: Mapping[str, str] = os.environ) -> int:
    """How often Slurm has started the job again."""
    return _whole(environ, "SLURM_RESTART_COUNT") or 0


def nodes(environ: Mapping[str, str] = os.environ) -> int:
    """The number of nodes of the job."""
    return _whole(environ, "SLURM_JOB_NUM_NODES") or 1


def within(gpus: Sequence[Gpu], environ: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """The GPUs of the job among those of the node. Without cgroups, nvidia-smi lists all."""
    if "SLURM_JOB_ID" not in environ or (devices := environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return tuple(gpus)
    names = [name for name in devices.split(",") if name not in ("", "NoDevFiles", "-1")]
    return tuple(gpus[: len(names)])


def _memory(environ: Mapping[str, str], cores: int) -> int | None:
    """Bytes of memory of the job on this node; None if the job has the whole node."""
    if megabytes := _whole(environ, "SLURM_MEM_PER_NODE"):
        return megabytes * 2**20
    if megabytes := _whole(environ, "SLURM_MEM_PER_CPU"):
        return megabytes * 2**20 * cores
    return None


def _whole(environ: Mapping[str, str], name: str) -> int | None:
    """A whole number of a variable; None for anything else."""
    text = environ.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None
