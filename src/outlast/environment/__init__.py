"""Detects the environment and its limits. It reads facts only, and changes neither files nor `os.environ`."""

from __future__ import annotations

from pathlib import Path

from outlast.environment import gcp, kaggle, local
from outlast.environment.base import Environment, Gpu, Limits, stated, without_folder
from outlast.errors import UsageError

NAMES = ("local", "kaggle", "gcp")

__all__ = ["NAMES", "Environment", "Gpu", "Limits", "detect", "without_folder"]


def detect(name: str = "auto", *, root: Path = Path("/")) -> Environment:
    """Facts and limits of this machine.

    Args:
        name: "auto", or one of NAMES to take that platform's paths and preferences wherever this is. A forced platform
            still states the limits of the machine that it really runs on.
        root: where "/" is; another folder in tests.

    Two variables state what nothing can detect: OUTLAST_SESSION_ENDS, a Unix time in seconds at which the session ends
    (in a Slurm job, its SLURM_JOB_END_TIME), and OUTLAST_INPUTS, folders in which runs of earlier sessions are,
    separated as in PATH.

    Raises:
        UsageError: no such environment, or OUTLAST_SESSION_ENDS is no time.
    """
    if name not in ("auto", *NAMES):
        raise UsageError(f"There is no environment {name!r}; choose one of auto, {', '.join(NAMES)}.")
    if kaggle.detected(root):
        found = kaggle.describe(root)
    elif gcp.detected(root):
        found = gcp.describe(root)
    else:
        found = local.describe(root)
    found = stated(found)
    return found if name in ("auto", found.name) else found.named(name)
