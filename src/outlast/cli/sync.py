"""outlast sync RUN --to TRACKER."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from outlast.cli.named import runs_of
from outlast.cli.parser import Parser
from outlast.errors import EXIT_FINISHED, OutlastError, TrackerFailed, UsageError
from outlast.folder.layout import RunFolder
from outlast.terminal import command, counted, say, words_of
from outlast.tracking.sinks.client import TRACKERS, client_of
from outlast.tracking.sinks.feed import Feed


def run(argv: list[str]) -> int:
    """Send a run's metrics, pictures and config to trackers, from where it was left."""
    parser = Parser(
        "outlast sync",
        "Send a run's metrics, pictures and config to a tracker. Only what it lacks is sent, so the command can be "
        "repeated.",
    )
    parser.add_argument("run", metavar="RUN", help="a run's name or folder")
    parser.add_argument("--to", required=True, metavar="TRACKER", help=f"{', '.join(TRACKERS)}; several with commas")
    parser.add_argument(
        "--folder", metavar="PATH", help="tensorboard: parent of the run's event files (default: in the run folder)"
    )
    parser.add_runs_folder()
    values = parser.parse(argv)
    names = [name.strip() for name in values.to.split(",")]
    if wrong := next((name for name in names if name not in TRACKERS), None):
        raise UsageError(f"--to is {wrong!r}; expected one of {', '.join(TRACKERS)}.")
    for folder in runs_of(values.run, values.checkpoint_dir):
        for name in names:
            options: dict[str, Any] = {"folder": str(Path(values.folder).absolute())} if values.folder else {}
            _send(RunFolder(folder), name, options if name == "tensorboard" else {})
    return EXIT_FINISHED


def _send(folder: RunFolder, name: str, options: dict[str, Any]) -> None:
    """Send one run to one tracker.

    Raises:
        UsageError: the tracker's library is not installed, or another process sends this run.
        TrackerFailed: the tracker does not take it.
    """
    client = client_of(name, options)
    feed = Feed(folder, name, client)
    run, title = folder.path.name, TRACKERS[name]
    if not feed.take():
        raise UsageError(
            f"{run} is being sent to {title} by another process: the one that trains it, or another `outlast sync`. "
            "Nothing is left to do here while it runs."
        )
    try:
        with contextlib.closing(feed):
            feed.begin()
            feed.catch_up()
            feed.end()
            feed.keep()
    except OutlastError:
        raise
    except Exception as error:  # whatever a tracker's library raises
        place = ("--folder", options["folder"]) if options else ()
        again = command("outlast", "sync", str(folder.path), "--to", name, *place)
        raise TrackerFailed(
            f"{title} failed ({words_of(error)}) after {counted(feed.lines, 'line')} of {run}. Nothing is lost: "
            f"`{again}` continues after them."
        ) from error
    pictures = f" and {counted(feed.pictures, 'picture')}" if feed.pictures else ""
    sent = f"{counted(feed.lines, 'line')}{pictures}"
    say(f"{run}: sent {sent} to {title}" if feed.lines or feed.pictures else f"{run}: {title} has all of it already")
    if feed.waiting:
        say(f"{run}: steps after the last checkpoint may be repeated; they are sent after the next one")
    for sentence in client.notes:
        say(f"{title}: {sentence}")
