"""outlast config RECIPE [flags]."""

from __future__ import annotations

from outlast.cli import flags, show
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.recipe import prepare, registry
from outlast.terminal import say_json


def run(argv: list[str]) -> int:
    """Print the resolved values with origins; with --json, the contents of config.json."""
    found, request, values = flags.read(
        "outlast config", "Print every value and where it came from.", argv, leave_out=("dry-run",)
    )
    if found is None:
        raise UsageError(f"outlast config needs a recipe: the recipes are: {', '.join(registry.names())}.")
    prepared = prepare.prepare(found, request)
    if values.json:
        say_json(prepared.resolved.record(), indent=1)
    else:
        show.prepared(prepared)
    return EXIT_FINISHED
