"""outlast logs [RUN] [-f]."""

from __future__ import annotations

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED
from outlast.launch import providers
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Print the log of a launched attempt; with -f until it ends."""
    parser = launched.parser("logs", "Print the log of the newest launched attempt of a run.")
    parser.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="follow the log until the session ends; Ctrl-C does not stop the session",
    )
    values = parser.parse(argv)
    record = launched.newest(values)
    from outlast.launch.watch import follow, state_of

    provider = providers.of(record)
    try:
        for line in follow(provider, record, until_over=values.follow):
            say(line)
    except KeyboardInterrupt:
        say(f"{record.name} continues; only this display has stopped.")
        return EXIT_FINISHED
    say(f"{record.name}: {state_of(provider, record)}")
    return EXIT_FINISHED
