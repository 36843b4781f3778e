"""outlast data get|check|prepare RECIPE."""

from __future__ import annotations

from outlast.cli import offered
from outlast.cli.parser import Parser
from outlast.errors import UsageError
from outlast.recipe.registry import find, loaded

VERBS = ("get", "check", "prepare")


def run(argv: list[str]) -> int:
    """Get, check or prepare a recipe's data."""
    if len(argv) > 1 and argv[0] in VERBS and not argv[1].startswith("-"):
        _check_offered(argv[0], argv[1])
        return offered.run(f"data {argv[0]}", argv[1:])
    parser = Parser(
        "outlast data",
        "Get, check or prepare a recipe's data. `outlast data get RECIPE --help` lists the arguments.",
    )
    parser.add_argument(
        "what", choices=VERBS, help="download the data; find what is wrong with them; or make files that train faster"
    )
    parser.add_argument("recipe", help="name of a recipe; its own arguments follow")
    parser.parse(argv)
    return 0  # only reached by --help, which argparse ends itself


def _check_offered(verb: str, name: str) -> None:
    """Raise UsageError if the recipe does not have this verb."""
    own = [command.name for command in loaded(find(name)).commands]
    if f"data {verb}" in own:
        return
    others = [each for each in own if each.startswith("data ")]
    raise UsageError(
        f"The recipe {name!r} has no `data {verb}`; it has {', '.join(others) or 'no verbs about data'}. A recipe "
        'offers one as outlast.Command("data ' + verb + '", ...) in `commands`.'
    )
