"""A process in which `outlast doctor` measures a training: it makes a few steps of the real recipe and ends.

What it is to train comes on standard input; what it measured goes to the record of its plan (`outlast.run.measure`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from outlast.distributed import ranks
from outlast.environment.base import gpus
from outlast.errors import OutlastError, RankFailed, SessionEnded
from outlast.recipe import inputs, prepare, registry
from outlast.run import measure

_ASK = 0.5  # seconds between two looks whether the parent lives
_MEMORY = ("RESOURCE_EXHAUSTED", "can't allocate memory", "out of memory", "Cannot allocate memory", "bad_alloc")
_LONGEST = 600  # characters of an error


def as_text(recipe: str, request: prepare.Request, batch: tuple[str, int] | None, memory: int | None) -> str:
    """What a process is to train, for its standard input.

    Args:
        recipe: its source.
        request: of the user.
        batch: key of the batch size and another value for it, or None.
        memory: bytes that it can allocate at all, so that it cannot outrun whoever watches it; None: not bounded.
    """
    files = {name: getattr(request, name) for name in ("data_config", "model_config", "train_config")}
    flags = {**request.flags, **({batch[0]: str(batch[1])} if batch else {})}
    return json.dumps(
        {
            "recipe": recipe,
            "memory": memory,
            "request": {
                "environment": request.environment,
                "resume": request.resume,
                "stage": request.stage,
                "flags": flags,
                **{name: str(path) for name, path in files.items() if path},
            },
        }
    )


def main() -> int:
    """Train what standard input says; returns 0 when something was measured."""
    plan = measure.read_plan()
    assert plan is not None  # noqa: S101 - set by whoever starts this process
    # Not whose child this is now: whoever started it may be gone already. (On Windows, a launcher may be in between.)
    parent = os.getppid() if os.name == "nt" else plan.parent
    threading.Thread(target=_end_with_parent, args=(parent, plan.root), daemon=True).start()
    asked = json.load(sys.stdin)
    _bound_memory(asked["memory"])
    given: dict[str, Any] = asked["request"]
    given |= {key: Path(value) for key, value in given.items() if key.endswith("_config")}
    try:
        prepare.start(_alone(prepare.prepare(_recipe(asked), prepare.Request(**given)), plan), progress="none")
    except SessionEnded:
        pass
    except (OutlastError, Exception) as error:  # noqa: BLE001 - whatever a recipe raises is what the user is told
        name, words = type(error).__name__, str(error)
        memory = isinstance(error, MemoryError) or name == "OutOfMemoryError" or any(each in words for each in _MEMORY)
        told = words if isinstance(error, OutlastError) else f"{name}: {words}"
        kind = "memory" if memory else "rank" if isinstance(error, RankFailed) or ranks.says_gone(error) else "error"
        measure.note(plan.record, kind=kind, words=told[:_LONGEST], **measure.memory())
        return 1
    return 0


def _bound_memory(nbytes: int | None) -> None:
    """Refuse memory beyond a bound. Where there is a GPU its driver reserves far more addresses than memory."""
    if nbytes is None or resource is None or gpus():
        return
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    least = nbytes if most == resource.RLIM_INFINITY else min(nbytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, most))


def _recipe(asked: dict[str, Any]) -> Any:
    recipe = registry.find(asked["recipe"])
    stage = asked["request"].get("stage")
    return recipe.of_stage(stage) if stage else recipe


def _alone(prepared: prepare.PreparedRun, plan: measure.Plan) -> prepare.PreparedRun:
    """The run in the folder of the plan, seen nowhere else; a stage has its inputs from where they really are."""
    stage, recipe = prepared.recipe.stage, prepared.recipe
    if stage is not None:
        opened, train = inputs.open_inputs(prepared.folder, recipe), stage.train
        alone = replace(stage, after={}, train=lambda run, config, _: train(run, config, opened))
        recipe = replace(recipe, stage=alone)
    # Remote, sinks and results are left out by `open_run`, and nothing that is not finished is published.
    values = {"checkpoint_dir": Path(plan.root), "log_dir": None, "log_csv": None, "budget": None}
    resolved = replace(prepared.resolved, config=prepared.resolved.config.model_copy(update=values))
    return replace(prepared, recipe=recipe, resolved=resolved, fork_of=None)


def _end_with_parent(parent: int, root: str) -> None:
    """Wait until whoever started this process is gone, even killed; then nothing is left of it either."""
    while os.getppid() == parent:
        time.sleep(_ASK)
    shutil.rmtree(root, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
