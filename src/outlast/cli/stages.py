"""`outlast train` and `outlast resume` for a recipe with stages: trains the unfinished stages in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from outlast.cli import show
from outlast.errors import EXIT_FINISHED, SessionEnded, UsageError
from outlast.folder import layout
from outlast.folder.layout import RunFolder
from outlast.recipe import belonging
from outlast.recipe.prepare import PreparedRun, Request, locate, prepare
from outlast.recipe.recipe import Recipe
from outlast.report.chain import chain_at, chain_named, line, under_way
from outlast.terminal import say


def train(recipe: Recipe, request: Request, one: Callable[[PreparedRun], int], *, speaks: bool) -> int:
    """Train the stages that are not finished, one after the other; returns the first exit code that is not 0.

    Args:
        recipe: has stages.
        request: the user's request.
        one: trains a prepared run and returns its exit code.
        speaks: whether messages are printed.
    """
    recipe, request = _resumed(recipe, request)
    from outlast.recipe.stages import unfinished  # here and below: most recipes have no stages

    if recipe.stage:
        return one(prepare(recipe, request))
    first = prepare(recipe, request)
    tell = say if speaks else _silent
    try:
        for prepared in unfinished(recipe, request, tell=tell):
            if code := one(prepared):
                return code
    except SessionEnded as ended:
        tell("The session's budget is used up before the next stage begins; start it again to continue.")
        return int(ended.code or 0)
    name = first.chain or first.run_id
    tell(f"{name}: {line(chain_named(first.folder.path.parent, name))}")
    return EXIT_FINISHED


def trained(recipe: Recipe, request: Request) -> list[PreparedRun]:
    """The runs that a request trains: that of the named stage, or those of all stages."""
    recipe, request = _resumed(recipe, request)
    if recipe.stage or request.stage:
        return [prepare(recipe, request)]
    return [prepare(recipe, replace(request, stage=stage.name)) for stage in recipe.links]


def next_to_launch(recipe: Recipe, request: Request) -> PreparedRun:
    """The stage that the next session elsewhere trains: the named one, or else the first that is not finished here."""
    from outlast.recipe.stages import following

    recipe, request = _resumed(recipe, request)
    return prepare(recipe, request) if recipe.stage else following(recipe, request)


def dry(recipe: Recipe, request: Request) -> PreparedRun:
    """The named stage, or else the first one, prepared."""
    recipe, request = _resumed(recipe, request)
    return prepare(recipe, request if recipe.stage else replace(request, stage=request.stage or recipe.links[0].name))


def _resumed(recipe: Recipe, request: Request) -> tuple[Recipe, Request]:
    """The meaning of --resume: the run of one stage, one of its checkpoints, or the name of the chain."""
    if request.resume is None:
        return recipe, chosen(recipe, request)
    path = Path(request.resume)
    environment = prepare(recipe, replace(request, resume=None))
    root = environment.resolved.config.checkpoint_dir
    if layout.step_of(path) is not None and path.is_dir():
        return belonging.as_stage_of(recipe, RunFolder(path.resolve().parents[1]), request.stage), request
    if folder := locate(request.resume, root, environment.environment.inputs):
        return belonging.as_stage_of(recipe, RunFolder(folder), request.stage), request
    if links := chain_at(request.resume, root):
        run = under_way(links)
        alone = [stage.name for stage in recipe.stages if stage.instead]
        if run.about["chain"]["stage"] in alone:
            found = belonging.as_stage_of(recipe, RunFolder(run.folder), request.stage)
            return found, replace(request, resume=str(run.folder))
        place = {"experiment_name": path.name, "checkpoint_dir": str(run.folder.parent)}
        return recipe, replace(request, resume=None, flags={**request.flags, **place})
    return recipe, request


def chosen(recipe: Recipe, request: Request) -> Request:
    """The request of the stage that its values ask for in place of the chain, or the request as it is.

    Raises:
        UsageError: it names another stage than its values ask for.
    """
    others = [stage for stage in recipe.stages if stage.instead]
    if not others or request.resume is not None or recipe.stage:
        return request
    config = prepare(recipe, replace(request, stage=None)).resolved.config
    for stage in others:
        if stage.instead and stage.instead(config) and request.stage != stage.name:
            if request.stage:
                raise UsageError(
                    f"These values ask for the stage {stage.name} of {recipe.name} in place of all others, and --stage "
                    f"says {request.stage}. Leave --stage out, or the value that asks for {stage.name}."
                )
            return replace(request, stage=stage.name)
    return request


def heading(prepared: PreparedRun) -> None:
    """The next stage of the chain, and the progress of the others."""
    if prepared.chain and prepared.recipe.stage:
        links, name = chain_named(prepared.folder.path.parent, prepared.chain), prepared.recipe.stage.name
        ours = any(link.stage == name for link in links)
        say(f"stage {name} of {prepared.chain}" + (f": {line(links)}" if ours else ""))
    show.heading(prepared)


def _silent(_: str) -> None:
    """Print nothing: programs that read JSON get no messages."""
