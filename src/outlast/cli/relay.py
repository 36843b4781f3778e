"""outlast relay RECIPE --on kaggle [flags]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast import recipe as recipes
from outlast.cli import flags
from outlast.cli.launch import MORE
from outlast.errors import EXIT_FINISHED, UsageError

_MORE: Mapping[str, Mapping[str, Any]] = {
    **MORE,
    "max-sessions": {
        "type": int,
        "metavar": "N",
        "help": "launch so many at most, then stop (default: as many as it takes)",
    },
    "ask-every": {
        "type": float,
        "default": 45.0,
        "metavar": "SECONDS",
        "help": "how often to ask how it goes (default: 45)",
    },
}


def run(argv: list[str]) -> int:
    """Launch sessions one after the other until the run is finished."""
    found, request, values = flags.read(
        "outlast relay", "Train on another machine until the run is finished.", argv, more=_MORE
    )
    if found is None or values.on is None:
        raise UsageError("outlast relay needs a recipe and a place, such as `outlast relay digits --on kaggle`.")
    if values.dry_run:
        raise UsageError("A relay has no dry run; `outlast launch` has: it writes what the first session would be.")
    from outlast.launch.kaggle import Kaggle, find_credential
    from outlast.launch.kaggle.relay import Pace, relay

    relay(
        Kaggle(find_credential()),
        lambda: recipes.prepare(found, request),
        accelerator=values.accelerator,
        internet=not values.no_internet,
        seconds=recipes.prepare(found, request).resolved.config.budget,
        max_sessions=values.max_sessions,
        tell=lambda sentence: print(sentence, flush=True),
        pace=Pace(values.ask_every),
    )
    return EXIT_FINISHED
