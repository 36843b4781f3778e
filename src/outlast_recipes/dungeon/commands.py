"""The verbs of dungeon."""

from __future__ import annotations

import outlast
from outlast_recipes.dungeon import command_evaluate, command_generate, command_play, data_commands

COMMANDS = (
    *data_commands.COMMANDS,
    outlast.Command(
        "evaluate",
        "validity, novelty and patterns of the rooms that a trained run draws",
        command_evaluate.arguments,
        command_evaluate.run,
    ),
    outlast.Command(
        "generate",
        "write a dungeon that can be finished: tiles, mission, map and the proof",
        command_generate.arguments,
        command_generate.run,
    ),
    outlast.Command(
        "play",
        "walk through a generated dungeon in the terminal",
        command_play.arguments,
        command_play.run,
    ),
)
