"""Recipes in miniature, in this process, stoppable after any step; the starter by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.environment import Environment, Limits
from outlast.errors import SessionEnded
from outlast.folder.hashing import digest
from outlast.folder.layout import RunFolder
from outlast.recipe.prepare import Request, prepare, start
from outlast.recipe.registry import find
from outlast.run.run import Run
from outlast.tracking import Sink

SMALL = {
    "data.samples": "256",
    "model.width": "4",
    "epochs": "3",
    "log_every": "1",
    "save_every": "never",
    "keep_best": "0",
}
"""12 steps of 4 batches an epoch."""


class StopAfter(Sink):
    """Asks for a stop while a step runs, as a signal would."""

    def __init__(self, step: int, reason: str = "preempted") -> None:
        self.step, self.reason, self.run = step, reason, None

    def logged(self, record) -> None:
        if record["step"] == self.step and self.run is not None:
            self.run.session.request_stop(self.reason, "a test asks")


def train(
    root: Path, *, recipe: str = "digits", small: Mapping[str, str] = SMALL, stop_after: int | None = None, **flags: Any
) -> str:
    """Train until finished or stopped; returns "finished" or the reason of the stop."""
    import outlast.recipe.prepare as recipes

    given = {
        **small,
        **{name.replace("__", "."): str(value) for name, value in flags.items()},
        "checkpoint_dir": str(root),
    }
    given = {name: {"True": True, "False": False}.get(value, value) for name, value in given.items()}
    prepared = prepare(find(recipe), Request(flags=given))
    stopper = StopAfter(stop_after or -1)
    original = recipes.open_run

    def opened(*words: Any, **more: Any) -> Run:
        stopper.run = original(*words, **more)
        return stopper.run

    recipes.open_run = opened
    try:
        start(prepared, progress="none", sinks=[stopper])
    except SessionEnded as ended:
        return ended.reason
    finally:
        recipes.open_run = original
    return "finished"


def final(root: Path, name: str = "digits") -> dict[str, str]:
    """Hashes of the newest checkpoint's files and of the journal."""
    place = RunFolder(root / name)
    newest = max(place.checkpoints.glob("step-*"))
    paths = [path for path in sorted(newest.iterdir()) if path.name != "MANIFEST.json"]
    return {path.name: digest(path.read_bytes()) for path in [*paths, place.journal]} | {"step": newest.name}


HERE = Environment("local", Limits(seconds=None, ram=2**34, cores=2))
