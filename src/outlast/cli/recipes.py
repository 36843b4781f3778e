"""outlast recipes."""

from __future__ import annotations

from outlast.cli import show
from outlast.cli.parser import Parser
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.recipe import registry
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """List the installed recipes with their resume grades and verbs."""
    Parser("outlast recipes", "List recipes.").parse(argv)
    rows = show.table("recipe", "resume", "")
    offers = []
    for name in registry.names():
        try:
            found = registry.loaded(registry.find(name))
        except UsageError as error:
            rows.add_row(name, "-", str(error))
            continue
        rows.add_row(found.name, found.grade, found.summary)
        offers += [f"  outlast {command.name} {name}: {command.summary}" for command in found.commands]
    show.console().print(rows)
    say(*(["", "Besides training:", *offers] if offers else [""]))
    say("", "Train one with `outlast train NAME`; make one your own with `outlast copy NAME FOLDER`.")
    return EXIT_FINISHED
