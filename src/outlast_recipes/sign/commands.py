"""The verbs of sign."""

from __future__ import annotations

import outlast
from outlast_recipes.sign import command_evaluate

COMMANDS = (
    outlast.Command(
        "evaluate",
        "gloss, category, occluded clips, classes, confusion matrix, size and latency of a trained run",
        command_evaluate.arguments,
        command_evaluate.run,
    ),
)
