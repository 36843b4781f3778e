"""The verbs of yolo."""

from __future__ import annotations

import outlast
from outlast_recipes.yolo import check

COMMANDS = (
    outlast.Command(
        "data check",
        "check images and labels: damaged, out of range, out of order, in two splits; class balance",
        check.arguments,
        check.run,
    ),
)
