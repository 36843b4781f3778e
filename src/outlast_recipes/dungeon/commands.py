"""The verbs of dungeon."""

from __future__ import annotations

import outlast
from outlast_recipes.dungeon import command_generate, command_play

COMMANDS = (
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
