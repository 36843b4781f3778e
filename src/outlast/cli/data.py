"""outlast data prepare|check RECIPE."""

from __future__ import annotations

from outlast.cli import offered
from outlast.cli.parser import Parser

VERBS = ("prepare", "check")


def run(argv: list[str]) -> int:
    """Prepare or check a recipe's data."""
    if len(argv) > 1 and argv[0] in VERBS and not argv[1].startswith("-"):
        return offered.run(f"data {argv[0]}", argv[1:])
    parser = Parser(
        "outlast data",
        "Prepare or check a recipe's data. `outlast data prepare RECIPE --help` lists the arguments.",
    )
    parser.add_argument("what", choices=VERBS, help="prepare a data set from files, or count and verify one")
    parser.add_argument("recipe", help="name of a recipe; its own arguments follow")
    parser.parse(argv)
    return 0  # only reached by --help, which argparse ends itself
