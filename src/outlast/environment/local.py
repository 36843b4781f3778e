"""Any machine that is neither Kaggle nor Google Cloud.

The session has no stated end.
"""

from __future__ import annotations

import os
from pathlib import Path

from outlast.environment.base import Environment, machine_limits, present_secrets


def describe(root: Path = Path("/")) -> Environment:
    """Facts and limits of this machine."""
    return Environment(
        name="local",
        limits=machine_limits(root),
        facts={"system": f"{os.uname().sysname} {os.uname().release}"},
        secrets=present_secrets(),
    )
