"""Opening a run: reads the arguments, and creates and connects its objects.

The order of a start decides what is exact: lock -> copies in other places -> records -> newest valid checkpoint -> [the
script builds its model] -> `track` loads into it -> `steps` checks that everything fits, cuts the journal back and
restores the random generators last -> the first step. A refused resume has changed nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast import state
from outlast.checkpoint import CheckpointStore, Retention, SavePolicy
from outlast.distributed import ranks
from outlast.environment import Environment, detect
from outlast.errors import UsageError
from outlast.run import arguments, ending, measure, witness
from outlast.run.agreement import Agreement
from outlast.run.attempt import Attempt
from outlast.run.ending import Ending
from outlast.run.loop import Loop
from outlast.run.parts import Parts
from outlast.run.run import Run
from outlast.run.saver import Saver
from outlast.run.schedule import SaveSchedule
from outlast.run.session import Session
from outlast.run.stopping import Stopping
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
    remote: str | None = None,
    remote_rate: float | None = None,
) -> Run:
    """Open a run, new or begun earlier, for one attempt. Use it as a context manager.

    Under torchrun, every rank calls it after torch.distributed.init_process_group(), and makes the same calls in the
    same order. Rank 0 owns the run folder, prints, and keeps the journal. All ranks share one checkpoint.

    Args:
        name: the run's id and the name of its folder; the same name continues the same run. Default: OUTLAST_RUN.
        total_steps: total number of steps; or give it to `steps`, or let `batches` compute it.
        root: the folder that holds run folders. Default: OUTLAST_ROOT, else "runs".
        save: when to save besides the end of a session: "auto", "10m", "500 steps", "1 epoch", "10m, 1 epoch", "never".
            "auto" is by time, every 15 s to 15 minutes, estimated from the cost of a save and the failure rate of such
            machines. "every step" also leaves the state of every step where a kill of the process does not reach it,
            in `slots` of the run folder (twice the state); a stop of the machine does. It is for one process, with
            `background`.
        keep: which checkpoints to keep; the newest three by default.
        budget: time of this session: "11h30m", or a number of seconds. The environment's own limit also applies.
            Default: OUTLAST_BUDGET.
        reserve: part of the budget that is reserved for the last save; by default, estimated from the size of the
            state.
        config: resolved values, for config.json and the checks on resume.
        recipe: name of the recipe, for the records.
        grade: the grade that the script declares for a resume: "exact", "statistical" or "restart-epoch".
        environment: the environment of this session; detected by default.
        progress: "auto", "rich", "plain", "json" or "none", which prints only warnings. All go to stderr.
        sinks: receive the events of the run, each in its own thread: `outlast.Sink`.
        deterministic: use deterministic kernels of torch and JAX; for JAX, only before its first computation.
        results: folder for artifacts instead of the run folder's own.
        background: copy the state into a buffer of its size, and write it while training continues. State that only a
            torch optimizer changes in its step is copied during the next forward and backward pass.
        resume_from: a run folder, or one of its checkpoint folders, from which this run begins if it has no checkpoint.
            Default: OUTLAST_RESUME_FROM. Later attempts continue from the run's own checkpoints.
        remote: address of a remote, for example "gs://bucket/prefix" or a folder. The newest checkpoint there is used
            if it continues the run. During training each checkpoint is pushed there, with the journal and the records.
            Default: OUTLAST_REMOTE.
        remote_rate: average rate limit of pushing, in MB/s.
        renamed: former name -> present name of metrics that earlier attempts logged under other names. `status`, plots
            and the choice of the best checkpoint read both as one metric; the journal stays unchanged.

    Raises:
        RunBusy: another live attempt writes this run.
        NoGoodCheckpoint: the run has checkpoints, but none verifies.
        UsageError: an argument, or its variable, is invalid; or the process group is not initialised. Nothing was
            written.
        RankFailed: another rank could not open the run.
    """
    _import_what_draws()
    if plan := witness.read_plan():
        root, save, remote, resume_from = plan.root, plan.save or save, None, None
        sinks, results = (), None  # nothing of a proof is seen elsewhere
    if measured := measure.read_plan():
        root, save, remote, resume_from = measured.root, "never", None, None
        sinks, results = [measure.Saves(measured.record)], None
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
        remote=remote,
        remote_rate=remote_rate,
    )
    if deterministic:
        state.use_deterministic_kernels()
    environment = environment or detect()
    if "gpu_memory" in environment.limits.places:
        state.bound_memory(max(gpu.memory for gpu in environment.limits.gpus))
    training, writing = ranks.connect(2)  # the writer's thread has a channel of its own
    if asked.save.each_step and (training.several or not background):
        raise UsageError(
            f"open_run was given save={save!r} "
            + (f"on {training.count} ranks" if training.several else "and background=False")
            + "; the state of every step is kept for one process, beside training. Save at intervals, such as "
            "save='auto' or '50 steps'."
        )
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
    keep = Retention(keep.last, keep.best, keep.metric, keep.mode, keep.every, (*keep.former, *former))
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
        follow=asked.follow,
    )
    opened = attempt.open(asked.begin_from, asked.notices, ending.make_way(asked.folder.path))
    parts, step = Parts(opened, training), opened.checkpoint.step if opened else None
    every = asked.save
    policy = SavePolicy(**every._asdict())
    agreement = Agreement(training, session) if training.several else None
    schedule = SaveSchedule(policy, environment.failure_seconds, store, agreement)
    saver = Saver(attempt, parts, schedule, background=background, saved_step=-1 if step is None else step)
    loop = Loop(attempt, parts, saver, schedule, Stopping(session, agreement), opened, asked.total_steps)
    if plan:
        loop.witness = witness.Witness(plan, attempt, parts)
    if measured:
        loop.witness = measure.Measure(measured, attempt)
    return Run(loop, Ending(loop), resumed_from=step)


def _import_what_draws() -> None:
    # rich takes a number from Python's generator when it is first imported, which any library may do in the middle of a
    # run: so now, and the number is put back.
    before = random.getstate()
    import rich.style  # noqa: F401

    random.setstate(before)
