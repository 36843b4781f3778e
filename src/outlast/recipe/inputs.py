"""The inputs of a stage: checkpoints of earlier stages' runs, which its run.json names by digest.

They are chosen once, when the stage begins. Every later attempt opens those very checkpoints again, or is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.checkpoint import read_manifest
from outlast.distributed import ranks
from outlast.errors import CorruptCheckpoint, OutlastError, ResumeRefused, UsageError
from outlast.folder import durable, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN
from outlast.recipe import belonging
from outlast.recipe.inspect import SavedCheckpoint, open_saved
from outlast.recipe.lookup import step_of
from outlast.recipe.recipe import Recipe
from outlast.report import read_run

if TYPE_CHECKING:
    from outlast.run.run import Run


def train(run: Run, config: Any, recipe: Recipe) -> None:
    """Train a stage on its inputs, which become a part of what its run is.

    Args:
        run: of the stage, open.
        config: the values.
        recipe: that of the stage.

    Raises:
        UsageError: an earlier stage is not finished.
        ResumeRefused: an input is not the one that the run was begun with.
    """
    folder, stage = RunFolder(run.folder), recipe.stage
    assert stage is not None  # noqa: S101 - asked by the caller
    (channel,) = ranks.connect(1)
    opened = channel.together("opening the inputs of the stage", lambda: open_inputs(folder, recipe))
    channel.together(
        "recording the inputs of the stage", lambda: record(folder, recipe, opened) if channel.is_main else None
    )
    for sentence in gone_on(folder, recipe):
        run.tell(sentence)
    stage.train(run, config, opened)


def open_inputs(folder: RunFolder, recipe: Recipe) -> dict[str, SavedCheckpoint]:
    """Open the checkpoints that a stage is trained on.

    These are those that its run names, or else those that its declaration chooses.

    Args:
        folder: of the stage's run, which may not exist yet.
        recipe: that of the stage.

    Raises:
        UsageError: an earlier stage is not finished.
        ResumeRefused: a checkpoint that the run was begun with is not there any more.
        CorruptCheckpoint: one does not verify.
    """
    known = _about(folder).get("inputs", {})
    stage, opened = recipe.stage, {}
    for name, choice in stage.after.items() if stage else ():
        place = folder_of(folder, recipe, name)
        if name in known:
            path = _same(folder, place, known[name])
            opened[name] = open_saved(path, recipe=recipe.of_stage(name))
        else:
            _check_finished(folder, place, name, recipe)
            opened[name] = open_saved(place.path, step=choice, recipe=recipe.of_stage(name))
    return opened


def record(folder: RunFolder, recipe: Recipe, opened: Mapping[str, SavedCheckpoint]) -> None:
    """Let run.json say which stage of what chain the run is, and what it is trained on.

    Only who holds the run's lock calls it.
    """
    about, stage = reading.read_record(folder.run, RUN), recipe.stage
    assert stage is not None  # noqa: S101 - asked by the caller
    belonging.check(folder, recipe)  # once more: the run may have come from elsewhere since
    links = [stage] if stage.instead else recipe.links
    chain = {"name": chain_of(folder, recipe), "stage": stage.name, "stages": [each.name for each in links]}
    inputs = {name: {"run": saved.run_id, "step": saved.step, "digest": saved.digest} for name, saved in opened.items()}
    if about.get("chain") != chain or about.get("inputs") != inputs:
        durable.write_json(folder.run, about | {"chain": chain, "inputs": inputs})


def gone_on(folder: RunFolder, recipe: Recipe) -> list[str]:
    """Sentences about earlier stages of which another checkpoint would be chosen today.

    The comparison is with the one that this run is trained on.
    """
    told = []
    for name, choice in recipe.stage.after.items() if recipe.stage else ():
        place, known = folder_of(folder, recipe, name), _about(folder)["inputs"][name]
        try:
            now = read_manifest(place.checkpoint(step_of(place, choice, recipe.of_stage(name))))
        except OutlastError:  # none could be chosen today; the one that is used was opened
            continue
        if now.digest != known["digest"]:
            told.append(
                f"{place.path.name} has trained further: its {choice} checkpoint is now at step {now.step} "
                f"({now.digest[:12]}). This run keeps the checkpoint that it began with, at step {known['step']} "
                f"({known['digest'][:12]})."
            )
    return told


def chain_of(folder: RunFolder, recipe: Recipe) -> str:
    """The name that the runs of all stages begin with."""
    known = _about(folder).get("chain")
    if known:
        return str(known["name"])
    return folder.path.name.removesuffix(f".{recipe.stage.name}") if recipe.stage else folder.path.name


def folder_of(folder: RunFolder, recipe: Recipe, stage: str) -> RunFolder:
    """The folder of another stage's run."""
    return RunFolder(folder.path.with_name(f"{chain_of(folder, recipe)}.{stage}"))


def _about(folder: RunFolder) -> Mapping[str, Any]:
    return reading.read_record(folder.run, RUN) if plain.kind_of(folder.run) else {}


def _same(folder: RunFolder, place: RunFolder, known: Mapping[str, Any]) -> Path:
    """The folder of the very checkpoint that a run was begun with."""
    path = place.checkpoint(known["step"])
    try:
        found = read_manifest(path).digest
    except CorruptCheckpoint:
        found = ""
    if found != known["digest"]:
        there = f"has the digest {found[:12]} now: it was trained anew" if found else f"is not in {place.path}"
        raise ResumeRefused(
            f"{folder.path.name} was begun with step {known['step']} of {known['run']}, with the digest "
            f"{known['digest'][:12]}, and that checkpoint "
            f"{there if found else there + ' any more'}. Bring it back to continue, or begin this stage anew: move "
            f"{folder.path} away, or choose "
            "another --experiment-name."
        )
    return path


def _check_finished(folder: RunFolder, place: RunFolder, name: str, recipe: Recipe) -> None:
    status, step = "not begun", ""
    if plain.kind_of(place.run):
        info = read_run(place.path)
        status = info.status
        step = f" at step {info.step}" + (f" of {info.total_steps}" if info.total_steps else "")
    if status != "finished":
        wanted = recipe.stage.name if recipe.stage else ""
        names = [stage.name for stage in recipe.links]
        earlier = (each for each in names if not is_finished(folder_of(folder, recipe, each)))
        again = belonging.stage_again(recipe, next(earlier), chain_of(folder, recipe), folder.path.parent)
        raise UsageError(
            f"The stage {wanted} of {recipe.name} is trained on {name}, and {place.path} is {status}{step}. Finish it "
            f"first: {again}"
        )


def is_finished(folder: RunFolder) -> bool:
    """Whether a run is there and finished."""
    return bool(plain.kind_of(folder.run)) and read_run(folder.path).status == "finished"
