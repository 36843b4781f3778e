"""`python -m outlast.launch.inside REQUEST.json FOLDER EXIT`: the program that runs in a session.

It does what the recipe does before a training (`Recipe.before`), trains the requested run below FOLDER/runs, and writes
the exit code of `outlast train` into the file EXIT. The file is needed because torchrun, which may have started this
program, returns only its own exit codes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from outlast.checkpoint import CheckpointStore
from outlast.config import as_flag
from outlast.distributed import ranks
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN, OutlastError, PublishFailed, SessionEnded
from outlast.launch.bundle import flags_of
from outlast.recipe import prepare, publishing, registry
from outlast.recipe.recipe import Recipe
from outlast.recipe.stages import bring_home_stages, with_what_is_left
from outlast.remote.attached import copies_of
from outlast.run.session import now
from outlast.terminal import say

MISSING_CHECKPOINT = 6
"""Exit code of a session that did not find the checkpoint to continue."""

NOT_PUBLISHED = 7
"""Exit code of a session that has finished its run, and has not published it as its environment file says."""


def main(request: Path, working: Path) -> int:
    """Train; returns the exit code of `outlast train`."""
    asked, began = json.loads(request.read_text()), now()
    runs = working / "runs"
    flags = {key: value if isinstance(value, bool) else as_flag(value) for key, value in asked["values"].items()}
    flags |= {
        "checkpoint_dir": str(runs),
        "results_dir": "none",
        "log_dir": "none",
        "experiment_name": asked["run"],
        "budget": f"{asked['budget']:g}s",
    }
    try:
        found = _recipe_of(asked)
        wanted = prepare.Request(flags=flags)
        prepared = prepare.prepare(found, wanted)
        if (here := _newest(prepared)) < asked["step"]:
            say(
                f"Step {asked['step']} of {asked['run']} should be continued, but this session has only step {here}. "
                "It ends now."
            )
            return MISSING_CHECKPOINT
        publishing.check(prepared)
        _bring_home(prepared)
        if _prepared_by(prepared, flags_of(flags), begun=here > 0):
            # Again: of the session's limit and budget, less is left now.
            prepared = with_what_is_left(prepare.prepare(found, wanted), now() - began)
        run = prepare.start(prepared, progress="plain")
    except SessionEnded as ended:
        return int(ended.code or 0)
    except OutlastError as error:
        say(f"error: {error}", error=True)
        return error.exit_code
    if ranks.is_main_process():
        say(f"run {run.id} is finished")
        try:
            for line in publishing.publish(prepared):
                say(line)
        except PublishFailed as error:
            say(f"error: {error}", error=True)
            return NOT_PUBLISHED
    return EXIT_FINISHED


def _recipe_of(asked: Mapping[str, Any]) -> Recipe:
    """The recipe of a request, or that of its stage."""
    found = replace(registry.find(asked["recipe"]), source=asked["source"])
    return found.of_stage(stage) if (stage := asked.get("stage")) else found


def _bring_home(prepared: prepare.PreparedRun) -> None:
    """Copy the runs that a stage is trained on from this session's inputs."""
    if prepared.recipe.stage:
        if prepared.recipe.ranks:
            ranks.meet()
        bring_home_stages(prepared, tell=say)


def _prepared_by(prepared: prepare.PreparedRun, flags: Sequence[str], *, begun: bool) -> bool:
    """Do what the recipe does before a training, on one rank; returns whether it does anything.

    Raises:
        OutlastError: the session is to end instead.
        SessionEnded: it was asked to stop meanwhile.
    """
    recipe = registry.loaded(prepared.recipe)
    if recipe.before is None:
        return False
    if recipe.ranks:
        ranks.meet()
    (channel,) = ranks.connect(1)
    before, config = recipe.before, prepared.resolved.config

    def work() -> str:
        try:
            for line in before(config, flags, begun):
                say(line)
        except SessionEnded as ended:
            return ended.reason
        return ""

    moment = "the steps before the training"
    ended = channel.broadcast(moment, channel.together(moment, work if channel.is_main else str).encode()).decode()
    if ended:
        raise SessionEnded(ended)
    return True


def _newest(prepared: prepare.PreparedRun) -> int:
    """The newest step of the run in this session's folder or its inputs."""
    places_of_it = [prepared.folder, *copies_of(prepared.run_id, prepared.environment.inputs)]
    return max(CheckpointStore(place).newest_step() for place in places_of_it)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), Path(sys.argv[2]))
    if ranks.is_main_process():
        Path(sys.argv[3]).write_text(str(code))
    # torchrun treats a rank that exits with 75 as failed, and kills the other ranks.
    sys.exit(EXIT_FINISHED if code in (EXIT_RUN_AGAIN, NOT_PUBLISHED) else code)
