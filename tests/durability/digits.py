"""Recipes in miniature, in this process, stoppable after any step; the starter by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from outlast.cli.stages import chosen
from outlast.environment import Environment, Limits
from outlast.errors import SessionEnded
from outlast.folder.hashing import digest
from outlast.folder.layout import RunFolder
from outlast.recipe.prepare import Request, prepare, start
from outlast.recipe.registry import find
from outlast.run.run import Run

SMALL = {
    "data.samples": "256",
    "model.width": "4",
    "epochs": "3",
    "log_every": "1",
    "save_every": "never",
    "keep_best": "0",
}
"""12 steps of 4 batches an epoch."""


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
    found = find(recipe)
    prepared = prepare(found, chosen(found, Request(flags=given)))
    original = recipes.open_run

    def opened(*words: Any, **more: Any) -> Run:
        run = original(*words, **more)
        for name in ("log", "offer"):
            setattr(run, name, _then_stop(run, getattr(run, name), stop_after))
        return run

    recipes.open_run = opened
    try:
        start(prepared, progress="none")
    except SessionEnded as ended:
        return ended.reason
    finally:
        recipes.open_run = original
    return "finished"


def _then_stop(run: Run, logs: Callable[..., Any], step: int | None) -> Callable[..., Any]:
    """What logs metrics, and asks for a stop in the middle of a step, as a signal would."""

    def logged(*words: Any, **metrics: Any) -> None:
        logs(*words, **metrics)
        if run.step == step:
            run.session.request_stop("preempted", "a test asks")

    return logged


def final(root: Path, name: str = "digits") -> dict[str, str]:
    """Hashes of the newest checkpoint's files and of the journal."""
    place = RunFolder(root / name)
    newest = max(place.checkpoints.glob("step-*"))
    paths = [path for path in sorted(newest.iterdir()) if path.name != "MANIFEST.json"]
    return {path.name: digest(path.read_bytes()) for path in [*paths, place.journal]} | {"step": newest.name}


HERE = Environment("local", Limits(seconds=None, ram=2**34, cores=2))
