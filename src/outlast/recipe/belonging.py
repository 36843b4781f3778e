"""Which recipe, and which of its stages, a run belongs to: nothing else is trained in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from outlast.checkpoint import CheckpointStore
from outlast.errors import OutlastError, UsageError
from outlast.folder import layout, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN
from outlast.recipe.lookup import as_stage
from outlast.recipe.recipe import Recipe
from outlast.recipe.registry import is_installed
from outlast.remote.attached import copies_of
from outlast.terminal import command, shortened


def check(folder: RunFolder, recipe: Recipe, attached: Iterable[Path] = ()) -> None:
    """Refuse to train a recipe in the run of another one, or a stage in the run of another stage. Writes nothing.

    A recipe that is a file may have been moved or copied, so that runs of files are not told apart by their recipe.

    Args:
        folder: of the run, which may not exist yet.
        recipe: what is to be trained; of a chain, as that of one stage.
        attached: where copies of the run may be.

    Raises:
        UsageError: the run is of another stage, of a chain, of no chain, or of another installed recipe.
    """
    if recipe.stages and recipe.stage is None:
        return
    place, about = _known(folder, attached)
    run, chain, known, own = place.path, about.get("chain"), about.get("recipe"), recipe.source or recipe.name
    anew = "Give another --experiment-name to begin a new run. Nothing was written."
    if recipe.stage and chain and chain["stage"] != recipe.stage.name:
        again = stage_again(recipe, recipe.stage.name, chain["name"], folder.path.parent)
        raise UsageError(
            f"{run} is the run of the stage {chain['stage']!r}, and the stage {recipe.stage.name!r} has a run of its "
            f"own: {again}. Nothing was written."
        )
    if chain and not recipe.stage:
        raise UsageError(
            f"{run} is the run of the stage {chain['stage']!r} of a chain, and the recipe {own} has no stages. {anew}"
        )
    if recipe.stage and about and not chain and next(CheckpointStore(place).newest_first(), None):
        raise UsageError(
            f"{run} is a run without stages, and cannot be that of the stage {recipe.stage.name!r} of {own}. {anew}"
        )
    if known != recipe.source and is_installed(known) and is_installed(recipe.source):
        raise UsageError(f"{run} is a run of the recipe {shortened(known)}, not of {own}. {anew}")


def remark(folder: RunFolder, recipe: Recipe) -> str:
    """A sentence about a run that was begun with a recipe of another name; empty if there is nothing to say."""
    known = _known(folder, ())[1].get("recipe")
    if not isinstance(known, str) or _label(known) == _label(recipe.source):
        return ""
    return f"The run was begun with the recipe {shortened(known)}, and this attempt trains {shortened(recipe.source)}."


def _label(source: str) -> str:
    """The name of a recipe, whatever folder its file is in."""
    path = Path(source)
    return path.parent.name if path.name == "recipe.py" else path.stem


def stage_again(recipe: Recipe, stage: str, chain: str, root: Path) -> str:
    """The command that trains a stage of a chain.

    Args:
        recipe: of the chain.
        stage: its name.
        chain: name of the chain.
        root: folder that holds the run folders.
    """
    name = () if chain == recipe.name else ("--experiment-name", chain)
    place = () if root.resolve() == layout.runs_root().resolve() else ("--checkpoint-dir", root)
    return command("outlast", "train", recipe.source or recipe.name, "--stage", stage, *name, *place)


def _known(folder: RunFolder, attached: Iterable[Path]) -> tuple[RunFolder, Mapping[str, Any]]:
    """The folder of the run and its run.json, or those of the first copy that can be read; empty for a new run."""
    if plain.kind_of(folder.run):
        return folder, reading.read_record(folder.run, RUN)
    for place in copies_of(folder.path.name, attached):
        with contextlib.suppress(OutlastError, OSError):
            return place, reading.read_record(place.run, RUN)
    return folder, {}


def as_stage_of(recipe: Recipe, folder: RunFolder, stage: str | None) -> Recipe:
    """The recipe of a chain as that of the stage of a run that is to be resumed.

    Args:
        recipe: has stages.
        folder: of the run.
        stage: what the user asks for besides.

    Raises:
        UnknownName: the recipe has no such stage.
        UsageError: neither the run nor the user says which stage it is.
    """
    found = as_stage(recipe, folder)
    if found.stage is None and stage is None:
        names = ", ".join(each.name for each in recipe.links)
        raise UsageError(
            f"{folder.path} does not say which stage of {recipe.source or recipe.name} it is the run of; say it with "
            f"--stage (one of {names}). Nothing was written."
        )
    return found if found.stage or stage is None else found.of_stage(stage)
