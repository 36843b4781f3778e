"""Shared code of the verbs for launched runs: finds the run and the launch, prints the launches of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outlast.cli import show
from outlast.cli.named import last_launched, launched_or_trained
from outlast.cli.parser import Parser
from outlast.config.units import format_seconds
from outlast.errors import OutlastError, UnknownName, UsageError
from outlast.folder.layout import RunFolder, runs_root
from outlast.launch import providers
from outlast.launch.records import LaunchRecord, all_launches, newest_begun
from outlast.launch.table import PROVIDERS
from outlast.terminal import command, say

SHOWN = 20
"""The newest attempts, launches and checkpoints that are printed."""


def parser(verb: str, description: str) -> Parser:
    """A parser for a verb about a launched run."""
    made = Parser(f"outlast {verb}", description)
    made.add_argument("run", nargs="?", help="the run's name (default: the last launched run)")
    made.add_runs_folder()
    return made


def newest(values: Any) -> LaunchRecord:
    """The newest launch of the run that was named, or of all runs.

    Raises:
        UnknownName: there is no such run, or it was never launched.
    """
    root = runs_root(values.checkpoint_dir)
    folder = RunFolder(launched_or_trained(values.run, values.checkpoint_dir)) if values.run else last_launched(root)
    found = all_launches(folder) if folder else []
    if not found:
        which = f"The run {folder.path.name!r} in {root}" if folder else f"No run in {root}"
        never = "was never launched elsewhere" if folder else "was launched elsewhere yet"
        start = command("outlast", "launch", "RECIPE", "--on", next(iter(PROVIDERS)))
        raise UnknownName(f"{which} {never}, so no session of it is known. `{start}` starts one.")
    return newest_begun(found) or found[-1]


def watch(folder: RunFolder, interval: float) -> None:
    """Print the state of the newest launch whenever it changes, until the session has ended."""
    records = all_launches(folder)
    if not records:
        raise UsageError(f"{folder.path.name} was never launched elsewhere, so there is nothing to watch.")
    from outlast.launch.watch import ALIVE, follow, state_of

    provider, said = providers.of(records[-1]), ""
    try:
        while True:
            lines = [line for line in follow(provider, records[-1], until_over=False) if line.strip()]
            state = state_of(provider, records[-1])
            words = f"{records[-1].name} is {state}" + (f": {lines[-1].strip()}" if lines else "")
            if words != said:
                said = words
                say(f"{time.strftime('%H:%M:%S')} {words}")
            if state not in ALIVE:
                return
            time.sleep(interval)
    except KeyboardInterrupt:
        say(f"{records[-1].name} continues; only this display has stopped.")


@dataclass(frozen=True)
class Launches:
    """The launches of a run elsewhere.

    Attributes:
        records: oldest first; there is at least one.
        state: state of the newest one. It is queried at the provider if the launch is open.
    """

    records: Sequence[LaunchRecord]
    state: str

    @classmethod
    def of(cls, folder: RunFolder) -> Launches | None:
        """The launches of a run; None if it has none."""
        records = all_launches(folder)
        if not records:
            return None
        state, newest = records[-1].record["state"], records[-1]
        if newest.is_open:
            from outlast.launch.watch import listen

            try:
                state = listen(providers.of(newest, patience=20.0), newest)
            except OutlastError as error:
                state = f"{state} (not known: {error})"
        return cls(records, state)

    @property
    def newest(self) -> LaunchRecord:
        """The newest launch."""
        return self.records[-1]

    @property
    def runs(self) -> bool:
        """Whether the newest one is running or queued."""
        from outlast.launch.watch import ALIVE

        return self.newest.is_open and self.state in ALIVE

    def print(self) -> None:
        """Print the table and the next command."""
        rows = show.table("launch", "on", "as", "with", "took", "state", "to step", right=("launch", "took", "to step"))
        for each in self.records[-SHOWN:]:
            record = each.record
            took = format_seconds(record["seconds"]) if "seconds" in record else ""
            state, step = (self.state if each is self.newest else record["state"]), str(record.get("step", ""))
            if state == "rejected":
                state, step = "not taken", f"({record.get('reached', '?')})"
            rows.add_row(str(each.number), each.provider, each.name, record["accelerator"], took, state, step)
        show.console().print(rows)
        if (more := len(self.records) - SHOWN) > 0:
            say(f"and {more} more before these; --json gives all of them")
        if self.runs:
            say(f"Next: {self.newest.command('logs', '-f')}", f"To end it: {self.newest.command('cancel')}")
        elif self.newest.is_open:
            say(f"Next: {self.newest.command('fetch')}")


def print_launches(folder: RunFolder) -> None:
    """Print the launches of a run, if it has any."""
    if launches := Launches.of(folder):
        launches.print()
