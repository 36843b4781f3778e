"""Opening a run: what is asked for is read, and the objects that hold it are made and put together.

Order of a start, because it decides what is exact: lock -> what other places hold -> records -> newest checkpoint that
verifies -> [the script builds its model] -> `track` loads into it -> `steps` checks that all of it fits, cuts the
journal back and restores the random generators last -> the first step. So a resume that is refused has changed nothing.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast import state
from outlast.checkpoint import CheckpointStore, Retention, SavePolicy
from outlast.distributed import ranks
from outlast.environment import Environment, detect
from outlast.run import arguments, ending
from outlast.run.attempt import Attempt
from outlast.run.ending import Ending
from outlast.run.loop import Loop
from outlast.run.parts import Parts
from outlast.run.run import Run
from outlast.run.saver import Saver
from outlast.run.session import Session
from outlast.tracking import Fanout, Sink
from outlast.tracking import progress as screens

if TYPE_CHECKING:
    from outlast.config import ResolvedConfig


def open_run(
    name: str | None = None,
    *,
    total_steps: int | None = None,
    root: str | Path | None = None,
    save: str = "auto",
    keep: Retention | None = None,
    budget: str | float | None = None,
    reserve: str | float | None = None,
    config: ResolvedConfig[Any] | None = None,
    recipe: str | None = None,
    grade: str = "exact",
    environment: Environment | None = None,
    progress: str = "auto",
    sinks: Sequence[Sink] = (),
    deterministic: bool = False,
    results: Path | None = None,
    background: bool = True,
    resume_from: str | Path | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Run:
    """Open a run, new or begun earlier, for one attempt. Use it as a context manager.

    Under torchrun every rank calls it, after torch.distributed.init_process_group(), and does the same calls in the
    same order. Rank 0 holds the run folder, speaks, and keeps the journal; a checkpoint is one for all ranks.

    Args:
        name: the run's id and the name of its folder; the same name continues the same run. OUTLAST_RUN when not given.
        total_steps: steps in all; or give it to `steps`, or let `batches` count it.
        root: the folder that holds run folders; OUTLAST_ROOT when not given, else "runs".
        save: when to save besides the end of a session: "auto", "10m", "500 steps", "1 epoch", "10m, 1 epoch", "never".
            "auto" is by time, reckoned from what a save costs and how often such machines fail: between 15 s and 15
            minutes.
        keep: which checkpoints to keep; the newest three by default.
        budget: time that this session may take: "11h30m", or a number of seconds. The environment's own limit holds
            besides. OUTLAST_BUDGET when not given.
        reserve: time of it to keep back for the last save; reckoned from the size of the state when not given.
        config: resolved values, for config.json and the checks on resume.
        recipe: name of the recipe, for the records.
        grade: what the script promises of a resume: "exact", "statistical" or "restart-epoch".
        environment: where this runs; detected when not given.
        progress: "auto", "rich", "plain", "json" or "none".
        sinks: receive the events of the run, each in a thread of its own: `outlast.Sink`.
        deterministic: ask torch and JAX for kernels that give the same bits every time; JAX hears it before its first
            computation only.
        results: folder for artifacts instead of the run folder's own.
        background: copy the state into memory kept for that, as large as itself, and write it while training goes on.
            What only a torch optimizer changes in its step is copied while the next forward and backward run.
        resume_from: a run folder, or one of its checkpoint folders, to begin from when this run has no checkpoint yet;
            OUTLAST_RESUME_FROM when not given. Later attempts go on from their own checkpoints.
        renamed: former name -> name of metrics that earlier attempts logged under other names. `status`, plots and the
            choice of the best checkpoint read both as one metric; the journal stays as it is.

    Raises:
        RunBusy: another live attempt writes this run.
        NoGoodCheckpoint: the run has checkpoints and none verifies.
        UsageError: an argument, or the variable in its place, that cannot be; ranks that have not met. Nothing was
            written.
        RankFailed: another rank could not open it.
    """
    _import_what_draws()
    asked = arguments.read(
        name=name,
        root=root,
        save=save,
        budget=budget,
        reserve=reserve,
        total_steps=total_steps,
        resume_from=resume_from,
        keep=keep,
        grade=grade,
        environment=environment,
        progress=progress,
        sinks=sinks,
        results=results,
        recipe=recipe,
        renamed=renamed,
    )
    if deterministic:
        state.use_deterministic_kernels()
    environment = environment or detect()
    training, writing = ranks.connect(2)  # the writer's thread has a channel of its own
    shown = (
        Fanout([screens.choose(progress)], sinks) if training.is_main else Fanout([screens.OtherRank(training.rank)])
    )
    session = Session(
        environment,
        budget=asked.budget,
        reserve=asked.reserve,
        on_stop=lambda *facts: shown.interrupt("stopping", *facts),
    )
    keep = keep or Retention()
    former = tuple(old for old, new in asked.renamed.items() if new == keep.metric)
    keep = dataclasses.replace(keep, former=(*keep.former, *former))
    store = CheckpointStore(asked.folder, keep, environment.limits.disk, writing)
    attempt = Attempt(
        asked.folder,
        session,
        shown,
        store=store,
        ranks=training,
        about={"recipe": recipe, "grade": grade, "deterministic": deterministic, "renamed": asked.renamed},
        config=config,
        results=Path(results) if results is not None else None,
    )
    opened = attempt.open(asked.begin_from, asked.ignored, ending.make_way(asked.folder.path))
    parts, step = Parts(opened, training), opened.checkpoint.step if opened else None
    every = asked.save
    policy = SavePolicy(steps=every.steps, seconds=every.seconds, epochs=every.epochs, auto=every.auto)
    saver = Saver(attempt, parts, policy, background=background, saved_step=-1 if step is None else step)
    loop = Loop(attempt, parts, saver, opened, asked.total_steps)
    return Run(loop, Ending(loop), resumed_from=step)


def _import_what_draws() -> None:
    # rich takes a number from Python's generator when it is first imported, which any library may do in the middle of a
    # run: so now, and the number is put back.
    before = random.getstate()
    import rich.style  # noqa: F401

    random.setstate(before)
