"""A Kaggle session, interactive or pushed.

Numbers: kaggle.com/docs/notebooks as of 2026 (12 h CPU and GPU, 9 h TPU, 20 GB kept of /kaggle/working). Cores and
memory are measured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from outlast.environment.base import Environment, machine_limits, present_secrets

HOURS = 12
HOURS_TPU = 9
KEPT = 20 * 10**9
"""Bytes of /kaggle/working that a session keeps."""


def _root(root: Path, environ: Mapping[str, str]) -> Path:
    """The root of the session's files: that of the machine, or the folder that a stand-in states."""
    return Path(environ.get("OUTLAST_KAGGLE_ROOT") or root)


def _place(root: Path, environ: Mapping[str, str]) -> Path:
    """The folder that contains kaggle/working and kaggle/input."""
    return _root(root, environ) / "kaggle"


def detected(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a Kaggle session: its working folder and one of its variables.

    One of them alone is not sufficient.
    """
    marks = ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_URL_BASE", "KAGGLE_CONTAINER_NAME", "KAGGLE_DATA_PROXY_URL")
    return (_place(root, environ) / "working").is_dir() and any(environ.get(name) for name in marks)


def describe(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Environment:
    """Facts and limits of this session.

    KAGGLE_* variables may hold tokens, so only values known to be harmless are included.
    """
    age = session_age(_root(root, environ))
    tpu = bool(environ.get("TPU_ACCELERATOR_TYPE") or environ.get("ISTPUVM"))
    limits = machine_limits(root, seconds=(HOURS_TPU if tpu else HOURS) * 3600 - age, disk=KEPT)
    secrets = [*present_secrets(environ)]
    if environ.get("KAGGLE_USER_SECRETS_TOKEN"):
        secrets.append("Kaggle secrets (UserSecretsClient)")
    return Environment(
        name="kaggle",
        limits=limits,
        quota="TPU" if tpu else "GPU" if limits.gpus else None,
        age=age,
        facts={
            "kernel": environ.get("KAGGLE_KERNEL_RUN_TYPE", "unknown"),
            "image": environ.get("KAGGLE_DOCKER_IMAGE", "unknown"),
        },
        secrets=tuple(secrets),
        inputs=(_place(root, environ) / "input",),
        failure_seconds=86400.0,
        reserve=reserve,
        probe_host="www.kaggle.com",
    )


def reserve(output_bytes: int) -> float:
    """Seconds to leave before the limit, because Kaggle stores the outputs in them: about 110 s per GB."""
    return max(15 * 60, 3 * 60 + 2 * 60 * output_bytes / 10**9)


def session_age(root: Path = Path("/")) -> float:
    """Seconds since the session began: the age of the container's first process; 0 if it cannot be read."""
    try:
        # The second field, the name in brackets, may hold spaces; the start time is the 20th after it (proc(5)).
        ticks = int((root / "proc/1/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float((root / "proc/uptime").read_text().split()[0])
        return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
