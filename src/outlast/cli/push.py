"""outlast push RUN ADDRESS."""

from __future__ import annotations

import contextlib

from outlast.cli.named import run_of
from outlast.cli.parser import Parser, positive
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder.layout import RunFolder
from outlast.remote import carry
from outlast.remote.address import open_remote
from outlast.run.arguments import remote_address
from outlast.terminal import command, say


def parser(verb: str, description: str) -> Parser:
    """The parser of push and pull."""
    made = Parser(f"outlast {verb}", description)
    made.add_argument("run", help="the run's name" + (" or folder" if verb == "push" else ""))
    made.add_argument(
        "address",
        nargs="?",
        help="address of the remote, such as gs://bucket/prefix, or a folder (default: OUTLAST_REMOTE)",
    )
    made.add_runs_folder()
    return made


def address_of(given: str | None, verb: str) -> str:
    """The given address, or else that in OUTLAST_REMOTE."""
    found = remote_address(given)
    if found is None:
        raise UsageError(
            f"outlast {verb} needs the address of a remote, such as gs://bucket/prefix, or OUTLAST_REMOTE."
        )
    return found


def run(argv: list[str]) -> int:
    """Send a run's checkpoints, journal and records to a remote."""
    made = parser("push", "Send a run's checkpoints, journal and records to a remote; what is there is not sent again.")
    made.add_argument("--rate", type=positive, metavar="MB", help="maximum average rate, in MB/s")
    values = made.parse(argv)
    address = address_of(values.address, "push")
    place = run_of(values.run, values.checkpoint_dir)
    rate = values.rate and values.rate * 1e6
    count = 0
    with contextlib.closing(open_remote(address)) as remote:
        for sentence in carry.push(RunFolder(place), remote, rate=rate):
            say(sentence)
            count += 1
    if not count:
        say(f"{address} has all of {place.name} already.")
    say(f"Copy it to a machine with: {command('outlast', 'pull', place.name, address)}")
    return EXIT_FINISHED
