"""A Colab runtime, of a notebook in the browser or of Google's command `colab`.

Numbers: research.google.com/colaboratory/faq as of 2026: at most 12 hours, less when others need the machine, and no
notice. A runtime whose kernel is idle ends earlier; nothing of it is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from outlast.environment.base import Environment, machine_limits, present_secrets
from outlast.environment.kaggle import session_age

HOURS = 12
_MARKS = ("COLAB_RELEASE_TAG", "COLAB_BACKEND_VERSION", "COLAB_JUPYTER_IP", "COLAB_GPU")


def detected(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a Colab runtime: its folder and one of its variables. One of them alone is not sufficient."""
    return (root / "content").is_dir() and any(name in environ for name in _MARKS)


def describe(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Environment:
    """Facts and limits of this runtime. If its session states its end (--lifetime), the usual 12 hours do not count."""
    age = session_age(root)
    seconds = None if environ.get("OUTLAST_SESSION_ENDS") else HOURS * 3600 - age
    secrets = [*present_secrets(environ)]
    return Environment(
        name="colab",
        limits=machine_limits(root, seconds=seconds),
        age=age,
        facts={
            "release": environ.get("COLAB_RELEASE_TAG", "unknown"),
            "drive": "mounted" if (root / "content/drive").is_dir() else "not mounted",
        },
        secrets=tuple(secrets),
        failure_seconds=6 * 3600.0,
        probe_host="colab.research.google.com",
    )
