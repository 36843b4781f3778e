"""outlast logs [RUN] [-f]."""

from __future__ import annotations

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED
from outlast.launch import providers
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Print what a launched attempt has printed so far; with -f until it ends."""
    parser = launched.parser("logs", "Print what the newest launched attempt of a run prints.")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it ends; Ctrl-C only stops looking")
    values = parser.parse(argv)
    record = launched.newest(values)
    from outlast.launch.watch import follow, state_of

    provider = providers.of(record)
    try:
        for line in follow(provider, record, until_over=values.follow):
            say(line)
    except KeyboardInterrupt:
        say(f"{record.name} goes on; this has only stopped looking.")
        return EXIT_FINISHED
    say(f"{record.name}: {state_of(provider, record)}")
    return EXIT_FINISHED
