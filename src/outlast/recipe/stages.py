"""A chain of runs: the stages of a recipe, one after the other.

Each is a run NAME.STAGE with a folder, a lock and attempts of its own.

Nothing keeps the state of a chain: what is finished, the runs themselves say. So a session that ends in the second
stage is continued there, and the first one is not touched.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from outlast.distributed import ranks
from outlast.errors import SessionEnded
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.folder.lock import Lock
from outlast.recipe import inputs
from outlast.recipe.inputs import is_finished
from outlast.recipe.prepare import PreparedRun, Request, prepare
from outlast.recipe.recipe import Recipe
from outlast.remote.address import open_remote
from outlast.remote.attached import copies_of
from outlast.remote.gather import bring_home
from outlast.remote.revision import PushedRun
from outlast.run.arguments import remote_address
from outlast.run.session import now
from outlast.terminal import command

LEAST = 2.0
"""Seconds of a budget with which no further stage is begun."""


def unfinished(recipe: Recipe, request: Request, *, tell: Callable[[str], None]) -> Iterator[PreparedRun]:
    """Prepare the stages that are not finished, in order, each when it is asked for.

    The one before it has been trained then.

    Every stage is checked before the first one. `request.stage` chooses one alone, finished or not.

    Args:
        recipe: has stages.
        request: what the user asks for; `resume` is not looked at.
        tell: called with messages about copied checkpoints and values that were not used.

    Raises:
        UsageError: an input is missing.
        ResumeRefused: a value, or an input, is another one than the run was begun with.
        RunBusy: the run of a stage is being trained, and its copy elsewhere is to come home.
        SessionEnded: the budget is used up before the next stage.
    """
    if recipe.ranks:
        ranks.meet()
    chosen = [recipe.of_stage(request.stage).stage] if request.stage else recipe.links
    requests = [replace(request, resume=None, stage=stage.name) for stage in chosen if stage]
    for each in requests:
        prepare(recipe, each)
    (channel,) = ranks.connect(1)
    begun: float | None = None
    for each in requests:
        prepared = prepare(recipe, each)  # again: the session's limit is what is left of it now
        bring_home_stages(prepared, tell=tell)
        finished = channel.is_main and is_finished(prepared.folder)
        if json.loads(channel.broadcast("looking at the stages", json.dumps(finished).encode())) and not request.stage:
            if unused := _unused(prepared, each):
                tell(unused)
            continue
        inputs.open_inputs(prepared.folder, prepared.recipe)
        begun = begun or now()
        yield with_what_is_left(prepared, now() - begun)


def bring_home_stages(prepared: PreparedRun, *, tell: Callable[[str], None]) -> None:
    """Gather the run of a stage and those that it is trained on: on a platform they are in what it has attached.

    Called by every rank; the main one copies.

    Raises:
        RunBusy: one of them is being trained.
    """
    (channel,) = ranks.connect(1)
    work = functools.partial(_bring_home, prepared, main=channel.is_main)
    for sentence in channel.together("bringing home the stages", work):
        tell(sentence)


def following(recipe: Recipe, request: Request) -> PreparedRun:
    """The first stage that is not finished on this machine, prepared; the last one if all are. Nothing is written.

    `request.stage` chooses one alone.

    Raises:
        UsageError: an input is missing.
    """
    names = [request.stage] if request.stage else [stage.name for stage in recipe.links]
    every = [prepare(recipe, replace(request, stage=name)) for name in names]
    chosen = next((each for each in every if not is_finished(each.folder)), every[-1])
    inputs.open_inputs(chosen.folder, chosen.recipe)
    return chosen


def _unused(prepared: PreparedRun, request: Request) -> str:
    """A sentence about values that a finished stage did not have; empty if there are none.

    A chain does not train a finished stage further by itself: later stages are trained on its checkpoint.
    """
    if not (changes := prepared.resolved.changes):
        return ""
    files = {name: getattr(request, name) for name in ("data_config", "model_config", "train_config")}
    given = {**{name: str(path) for name, path in files.items() if path}, **request.flags}
    words = ["--stage", request.stage]
    for key, value in given.items():
        name = key.replace("_", "-")
        words += [f"--{name}" if value else f"--no-{name}"] if isinstance(value, bool) else [f"--{name}", value]
    again = command("outlast", "train", prepared.recipe.source or prepared.recipe.name, *words)
    return (
        f"{prepared.run_id} is finished and is not trained with {', '.join(map(str, changes))}. To train it further: "
        f"{again}"
    )


def _bring_home(prepared: PreparedRun, *, main: bool) -> list[str]:
    stage, told = prepared.recipe.stage, list[str]()
    for name in [*stage.after, stage.name] if stage and main else ():
        folder = inputs.folder_of(prepared.folder, prepared.recipe, name)
        address = remote_address(prepared.resolved.config.remote)
        pushed = [PushedRun(open_remote(address, writes=False), folder.path.name)] if address else []
        told += [
            f"{folder.path.name}: {words}" for words in _bring_one_home(folder, prepared.environment.inputs, pushed)
        ]
    return told


def _bring_one_home(folder: RunFolder, attached: Sequence[Path], pushed: Sequence[PushedRun]) -> list[str]:
    if not copies_of(folder.path.name, attached) and not any(each.revision for each in pushed):
        return []
    durable.make_folder(folder.path)
    lock = Lock(folder.lock)
    lock.take("a chain of stages")
    try:
        return [*folder.check(), *bring_home(folder, attached, pushed).told]
    finally:
        lock.release()


def with_what_is_left(prepared: PreparedRun, spent: float) -> PreparedRun:
    """The run with the rest of the session's budget; a session has one, however much it does.

    Raises:
        SessionEnded: it is used up.
    """
    config = prepared.resolved.config
    if config.budget is None or spent < LEAST:
        return prepared
    left = config.budget - spent
    if left <= (config.reserve or 0.0) + LEAST:
        raise SessionEnded("budget")
    return replace(prepared, resolved=replace(prepared.resolved, config=config.model_copy(update={"budget": left})))
