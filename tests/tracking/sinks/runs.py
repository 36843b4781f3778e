"""Runs for the tests of trackers: they count, are left in the middle, and may log other values in each attempt."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from tests.counting import Counter

from outlast.folder.layout import RunFolder
from outlast.tracking.sinks.feed import Feed


class Left(Exception):
    """An attempt ends in the middle."""


def train(
    opened, total: int, *, leave_at: int | None = None, add: float = 0.0, seldom: int = 4, **options: Any
) -> None:
    """Log `value` at each step and `seldom` at some; `add` makes an attempt's values differ from those of another.

    Saves every 3 steps.
    """
    options = {"save": "3 steps", "background": False, **options}
    with contextlib.suppress(Left), opened(total_steps=total, **options) as run:
        run.track(counter=(counter := Counter()))
        for step in run.steps():
            counter.value = step
            run.log(value=step + add)
            if step % seldom == 0:
                run.log(seldom=step * 10 + add)
            if step == leave_at:
                raise Left


def kill(root: Path, name: str = "r") -> None:
    """Take the end out of the newest record, as if the attempt had been killed."""
    path = max((root / name / "attempts").glob("*[0-9].json"))
    record = json.loads(path.read_text())
    record.pop("end", None)
    path.write_text(json.dumps(record))


def points(root: Path, name: str = "r") -> dict[str, list[tuple[int, float]]]:
    """The journal's: metric -> step and value."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (root / name / "journal.jsonl").read_text().splitlines():
        record = json.loads(line)
        for key, value in record.items():
            if key not in ("step", "epoch"):
                found.setdefault(key, []).append((record["step"], value))
    return found


def send(root: Path, client: Any, tracker: str, name: str = "r", *, keep: bool = True) -> Feed:
    """Send what a tracker lacks; with `keep=False` the process that sends is killed before it remembers that it did."""
    feed = Feed(RunFolder(root / name), tracker, client)
    assert feed.take()
    feed.begin()
    feed.catch_up()
    if keep:
        feed.end()
        feed.keep()
    feed.close()
    return feed
