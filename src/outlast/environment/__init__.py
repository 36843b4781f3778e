"""Detects the environment and its limits. It changes neither files nor `os.environ`."""

from __future__ import annotations

from pathlib import Path

from outlast.environment import colab, gcp, kaggle, local, slurm
from outlast.environment.base import Environment, Gpu, Limits, clock, stated, without_folder
from outlast.errors import UsageError

NAMES = ("local", "kaggle", "gcp", "slurm", "colab")

__all__ = ["NAMES", "Environment", "Gpu", "Limits", "detect", "without_folder"]


def detect(name: str = "auto", *, root: Path = Path("/")) -> Environment:
    """Facts and limits of this machine.

    Args:
        name: "auto", or one of NAMES, which forces the paths and preferences of that platform. The limits are always
            those of the real machine.
        root: the root folder; tests give another one than "/".

    Two variables give facts that cannot be detected: OUTLAST_SESSION_ENDS is the Unix time in seconds at which the
    session ends. OUTLAST_INPUTS names folders with runs of earlier sessions,
    separated as in PATH.

    Raises:
        UsageError: the environment is unknown, or OUTLAST_SESSION_ENDS is not a time.
    """
    if name not in ("auto", *NAMES):
        raise UsageError(f"There is no environment {name!r}; choose one of auto, {', '.join(NAMES)}.")
    at = clock()
    if kaggle.detected(root):
        found = kaggle.describe(root)
    elif colab.detected(root):
        found = colab.describe(root)
    elif gcp.detected(root):
        found = gcp.describe(root)
    else:
        found = local.describe(root)
    if slurm.detected():
        found = slurm.inside(found)
    found = stated(found)._replace(detected=at)
    return found if name in ("auto", found.name) else found.named(name)
