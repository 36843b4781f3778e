"""outlast PROVIDER VERB: the verbs of a provider, such as its setup."""

from __future__ import annotations

import functools

from outlast.cli import show
from outlast.cli.parser import Parser
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.launch import providers
from outlast.launch.verbs import Json, Rows
from outlast.terminal import say, say_json, visible


def run(provider: str, argv: list[str]) -> int:
    """Run the verb and print its lines."""
    verbs = {verb.name: verb for verb in providers.verbs(provider)}
    if not argv or argv[0] in ("-h", "--help"):
        for head, verb in zip(["usage:", *[""] * len(verbs)], verbs.values(), strict=False):
            say(f"{head:<6} outlast {provider} {verb.name} {verb.usage}")
        width = max(map(len, verbs))
        say("", *(f"{verb.name:<{width}}  {verb.summary}" for verb in verbs.values()))
        return EXIT_FINISHED if argv else 2
    if argv[0] not in verbs:
        *first, last = verbs
        raise UsageError(f"outlast {provider} takes {', '.join(first)} or {last}, and not {argv[0]!r}.")
    verb = verbs[argv[0]]
    parser = Parser(f"outlast {provider} {verb.name}", f"{verb.summary[0].upper()}{verb.summary[1:]}.")
    verb.arguments(parser)
    for each in verb.run(parser.parse(argv[1:]), functools.partial(say, error=True)):
        if isinstance(each, Json):
            say_json(each.value, indent=1)
        elif isinstance(each, Rows):
            table = show.table(*each.columns)
            for cells in each.cells:
                table.add_row(*cells)
            show.console().print(table)
        elif each.startswith("warning: "):
            show.console().print(visible(each), style="red", soft_wrap=True)
        else:
            say(each)
    return EXIT_FINISHED
