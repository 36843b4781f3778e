"""What a user means: the folder of a run, its recipe, a step and a part of it."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.checkpoint import CheckpointStore, Retention, open_checkpoint
from outlast.checkpoint.best import best_of, measure_of
from outlast.config.words import nearest
from outlast.errors import CorruptCheckpoint, UnknownName, UsageError
from outlast.folder.layout import RunFolder
from outlast.recipe.recipe import Recipe
from outlast.recipe.registry import stored
from outlast.report import read_run
from outlast.terminal import shortened

_SHOWN = 20  # names in a sentence


def recipe_of(place: RunFolder, otherwise: str = "") -> Recipe:
    """The recipe of a run, when it is an installed one, or a file that the user has named; see `registry.stored`.

    Raises:
        UsageError: it is another file, or the run was begun by a script.
    """
    name = read_run(place.path).about.get("recipe")
    if name is None:
        raise UsageError(f"{place.path} is the run of a script, so it has no recipe and no config.")
    return as_stage(stored(name, place.run, otherwise), place)


def as_stage(recipe: Recipe, place: RunFolder) -> Recipe:
    """The recipe of a chain as that of the stage that a run is of; any other recipe as it is.

    Raises:
        UnknownName: the run is of a stage that the recipe has not.
    """
    chain = read_run(place.path).about.get("chain")
    return recipe.of_stage(chain["stage"]) if recipe.stages and chain and recipe.stage is None else recipe


def folder_of(run: str | Path, root: Path = Path("runs")) -> Path:
    """The folder of a run, by path or by name.

    Raises:
        UnknownName: there is none.
    """
    path = Path(run)
    for place in (path, root / path):
        try:
            if (place / "run.json").is_file():
                return place
        except (OSError, ValueError):  # a name that no file can have
            continue
    try:
        there = sorted(found.parent.name for found in root.glob("*/run.json"))
    except OSError as error:
        raise UnknownName(f"{shortened(root)} cannot be read: {error.strerror}.") from error
    known = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
    kind = "" if root.is_dir() or not root.exists() else f" {root} is not a folder."
    raise UnknownName(
        f"There is no run {shortened(repr(str(run)))}: {shortened(root)} holds "
        f"{known or 'no runs yet'}.{kind}{nearest(str(run), there)}"
    )


def part_of(place: RunFolder, recipe: Recipe | None = None, step: int | None = None) -> str:
    """The part of a run that its recipe measures.

    For a script's run: "model", or else its only network, or its only part with arrays.

    Args:
        place: the run folder.
        recipe: the run's recipe, when the user has named it.
        step: of the checkpoint that is asked; by default the newest whose structure verifies.

    Raises:
        UsageError: its recipe is a file that the user has not named.
    """
    if recipe is None and read_run(place.path).about.get("recipe") is None:
        return _part_of_script(place, step)
    return (as_stage(recipe, place) if recipe else recipe_of(place, "--part NAME writes a part without it.")).part


def _part_of_script(place: RunFolder, step: int | None) -> str:
    for checkpoint in CheckpointStore(place).newest_first():
        if step not in (None, checkpoint.step):
            continue
        with contextlib.suppress(CorruptCheckpoint):
            parts: Mapping[str, Any] = open_checkpoint(checkpoint.path, ()).state.parts
            networks = [name for name, record in parts.items() if isinstance(record.get("evaluating"), list)]
            holders = [name for name, record in parts.items() if '"$array":' in json.dumps(record["state"])]
            if "model" not in parts and 1 in (len(networks), len(holders)):
                return networks[0] if len(networks) == 1 else holders[0]
            break
    return "model"  # what is wrong with it is said when it is read


def step_of(place: RunFolder, wanted: str, recipe: Recipe | None = None) -> int:
    """The step that a user means by a number, "latest" or "best".

    Raises:
        UnknownName: there is no such checkpoint.
        UsageError: "best" of a run that has no metric.
    """
    store = CheckpointStore(place)
    newest = next(store.newest_first(), None)
    if newest is None:
        raise UnknownName(f"{place.path} has no checkpoints yet.")
    if wanted == "latest":
        return newest.step
    if wanted == "best":
        return best_of(store.committed(), _measure(place, recipe), place.path).step
    steps = [checkpoint.step for checkpoint in itertools.islice(store.newest_first(), _SHOWN)][::-1]
    if not (wanted.isascii() and wanted.isdigit()) or len(wanted) > 20 or not store.exists(int(wanted)):
        raise UnknownName(
            f"{place.path} has no checkpoint at step {shortened(wanted)}; there are {', '.join(map(str, steps))}, "
            "latest and best."
        )
    return int(wanted)


def _measure(place: RunFolder, recipe: Recipe | None) -> Retention | None:
    """By what the best of a run is chosen: as its attempts say; runs of before they said so, as the recipe says."""
    info = read_run(place.path)
    if (found := measure_of(info.attempts)) is not None:
        return found
    if recipe is None and info.about.get("recipe") is not None:
        recipe = recipe_of(place, "A step given as a number works without it.")
    return Retention(best=1, metric=recipe.metric, mode=recipe.mode) if recipe and recipe.metric else None
