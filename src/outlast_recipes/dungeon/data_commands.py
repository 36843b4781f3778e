"""The verbs of dungeon that concern its data."""

from __future__ import annotations

import outlast
from outlast_recipes.common.data_verbs import nothing
from outlast_recipes.dungeon import command_check, command_get

COMMANDS = (
    outlast.Command(
        "data get",
        "download the public corpus: levels and mission graphs of The Legend of Zelda",
        command_get.arguments,
        command_get.run,
        unit="bytes",
    ),
    outlast.Command(
        "data check",
        "count rooms, tiles and mission graphs; find what is wrong, and rooms that the parts share",
        command_check.arguments,
        command_check.run,
    ),
    nothing("data prepare", "dungeon prepares nothing: a training reads levels and mission graphs as they are."),
)
