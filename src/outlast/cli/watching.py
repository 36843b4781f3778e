"""outlast status --watch: all runs of a folder, local and launched, again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from outlast.cli import show
from outlast.config.units import format_seconds
from outlast.errors import OutlastError
from outlast.folder.layout import RunFolder
from outlast.launch import providers
from outlast.launch.records import LaunchRecord, all_launches
from outlast.report.watch import Seen, Watch
from outlast.terminal import counted, measures, say, shortened, visible

LOCAL, PROVIDER = 2.0, 60.0
"""Seconds between two looks at the run folders, and between two questions to a provider."""

_ORDER = ("running", "interrupted", "pending", "failed", "cancelled", "finished")


class AllRuns:
    """The runs of a folder with their speed, and the launches that are open.

    Args:
        root: the folder of run folders.
        ask: seconds between two questions to a provider.
    """

    def __init__(self, root: Path, ask: float = PROVIDER) -> None:
        self.root, self._ask = root, ask
        self.watch = Watch(root)
        self._before: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}
        self._asked: dict[str, tuple[float, str]] = {}
        self.open: dict[str, tuple[LaunchRecord, str]] = {}

    def look(self) -> set[str]:
        """Look again; returns the names of the runs that changed."""
        changed, now = self.watch.look(), time.monotonic()
        for name, seen in self.watch.runs.items():
            if seen.is_running:
                at, step = self._before.setdefault(name, (now, seen.step))
                if seen.step != step:
                    self._rates[name] = max(0.0, (seen.step - step) / max(1e-9, now - at))
                    self._before[name] = now, seen.step
            else:
                self._before.pop(name, None)
                self._rates.pop(name, None)
        opened = dict(self._open_launches(now))
        changed |= {
            name for name in opened.keys() | self.open.keys() if _facts(opened, name) != _facts(self.open, name)
        }
        self.open = opened
        return changed

    @property
    def is_anything_running(self) -> bool:
        """Whether a run trains here, or a session is open elsewhere."""
        return bool(self.open) or any(seen.is_running for seen in self.watch.runs.values())

    def names(self) -> list[str]:
        """Those that are running first, then the ones that logged last."""

        def key(name: str) -> tuple[int, float, str]:
            seen = self.watch.runs.get(name)
            status = "running" if name in self.open or seen is None else seen.info.status
            logged = seen.logged if seen and seen.logged else 0.0
            return _ORDER.index(status) if status == "running" else 1, -logged, name

        return sorted(self.watch.runs.keys() | self.open.keys(), key=key)

    def row(self, name: str) -> list[Any]:
        """Run, status, where, step, of, steps per second, time to go, last metrics, time since they were logged."""
        seen, launched = self.watch.runs.get(name), self.open.get(name)
        status = show.word("running", launched[1]) if launched else show.word(seen.info.status if seen else "pending")
        where = launched[0].provider if launched else self._where(seen)
        if seen is None:
            return [name, status, where, "", "", "", "", "", ""]
        rate, total = self._rates.get(name), seen.info.total_steps
        left = format_seconds((total - seen.step) / rate) if rate and total and total > seen.step else ""
        age = format_seconds(max(0.0, time.time() - seen.logged)) if seen.logged and seen.is_running else ""
        metrics = dict(list(seen.metrics.items())[:4])
        speed = f"{rate:.3g}" if rate else ""
        return [name, status, where, str(seen.step), str(total or "?"), speed, left, measures(metrics), age]

    def _where(self, seen: Seen | None) -> str:
        attempts = seen.info.last_attempts(1) if seen else []
        return str(attempts[0].get("environment", {}).get("name", "")) if attempts else ""

    def _open_launches(self, now: float) -> Iterator[tuple[str, tuple[LaunchRecord, str]]]:
        """The runs with an open launch, and its state; a provider that cannot be reached is asked again later."""
        from outlast.launch.watch import state_of

        for path in sorted(self.root.glob("*/launches")):
            name = path.parent.name
            try:
                records = all_launches(RunFolder(path.parent))
            except OutlastError:
                continue
            if not records or not records[-1].is_open:
                continue
            asked, state = self._asked.get(name, (-self._ask, "launched"))
            if now - asked >= self._ask:
                try:
                    state = state_of(providers.of(records[-1], patience=5.0), records[-1])
                except OutlastError:
                    state = "not reached"
                self._asked[name] = time.monotonic(), state
            yield name, (records[-1], state)


def _facts(opened: Mapping[str, tuple[LaunchRecord, str]], name: str) -> tuple[int, str] | None:
    """Number and state of the open launch of a run."""
    return (opened[name][0].number, opened[name][1]) if name in opened else None


def watch_all(root: Path, interval: float | None) -> None:
    """Show all runs until Ctrl-C; without a terminal, print a line for each change until nothing is running."""
    runs = AllRuns(root, PROVIDER if interval is None else max(interval, LOCAL))
    pause = LOCAL if interval is None else interval
    console = show.console()
    try:
        if not console.is_terminal or console.is_dumb_terminal:
            _print_changes(runs, pause)
            return
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                runs.look()
                live.update(_screen(runs, console.height, console.width), refresh=True)
                time.sleep(pause)
    except KeyboardInterrupt:
        say("The display has stopped; runs and sessions continue.")


def _print_changes(runs: AllRuns, pause: float) -> None:
    while True:
        for name in [name for name in sorted(runs.look()) if name in runs.names()]:
            row = [str(cell) for cell in runs.row(name)]
            of = f" of {row[4]}" if row[4] not in ("", "?") else ""
            step = f", step {row[3]}{of}" if row[3] else ""
            say(f"{time.strftime('%H:%M:%S')} {row[0]} {row[1]}{f' on {row[2]}' if row[2] else ''}{step}")
        if not runs.is_anything_running:
            return
        time.sleep(pause)


def _screen(runs: AllRuns, height: int, width: int) -> Group:
    """The table, as many rows as the terminal has room for."""
    wide = width >= 110
    heads = ["run", "status", "where", "step", "of", "steps/s", "to go", "last metrics", "ago"]
    shown = heads if wide else [*heads[:2], "step", "of", "to go"]
    table = show.table(*shown, right=("step", "of", "steps/s", "to go", "ago"))
    names, room = runs.names(), max(1, height - 4)
    for name in names[:room]:
        row = dict(zip(heads, runs.row(name), strict=True))
        row["last metrics"] = shortened(row["last metrics"], max(20, width - 95))
        table.add_row(*(row[head] for head in shown))
    running = sum(seen.is_running for seen in runs.watch.runs.values())
    more = f" · {counted(len(names) - room, 'more run')}" if len(names) > room else ""
    if runs.watch.left_out:
        more += f" · {counted(len(runs.watch.left_out), 'run')} left out, see `outlast runs`"
    title = f"{counted(len(names), 'run')}, {running} running here, {len(runs.open)} launched{more} · {runs.root}"
    foot = f"{time.strftime('%H:%M:%S')} · Ctrl-C ends this display, not the runs"
    empty = [Text("There are no runs yet.")] if not names else []
    head = Text(visible(title), style="bold", no_wrap=True, overflow="ellipsis")
    return Group(head, table, *empty, Text(foot, style="bright_black"))
