"""The façade that a training script holds: one run, in one attempt.

Order of a start, because it decides what is exact: lock -> what other places hold -> records -> newest checkpoint that
verifies -> [the script builds its model] -> `track` loads into it -> `steps` checks that all of it fits, cuts the journal back
and restores the random generators last -> the first step. So a resume that is refused has changed nothing.

Everything is saved between two steps and never in the middle of one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import outlast
from outlast import state, terminal
from outlast.checkpoint import History, Opened, Retention, SavePolicy, Store
from outlast.checkpoint.policy import LONGEST
from outlast.config.words import nearest
from outlast.data.feed import Feed
from outlast.data.leaving import Interrupted
from outlast.distributed import ranks
from outlast.environment import Environment, detect
from outlast.errors import OutlastError, RunBusy, SaveFailed, SessionEnded, UsageError
from outlast.folder import durable, layout, lock
from outlast.folder.attempt import Attempt
from outlast.folder.layout import RunFolder
from outlast.folder.lock import Lock, Presence
from outlast.folder.records import LARGEST
from outlast.remote.gather import bring_home
from outlast.remote.identity import know
from outlast.run import best, ending
from outlast.run import arguments as opening
from outlast.run.agreement import Agreement
from outlast.run.parts import Parts
from outlast.run.resume import Verdict
from outlast.run.saver import Saver
from outlast.run.session import Session, now
from outlast.run.validation import PENDING, Before, Validation, from_its_beginning, pending_of
from outlast.tracking import CsvView, Fanout, Journal, Progress, Sink, Unwritten
from outlast.tracking import progress as screens

if TYPE_CHECKING:
    from outlast.config import Resolved

_TICK = 0.2  # seconds between two progress events
_LOOK = (
    20.0  # seconds between two looks at whether the lock is still ours; less than what makes another machine take it
)
_PATIENT_STEPS, _PATIENT_SECONDS = 100, 30.0  # that a loop which is saved by epochs may say nothing of them
_ORPHANS = 40.0  # seconds that ranks whose rank 0 is gone may take to end; torchrun kills them after 30


def open_run(
    name: str | None = None,
    *,
    total_steps: int | None = None,
    root: str | Path | None = None,
    save: str = "auto",
    keep: Retention | None = None,
    budget: str | float | None = None,
    reserve: str | float | None = None,
    config: Resolved[Any] | None = None,
    recipe: str | None = None,
    grade: str = "exact",
    environment: Environment | None = None,
    progress: str = "auto",
    sinks: Sequence[Sink] = (),
    deterministic: bool = False,
    results: Path | None = None,
    background: bool = True,
    resume_from: str | Path | None = None,
) -> Run:
    """Open a run, new or begun earlier, for one attempt. Use it as a context manager.

    Under torchrun every rank calls it, after torch.distributed.init_process_group(), and does the same calls in the same order.
    Rank 0 holds the run folder, speaks, and keeps the journal; a checkpoint is one for all ranks.

    Args:
        name: the run's id and the name of its folder; the same name continues the same run. OUTLAST_RUN when not given.
        total_steps: steps in all; or give it to `steps`, or let `batches` count it.
        root: the folder that holds run folders; OUTLAST_ROOT when not given, else "runs".
        save: when to save besides the end of a session: "auto", "10m", "500 steps", "1 epoch", "10m, 1 epoch", "never". "auto" is by
            time, reckoned from what a save costs and how often such machines fail: between 15 s and 15 minutes.
        keep: which checkpoints to keep; the newest three by default.
        budget: time that this session may take: "11h30m", or a number of seconds. The environment's own limit holds besides.
            OUTLAST_BUDGET when not given.
        reserve: time of it to keep back for the last save; reckoned from the size of the state when not given.
        config: resolved values, for config.json and the checks on resume.
        recipe: name of the recipe, for the records.
        grade: what the script promises of a resume: "exact", "statistical" or "restart-epoch".
        environment: where this runs; detected when not given.
        progress: "auto", "rich", "plain", "json" or "none".
        sinks: further receivers of events.
        deterministic: ask torch and JAX for kernels that give the same bits every time; JAX hears it before its first computation only.
        results: folder for artifacts instead of the run folder's own.
        background: copy the state into memory kept for that, as large as itself, and write it while training goes on. What
            only a torch optimizer changes in its step is copied while the next forward and backward run.
        resume_from: a run folder, or one of its checkpoint folders, to begin from when this run has no checkpoint yet; OUTLAST_RESUME_FROM
            when not given. Later attempts go on from their own checkpoints.

    Raises:
        RunBusy: another live attempt writes this run.
        NoGoodCheckpoint: the run has checkpoints and none verifies.
        UsageError: an argument, or the variable in its place, that cannot be; ranks that have not met. Nothing was written.
        RankFailed: another rank could not open it.
    """
    _import_what_draws()
    asked = opening.read(
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
    )
    if deterministic:
        state.use_deterministic_kernels()
    environment = environment or detect()
    training, writing = ranks.connect(2)
    shown = Fanout([screens.choose(progress), *sinks] if training.main else [screens.OtherRank(training.rank)])
    session = Session(
        environment, budget=asked.budget, reserve=asked.reserve, on_stop=lambda *facts: shown.send("stopping", *facts)
    )
    every = asked.save
    return Run(
        asked.folder,
        session,
        shown,
        save=SavePolicy(steps=every.steps, seconds=every.seconds, epochs=every.epochs, auto=every.auto),
        background=background,
        keep=keep or Retention(),
        about={"recipe": recipe, "grade": grade, "deterministic": deterministic},
        config=config,
        total_steps=asked.total_steps,
        results=Path(results) if results is not None else None,
        training=training,
        writing=writing,
        asked=asked,
    )


def _import_what_draws() -> None:
    # rich takes a number from Python's generator when it is first imported, which any library may do in the middle of a run: so now, and the number is put back.
    before = random.getstate()
    import rich.style  # noqa: F401

    random.setstate(before)


class Run:
    """One run, held by one attempt. Made by `open_run`.

    Attributes:
        id: the run's name.
        folder: its folder.
        step: the step that runs, counted from 1; between steps, the steps done.
        epoch: the epoch that runs, counted from 1, in `batches` loops; None in `steps` loops.
        epoch_end: whether the running batch is the last of its epoch.
        update_due: whether the optimizer is to step after the running batch (gradient accumulation).
        total_steps: steps in all, None until known.
        resumed_from: the step of the checkpoint that this attempt continues, None for a fresh start.
        should_stop: call it to ask whether the session must end; costs well under a microsecond. With several ranks they answer
            alike, and in a loop that outlast does not run all of them must ask.
    """

    def __init__(
        self,
        folder: RunFolder,
        session: Session,
        shown: Fanout,
        *,
        save: SavePolicy,
        keep: Retention,
        about: Mapping[str, Any],
        config: Resolved[Any] | None,
        total_steps: int | None,
        results: Path | None,
        background: bool,
        training: ranks.Ranks,
        writing: ranks.Ranks,
        asked: opening.Asked,
    ) -> None:
        self.id = folder.path.name
        self.folder = folder.path
        self.session = session
        self.total_steps = total_steps
        self.should_stop = session.should_stop
        self.step = 0
        self.epoch: int | None = None
        self.epoch_end = False
        self.update_due = True
        self.resumed_from: int | None = None
        self._asked = asked
        self._files, self._shown, self._about, self._results, self._config = folder, shown, about, results, config
        self._epochs_only = save.epochs_only
        self._ranks = training  # spoken to by the training thread; the writer's has a channel of its own
        self._agreement = Agreement(training, session) if training.several else None
        if self._agreement:
            self.should_stop = self._agreement.should_stop
        self._store = Store(folder, keep, session.environment.limits.disk, writing)
        self._journal = (Journal if training.main else Unwritten)(folder.journal)
        self._saver = Saver(
            self._store, save, session, self._journal, shown, self._tell, background=background, ranks=training
        )
        self._loop = [0, 0]  # epochs done, batches of the running epoch done
        self._feed: Feed | None = None
        self._inexact: list[str] = []  # why data come otherwise after a resume
        self._metrics: dict[str, Any] = {}  # of the running step, for retention
        self._last_metrics: dict[str, Any] = {}  # of any step, for the screen
        self._begun = self._ended = self._in_step = self._own_loop = self._entered = False
        self._done_here, self._seconds_per_step, self._tick = 0, 0.0, 0.0
        self._log_heard = self._told_of_best = False
        self._counted = self._gathered = 0  # steps that after_step has counted; batches of the running step
        self._epoch_awaited: float | None = None  # since when a loop that saves by epochs has said nothing of them
        self._validation: Validation | None = None
        # of the validation: whether it runs, whether it heard of the session's end, whether there was one
        self._validating = self._heard = self._validated = False
        self._cut = False  # whether the step's validation was broken off and is still to be done
        self._pending: Mapping[str, Any] | None = None
        self._metrics_before: Mapping[str, Any] = {}
        self._step_clock = time.perf_counter()
        self._process = os.getpid()
        self._place = folder.path.resolve()
        self._lock = Lock(folder.lock)
        self._presence = Presence(folder.ranks)
        self._lock_checked = now()
        self._open(_make_way(self._place))
        _held[self._place] = self

    # what a script calls ---------------------------------------------------------------------------------------

    def track(self, *, keep: Mapping[str, Sequence[str]] | None = None, **parts: Any) -> None:
        """Save these objects with every checkpoint, and load them now when the run continues.

        Before the first step all that was loaded is compared with the checkpoint, so schedulers and wrappers may be built after this call.

        Args:
            keep: part name -> names of values that this program wins over the checkpoint: `keep={"optimizer": ["lr"]}`. Without it the
                values that the run was begun with go on, and it is said which this program built otherwise. A kept `lr` of a
                scheduled optimizer goes on at the present point of the schedule. `["*"]`: the part begins anew.
            **parts: name=object with `state_dict()` and `load_state_dict()`: models, optimizers, schedulers, scalers, loaders; a random
                generator of torch, NumPy or Python; or a list or dict of such. The global random generators of Python, NumPy and
                torch are always included.

        Raises:
            StateError: an object has no usable state_dict, or its state could not be loaded again.
            ResumeRefused: the checkpoint holds another kind of state under this name.
            UsageError: a name is taken or cannot be used; or `keep` names what is not there.
        """
        for name in parts:
            self._check_early(f"{name!r} was tracked")
        self._parts.track(parts, keep)
        self._tell_notes()

    def restore(self, initial: Any, name: str = "state") -> Any:
        """Return the pytree of the checkpoint, or the argument itself when there is nothing to restore.

        Args:
            initial: the initial state; its structure, shapes, dtypes and placement are what is restored into.
            name: the name of this state, when there are several.

        Raises:
            StateError: it holds something that cannot be saved without pickle.
            ResumeRefused: the checkpoint's state has another form.
        """
        self._check_early(f"{name!r} was restored")
        return self._parts.restore(name, initial)

    def offer(self, tree: Any, name: str = "state", **metrics: Any) -> None:
        """Hand over the state after this step, and log metrics. It is copied only when a save is due, before the next step.

        Raises:
            UsageError: no state of this name was restored before.
            StateError: it has other leaves than the state that was restored.
        """
        self._parts.offer(name, tree, self._done_here)
        if metrics:
            self.log(**metrics)

    def steps(self, total_steps: int | None = None) -> Iterator[int]:
        """Yield step numbers from the one after the last committed step up to the total.

        When the session must end before that, the state is saved and SessionEnded leaves the loop and the script, with exit
        code 75; so whatever stands after the loop belongs to a finished run. `break` ends the run early, and for good: it
        counts the running step as done.

        Raises:
            UsageError: no total was given, here or to `open_run`; or a state was not offered in some step.
            SessionEnded: the session is over and the run is not.
        """
        self.total_steps = opening.steps("steps()", total_steps) or self.total_steps
        if self.total_steps is None:
            raise UsageError("How many steps? Give total_steps to open_run() or to steps().")
        if self._epochs_only:
            raise UsageError(
                "steps() has no epochs to save by, so nothing would be saved: add steps or time, such as save='10m'."
            )
        self._begin(own_loop=True)
        self._parts.restore_generators()
        self._validate_what_was_cut()
        while self.step < self.total_steps and not self._ended_early:
            self._leave_if_over()
            self._enter_step()
            yield self.step
            self._finish_step()
        self._save("final", must=True)

    def batches(self, loader: Any, epochs: int, accumulate: int = 1) -> Iterator[Any]:
        """Yield the batches of several epochs, from the batch after the last committed one.

        A step is an optimizer update: with `accumulate` batches to a step, `update_due` says when to update; the last batch of
        an epoch always completes one. `epoch_end` is true in the last batch's body: validate there. The session's end and
        `break` are as in `steps`.

        Args:
            loader: an outlast.DataLoader, a torchdata StatefulDataLoader, or anything that is iterated once an epoch and has a
                state_dict that tells its position. It is tracked as "data" unless it is tracked already. Where it has no len(), one
                batch is taken ahead, to know the last. set_epoch(epoch), from 0, is called where it exists.
            epochs: epochs in all.
            accumulate: batches per optimizer update.

        Raises:
            StateError: the loader cannot say where it is.
            ResumeRefused: in the middle of an epoch, it is another loader than the checkpoint's.
            DataError: it has no batches, or more or fewer than len() says.
            SessionEnded: as in `steps`.
        """
        for name, value in (("accumulate", accumulate), ("epochs", epochs)):
            if not isinstance(value, int) or not 1 <= value <= LARGEST:
                what = "the batches of one optimizer update" if name == "accumulate" else "the epochs of the run"
                raise UsageError(
                    f"{name} is {terminal.number(value)}; it counts {what} and is a whole number of at least 1."
                )
        if self.total_steps is not None:
            raise UsageError(
                "total_steps and batches() both say how long the run is; leave total_steps out of open_run()."
            )
        if not self._parts.tracks(loader):
            self.track(data=loader)
        feed = self._feed = Feed(loader, self._loader_facts)
        self._begin_epochs(feed, epochs, accumulate)
        self._validate_what_was_cut()
        try:
            while self._loop[0] < epochs and not self._ended_early:
                if feed.open(*self._loop):
                    yield from self._epoch(feed, accumulate)
                self._loop = [self._loop[0] + 1, 0]
        finally:
            feed.release()
        self.total_steps = self.step if self.total_steps is None else self.total_steps
        self.epoch, self.epoch_end = None, False
        self._save("final", must=True)

    def begin(self, total_steps: int | None = None) -> None:
        """Start a loop that outlast does not run (ultralytics, Lightning, Hugging Face).

        Call it after `track`; then call `after_step` from that framework's own extension point after every step, and leave the loop
        when it returns True. The loop counts on from `run.step`. With a save policy by epochs alone, it is saved every 15 minutes as well,
        because such a loop may never say that an epoch has ended.

        Args:
            total_steps: steps in all, if known; it decides whether the run is finished.

        Raises:
            UsageError: a loop began already in this attempt.
        """
        self.total_steps = opening.steps("begin()", total_steps) or self.total_steps
        if self._epochs_only:
            self._saver.save_by_time(LONGEST)
            self._epoch_awaited = now()
        self._begin(own_loop=False)
        self._counted = self.step
        self._parts.restore_generators()
        self._validate_what_was_cut()

    def after_step(self, step: int | None = None, *, epoch_ended: int | bool | None = None, **metrics: Any) -> bool:
        """Do all that `steps` does after its body, in a loop that outlast does not run.

        The step is counted, its metrics logged, and it is saved if the save policy says so: by steps, time, epochs or a new best. When the
        session must end, or all steps are done, the state is saved here and now. Call it where the framework has finished the step:
        parameters updated, schedulers moved on, the next batch not fetched yet.

        Args:
            step: steps (optimizer updates) done; one more than before when not given.
            epoch_ended: whether this step was the last of its epoch; or the number of that epoch, counted from 1. save="1 epoch" needs it.
            **metrics: as in `log`.

        Returns:
            True: leave the loop. The with-block then ends with SessionEnded and exit code 75, or well when all steps are done.

        Raises:
            UsageError: begin() was not called; outlast runs the loop itself; or a step that is done already.
            SaveFailed: the last save of the session could not be written.
        """
        if not self._begun or self._own_loop:
            raise UsageError(
                "after_step() was called inside steps() or batches(), which do all of it themselves: leave it out."
                if self._begun
                else "after_step() was called before run.begin(): call begin() once, before the framework's loop."
            )
        done = (
            (self.step if self.step > self._counted else self.step + 1)
            if step is None
            else self._check_step("after_step", step)
        )
        if done <= self._counted:
            raise UsageError(
                f"after_step() was given step {done} and counts it already: the run is at step {self._counted}. Let the loop count on from run.step, and "
                "call after_step() once a step."
            )
        ended = self._epoch_number(epoch_ended)
        self._set_step(done)
        self._counted = done
        if metrics:
            self.log(metrics)
        self._await_epochs(epoch_ended)
        self._finish_step(epoch_ended=ended)
        if self.finished or self._over():
            self._save("final" if self.finished else self.session.reason or "budget", must=True)
            return True
        self._parts.begin_step()
        return False

    def validate(self, function: Callable[[], Mapping[str, Any] | None], every: str = "1 epoch") -> None:
        """Have a validation done between two steps, such that a stop may break it off.

        `function()` is called after a step is done, its metrics are logged at that step and count for the best checkpoint. Where it
        iterates `run.evaluate(loader)`, or asks `run.should_stop()`, it hears that the session must end; the state is then saved as it was
        when the validation began, and the next attempt begins with this validation. What it changes for a while (averaged weights, eval
        mode) it puts back in a `finally`.

        Args:
            function: takes nothing and returns metrics, name -> number; or nothing.
            every: "1 epoch", "500 steps", or both with a comma.

        Raises:
            UsageError: there is one already; the loop has begun; or another interval.
        """
        self._check_early("validate() was called")
        if self._validation:
            raise UsageError("validate() was called twice; a run has one validation, which may do several things.")
        self._validation = Validation(function, every)

    def evaluate(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of a validation; ends the session in the middle of it when that must be.

        A loader of ours gives the batches of its first epoch every time. Inside the function of `validate` nothing is lost. In the body of a
        loop the step is not done yet, so the next attempt goes on from the last save. With several ranks, whose loaders may differ in
        length, a validation is not broken off.

        Raises:
            SessionEnded: the session must end.
        """
        for batch in from_its_beginning(loader):
            if self._heard_inside():
                self._heard = True
                raise self._leave(SessionEnded(self.session.reason or "budget"), inside=self._validating)
            yield batch

    def log(self, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
        """Add a line to the journal. Whatever is logged, training goes on: what cannot be kept is told once and left out.

        Args:
            metrics: name -> value, as W&B takes them; or give them as keywords.
            step: the step it belongs to, in a loop that outlast does not run; elsewhere it is known.
            **named: name=number; tensors and arrays of one element are read. None and text are kept, and no curve shows them.

        Raises:
            UsageError: the loop has not begun.
        """
        if not self._begun:
            raise UsageError("log() was called before the loop began: log inside the loop, or after it.")
        if os.getpid() != self._process:
            self._check_ours()
        if metrics:
            named = {**metrics, **named}
        if step is not None and step != self.step:
            if self._own_loop or not _is_step(step) or step < self.step:
                named["step"] = step  # the journal keeps it as a metric and says so
            else:
                self._set_step(int(step))
        numbers = self._journal.append(self.step, named, self.epoch)
        while self._journal.complaints:
            self._tell("warning", self._journal.complaints.pop(0))
        self._metrics |= numbers
        self._last_metrics |= numbers
        if self._log_heard:
            place = {"step": self.step} | ({} if self.epoch is None else {"epoch": self.epoch})
            self._shown.send("logged", place | numbers)
        if not self._own_loop and not self._validating and (clock := time.perf_counter()) - self._tick >= _TICK:
            self._saver.check(clock)
            self._show_progress(clock)

    def save(self, *, step: int | None = None) -> None:
        """Save at the end of the running step; at once in a loop that outlast does not run.

        Args:
            step: steps done, in a loop that outlast does not run.

        Raises:
            SaveFailed: in such a loop, the checkpoint could not be written.
            UsageError: the loop has not begun; or such a loop does not say that it came further.
        """
        if self._in_step:
            self._saver.asked = True
            return
        if not self._begun:
            raise UsageError(
                "save() was called before the loop began: call run.begin() first, or save inside run.steps()."
            )
        if step is not None:
            self._set_step(self._check_step("save", step))
        if step is None and not self._own_loop and self.step == max(self._saver.saved_step, 0):
            raise UsageError(
                f"save() was called and the step is still {self.step}: say how far the loop is, with run.save(step=...)."
            )
        self._save("asked", must=True)

    @contextlib.contextmanager
    def artifact(self, name: str) -> Iterator[Path]:
        """A path to write a named output to, a file or a folder; it gets its name when the block ends without an error.

        Args:
            name: a file name, such as "confusion.png"; folders in it are made.
        """
        if not self._ranks.main:
            with tempfile.TemporaryDirectory() as folder:  # written and dropped: rank 0 keeps its own
                yield Path(folder) / Path(name).name
            return
        base = self._results / self.id if self._results else self._files.artifacts
        target = base / name
        if not target.resolve().is_relative_to(base.resolve()):
            raise UsageError(
                f"An artifact named {name!r} would lie outside {base}; use a name without '..' or a leading slash."
            )
        durable.make_folder(target.parent)
        temporary = target.with_name(f"{layout.TEMPORARY}{target.name}")
        durable.remove_any(temporary)
        try:
            yield temporary
            if target.is_dir():
                durable.remove_folder(target)
            durable.sync_file(temporary)
            durable.move(temporary, target)
        finally:
            durable.remove_any(temporary)

    def tell(self, sentence: str) -> None:
        """Say something to whoever watches: on the screen and in the attempt's record."""
        self._tell("info", sentence)

    def load_best(self, *names: str) -> int:
        """Load the weights of the best checkpoint into what is tracked, after training: best by `keep`'s metric, at its own step.

        Args:
            *names: tracked names to load; by default every tracked object that has parameters, so no optimizer.

        Returns:
            The step of that checkpoint.

        Raises:
            UsageError: the run is not at its end, has no metric, or tracks no network.
            UnknownName: a name is not tracked, or no checkpoint logged the metric.
            CorruptCheckpoint: the checkpoint does not verify.
        """
        if not (self._ended or (self.finished and not self._in_step and self._saver.saved_step == self.step)):
            raise UsageError(
                "load_best() was called while the run goes on: what it loads would be saved as the newest state. Call it when the loop has "
                "reached its last step, or after the with-block."
            )
        return best.load_best(self._store, self._parts, names)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the run was ended early for good."""
        return (
            self._begun
            and not self._cut
            and (self._ended_early or (self.total_steps is not None and self.step >= self.total_steps))
        )

    def __enter__(self) -> Self:
        if self._ended:
            raise UsageError(f"This attempt at {self.id} has ended; call open_run() again for the next one.")
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._process:
            return  # a forked child that leaves the block; the run is its parent's
        left = error if error is not None else self._complete()
        failed = self._close(left)
        if failed and (left is None or isinstance(left, SessionEnded) or isinstance(failed, KeyboardInterrupt)):
            raise failed
        if isinstance(left, SessionEnded) and ending.interactive():
            raise ending.in_a_cell(left, self._how_to_go_on(left)) from None
        if left is not None and left is not error:
            raise left

    def close(self) -> None:
        """End the attempt as the end of a with-block does."""
        self.__exit__(None, None, None)

    # opening ---------------------------------------------------------------------------------------------------

    def _open(self, note: str | None) -> None:
        try:
            told = self._ranks.together("opening the run", self._open_folder)
            if self._ranks.several:
                self._presence.show()
            self._open_newest([*([("info", note)] if note else []), *told])
        except BaseException:
            self._presence.hide()
            self._lock.release()
            raise

    def _take_lock(self) -> str | None:
        try:
            return self._lock.take(f"an attempt begun {time.strftime('%H:%M:%S')}")
        except RunBusy as error:
            if (lock.holder(self._files.lock) or {}).get("pid") != os.getppid():
                raise
            raise RunBusy(
                f"{self.folder} is held by the process that started this one ({os.getppid()}), so this is one of its helpers, such as a data loader's "
                "worker that runs the script once more: put the script's own lines under `if __name__ == '__main__':`."
            ) from error

    def _open_folder(self) -> list[tuple[str, str]]:
        """Make the folder this attempt's own; returns what the user should hear."""
        folder = self._files
        if not self._ranks.main:
            self._attempt = Attempt(folder, 0, {"told": []}, kept=False)
            return []
        try:
            durable.make_folder(folder.path)
        except OSError as error:
            raise UsageError(
                f"The run folder {folder.path} cannot be made: {error.strerror}. Give open_run another root, or OUTLAST_ROOT."
            ) from error
        taken = self._take_lock()
        self._presence.wait_for_others(_ORPHANS)
        strange = folder.check()
        for place in (folder.path, folder.artifacts):
            durable.sweep_temporaries(place)
        asked = self._asked.begin_from
        brought = bring_home(folder, [*self.session.environment.inputs, *opening.copies(asked, folder)])
        begun = opening.begin(asked, folder)
        self._store.identity = know(folder, {key: self._about[key] for key in ("recipe", "grade")})
        self._attempt = Attempt.begin(folder, outlast.__version__, self.session.environment.record())
        self._store.sweep()
        warnings = [*([taken] if taken else []), *strange]
        notes = [*brought.told, *([begun] if begun else []), *self._asked.ignored]
        return [*(("warning", words) for words in warnings), *(("info", words) for words in notes)]

    def _open_newest(self, told: list[tuple[str, str]]) -> None:
        try:
            opened, damaged = self._store.open_newest()
        except OutlastError as error:
            self._attempt.end("failed", 0, None, f"{type(error).__name__}: {error}")
            raise
        self._store.history = self._history(opened)
        self._parts = Parts(opened, self._ranks)
        self._mark: Mapping[str, Any] | None = None
        self._software_before: Mapping[str, Any] | None = None
        self._loader_facts: Mapping[str, Any] | None = opened.state.get("batches") if opened else None
        if opened:
            self.step = self._saver.saved_step = self.resumed_from = opened.checkpoint.step
            self._loop = list(opened.state["loop"])
            self._mark = opened.state["journal"]
            self._pending = pending_of(opened.state)
            self._metrics_before = opened.checkpoint.metrics
            self._cut = self._pending is not None
            self._software_before = opened.checkpoint.manifest["software"]
        self._ended_early = False
        for level, sentence in told:
            self._tell(level, sentence)
        for damage in damaged if self._ranks.main else ():
            self._tell(
                "warning",
                f"{damage} It is set aside in {self._files.set_aside}, and step {self.step} is used instead.",
            )

    def _history(self, opened: Opened | None) -> History | None:
        """What this attempt's manifests say of where they come from; rank 0 writes them."""
        if self._store.identity is None:
            return None
        continued = opened.checkpoint.manifest if opened else None
        return History.following(self._store.identity.uid, self._attempt.record["id"], continued)

    def _begin(self, *, own_loop: bool) -> None:
        """Everything is known and nothing of the run was touched yet: check it, then begin to write."""
        if self._begun:
            raise UsageError("steps(), batches() or begin() was called already in this attempt; a run has one loop.")
        self._parts.check_complete()
        if not self._feed:
            self._inexact += self._parts.look_at_loaders()
        verdict = self._ranks.together("comparing what was loaded", self._parts.verify)
        self._parts.watch()
        software = state.software() | {"ranks": self._ranks.count}
        self._ranks.together("beginning the loop", lambda: self._saver.begin(self._parts, software))
        self._begun, self._own_loop = True, own_loop
        ended_early = self._attempt.ended_early(self.step, self.total_steps)
        self._ended_early = bool(self._ranks.exchange("beginning the loop", ended_early)[0][0])
        complaint = self._journal.rewind(self._mark, self.step)
        if self._software_before is not None:
            self._judge(self._software_before, software, verdict)
        self._tell_notes()
        self._write_config()
        self._attempt.record |= {"software": software, "trained": True, "total_steps": self.total_steps}
        self._attempt.record |= best.record_of(self._store.retention)
        self._attempt.write()
        if complaint:
            self._tell("warning", complaint)
        for sentence in self._parts.changed_orders():
            self._tell("info", sentence)
        if self.total_steps is not None and self.step > self.total_steps:
            self._tell(
                "warning",
                f"{self.step} steps are done and only {self.total_steps} are asked for: there is nothing left to train.",
            )
        self._log_heard = self._shown.listens("logged")
        for sentence in self.session.listen():
            self._tell("warning", sentence)
        if self._agreement:
            self._agreement.after(self.step, None, at_once=True)
            if not own_loop:
                self.should_stop = self._agreement.should_stop_now
        self._shown.send("started", self.id, self._attempt.number, self.step, self.total_steps)
        self._step_clock = time.perf_counter()

    def _write_config(self) -> None:
        if self._config is None or not self._ranks.main:
            return
        durable.write_json(self._files.config, self._config.record())
        self._attempt.record["changes"] = [str(change) for change in self._config.changes]
        for change in self._config.changes:
            self._tell(*change.sentence)
        self._shown.sinks += [CsvView(path, self._files.journal) for path in _csv_paths(self._config.config, self.id)]

    def _judge(self, before: Mapping[str, Any], after: Mapping[str, Any], verdict: Verdict) -> None:
        """Say, and record, whether the continuation can be the same to the last bit."""
        for sentence in verdict.repaired:
            self._tell("info", sentence)
        before = {"ranks": 1, **before}
        keys = sorted(before.keys() | after.keys())
        different = [
            f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}"
            for key in keys
            if before.get(key) != after.get(key) and (key != "seed" or {key} <= before.keys() & after.keys())
        ]
        if state.uses_gpu(after) and not self._about["deterministic"]:
            different.append("a GPU without deterministic kernels (deterministic=True, or --deterministic)")
        if self._parts.sums_in_another_order:
            different.append("DistributedDataParallel over three ranks or more without find_unused_parameters=True")
        different += self._inexact
        if different:
            self._tell("info", f"continues, though not to the last bit: {'; '.join(different)}")
        if unlike := self._of_all_ranks(verdict.differences):
            self._tell(
                "warning",
                f"What was loaded is not what the checkpoint holds, so this resume is not exact: {'; '.join(unlike)}",
            )
            different += unlike
        different += self._parts.changed_orders()
        if self._config:
            different += [str(change) for change in self._config.changes if change.rule == "warns"]
        self._attempt.record["resume"] = {
            "step": self.step,
            "grade": "not to the last bit" if different else self._about["grade"],
            "differences": different,
        }

    def _of_all_ranks(self, words: list[str]) -> list[str]:
        """The sentences of all ranks, each once."""
        if not self._ranks.several:
            return words
        found = [
            json.loads(each) for each in self._ranks.gather("comparing what was loaded", json.dumps(words).encode())
        ]
        return list(dict.fromkeys(word for each in found for word in each))

    def _tell_notes(self) -> None:
        notes, self._parts.notes = self._parts.notes, []
        for sentence in notes:
            self._tell("warning", sentence)

    # the loop --------------------------------------------------------------------------------------------------

    def _enter_step(self, epoch: int | None = None) -> None:
        self._metrics = {}
        self._parts.begin_step()
        self.epoch = epoch
        self.step += 1
        self._in_step = True

    def _finish_step(self, *, epoch_ended: int | None = None, again: bool = False) -> None:
        missing = [] if again else self._parts.not_offered(self._done_here)
        if missing:
            raise UsageError(
                f"Step {self.step} ended without run.offer({missing[0]}): offer the state in every step; it is copied only when a "
                "save is due."
            )
        if self._validation and self._validation.due(self.step, epoch_ended):
            self._validate(self._validation, epoch_ended)
        self._in_step = False
        clock = time.perf_counter()
        self._check_ours(_LOOK)
        self._saver.check(clock)
        took, self._step_clock = clock - self._step_clock, clock
        # The first step of an attempt compiles and warms up; it says nothing of the next.
        if self._done_here and self.session.observe_step(took):
            self._seconds_per_step = 0.95 * self._seconds_per_step + 0.05 * took if self._seconds_per_step else took
        self._done_here += not again  # a validation that is done again is no step further
        if self.step != self.total_steps:  # the last step is saved as "final"
            reason = self._saver.due(self.step, epoch_ended, self._metrics, clock)
            if self._agreement:
                known = reason in ("epoch", "steps")  # by all ranks, without asking
                at_once = epoch_ended is not None  # when a best is known that all may want to save
                agreed = self._agreement.after(self.step, None if known else reason, at_once=at_once)
                reason = reason if known else agreed
            if reason and not self._stopping():  # else the save of the session's end is next
                self._save(reason)
        else:
            reason = "final"
        if epoch_ended is not None or (reason and not self.epoch and (self._validated or not self._validation)):
            self._tell_of_a_best_never_logged()
        if epoch_ended is not None:
            self._shown.send("epoch_ended", epoch_ended)
        if clock - self._tick >= _TICK or self.step == self.total_steps:
            self._show_progress(clock)

    def _tell_of_a_best_never_logged(self) -> None:
        """Once, when a first epoch or a first save has gone by: a name that nobody logs keeps no best checkpoint."""
        keep = self._store.retention
        if self._told_of_best or not keep.metric or keep.metric in self._last_metrics:
            return
        self._told_of_best = True
        if self._store.best is not None:
            return
        names = sorted(self._last_metrics)
        logged = ", ".join(terminal.shortened(name, 60) for name in names[:12]) or "nothing"
        self._tell(
            "warning",
            f"The best checkpoint is kept by {keep.metric!r}, which no step has logged so far; logged are: {logged}.{nearest(keep.metric, names)}",
        )

    def _stopping(self) -> bool:
        """Whether a stop is heard; with several ranks, whether they have agreed on one."""
        return self._agreement.should_stop() if self._agreement else self.session.should_stop()

    def _over(self) -> bool:
        """Whether the session ends between these two steps. Time alone never ends it before one step is done: a run must get further."""
        return self._stopping() and (self._done_here > 0 or self.session.reason != "budget")

    def _leave_if_over(self) -> None:
        if self._over():
            self._save(self.session.reason or "budget", must=True)
            raise self._leave(SessionEnded(self.session.reason or "budget"))

    # validation ------------------------------------------------------------------------------------------------

    def _validate(self, validation: Validation, epoch_ended: int | None) -> None:
        before, metrics, ask = Before(self._parts, self._journal), dict(self._metrics), self.should_stop
        self._validating, self._heard = True, False
        if not self._agreement:
            self.should_stop = self._asked_inside
        try:
            found = validation.function()
            if isinstance(found, Mapping) and not self._heard:
                self.log(found)
        except SessionEnded:
            self._heard = True
        finally:
            self._validating, self.should_stop = False, ask
        if not self._heard:
            self._validated = True
            return
        self._in_step, self._metrics, self._cut = False, metrics, True
        ended = SessionEnded(self.session.reason or "budget")
        if changed := before.restore():
            self._tell(
                "warning",
                f"The validation of step {self.step} was broken off and left {', '.join(changed)} otherwise than it was before it, so the step is not "
                "saved. Put back what it changes in a `finally`.",
            )
        else:
            pending = {PENDING: {"epoch_ended": epoch_ended, "epoch": self.epoch}}
            self._step_clock += self._saver.save(self.step, self._loop, ended.reason, metrics, must=True, more=pending)
        raise self._leave(ended)

    def _validate_what_was_cut(self) -> None:
        """The validation that the attempt before broke off, before anything else."""
        if not (pending := self._pending):
            return
        self._pending, self._cut = None, False
        if not self._validation:
            self._tell(
                "warning",
                f"The validation of step {self.step} was broken off by the attempt before, and this program has none, so it is left out. Give it to "
                "run.validate().",
            )
            return
        self.epoch, self._metrics = pending.get("epoch"), dict(self._metrics_before)
        self._finish_step(epoch_ended=pending.get("epoch_ended"), again=True)

    def _heard_inside(self) -> bool:
        if self._agreement or not self.session.should_stop():
            return False
        return (
            self._done_here > 0 or self.session.reason != "budget" or self._in_step
        )  # as in _over; a step's update is one

    def _asked_inside(self) -> bool:
        """`should_stop` while the validation runs: whoever hears yes leaves it unfinished."""
        self._heard = self._heard or self._heard_inside()
        return self._heard

    def _await_epochs(self, ended: object) -> None:
        """Say it once when a save policy by epochs never hears of epochs."""
        if self._epoch_awaited is None:
            return
        if ended is not None:  # False as well: the loop knows the argument
            self._epoch_awaited = None
        elif self._done_here + 1 >= _PATIENT_STEPS or now() - self._epoch_awaited > _PATIENT_SECONDS:
            self._epoch_awaited = None
            self._tell(
                "warning",
                f"save= is by epochs alone, and the first {self._done_here + 1} calls of after_step() came without epoch_ended=, so no epoch is known to end "
                f"and the run is saved every {LONGEST / 60:.0f} minutes only. Give after_step() epoch_ended=True with the last step of an epoch and "
                'False with the others, or add time or steps to save=, such as "10m, 1 epoch".',
            )

    def _epoch_number(self, ended: Any) -> int | None:
        """The number of the epoch that a foreign loop says has ended, if it says so; the position remembers it."""
        if ended is None or ended is False:
            return None
        number = self._loop[0] + 1 if ended is True else ended
        if not _is_step(number) or number < 1:
            raise UsageError(
                f"after_step() was given epoch_ended={terminal.number(ended)}; expected True, or the number of the epoch that has ended, counted from 1."
            )
        self._loop = [int(number), 0]
        return int(number)

    def _begin_epochs(self, feed: Feed, epochs: int, accumulate: int) -> None:
        """Compare the loader with the checkpoint's, stand at the run's place in it, and begin."""
        epoch, done = self._loop
        told = feed.compare(accumulate, epoch, done)
        self._inexact += feed.inexact(done, self._parts.things)
        again = functools.partial(self._parts.load_once_more, feed.loader)
        told += feed.begin(epoch, done, reload=again, leave=self._gives_up_waiting)
        if feed.per_epoch is None:
            self._parts.substitute(feed.loader, feed)
        elif done == feed.per_epoch:  # left in the last batch of an epoch
            self._loop = [epoch + 1, 0]
        epoch, done = self._loop
        left = 0 if epoch >= epochs else None
        if feed.per_epoch is not None and left is None:
            # Counted from here: a resume may have changed the batch size at the end of an epoch.
            left = -(-(feed.per_epoch - done) // accumulate) + (epochs - epoch - 1) * -(-feed.per_epoch // accumulate)
        self.total_steps = None if left is None else opening.steps("batches()", self.step + left)
        self._saver.batches = feed.facts(accumulate)
        self._begin(own_loop=True)
        for sentence in told:
            self._tell("info", sentence)
        self._parts.restore_generators()

    def _epoch(self, feed: Feed, accumulate: int) -> Iterator[Any]:
        """The batches of one epoch, from the next one on, and the steps that they make."""
        self._gathered, self.epoch_end = 0, False
        while not self.epoch_end:
            if not self._in_step:
                self._leave_if_over()
                self._enter_step(epoch=self._loop[0] + 1)
                self._gathered = 0
            try:
                batch, self.epoch_end = feed.take()
            except Interrupted:  # in a step that has not begun
                self.step, self._in_step = self.step - 1, False
                self._leave_if_over()
                raise
            self._loop[1] += 1
            self._gathered += 1
            self.update_due = self.epoch_end or self._gathered == accumulate
            yield batch
            if self.epoch_end:
                feed.finish()
                self._loop = [self._loop[0] + 1, 0]
                self._finish_step(epoch_ended=self._loop[0])
                self._loop[0] -= 1  # until the loop goes on
            elif self.update_due:
                self._finish_step()

    def _gives_up_waiting(self) -> bool:
        """Whether to leave while the loop waits for the first batch of a step. Several ranks leave together, so none does it alone."""
        if self._agreement or self._gathered or not self._in_step or not (self._feed and self._feed.may_leave):
            return False
        return self.should_stop() and bool(self._done_here or self.session.reason != "budget")

    def _show_progress(self, clock: float) -> None:
        self._tick = clock
        facts = Progress(
            step=self.step,
            total=self.total_steps,
            epoch=self.epoch,
            rate=1 / self._seconds_per_step if self._seconds_per_step else 0.0,
            metrics=self._last_metrics,
            seconds_left=self.session.seconds_left,
            next_save=self._saver.next_save,
        )
        self._shown.send("progressed", facts)

    def _set_step(self, step: int) -> None:
        if step != self.step:
            self._metrics = {}
            self.step = step

    def _check_step(self, call: str, step: Any) -> int:
        """A step that a foreign loop says it has done."""
        if self._own_loop:
            raise UsageError(
                f"{call}() was given step {terminal.number(step)} while step {self.step} runs; steps() and batches() count by themselves: leave it out."
            )
        if not _is_step(step):
            raise UsageError(
                f"{call}() was given step {terminal.number(step)}; expected the whole number of steps done, of at most 2**62."
            )
        if step < self.step:
            raise UsageError(
                f"{call}() was given step {step} and the run is at step {self.step} already: a run never goes back. Let the loop count on from "
                "run.step, which is the step of the checkpoint that this attempt continues."
            )
        return int(step)

    def _check_ours(self, pause: float = 0.0) -> None:
        """Refuse to write as a forked child, or when another machine has taken the run over while this process was stopped.

        Args:
            pause: seconds since the last look that are no reason for another.
        """
        if os.getpid() != self._process:
            raise UsageError(
                f"The run {self.id} belongs to the process that opened it ({self._process}), and this is a forked child of it: log, save and train there."
            )
        if now() - self._lock_checked < pause or not self._ranks.main:
            return
        self._lock_checked = now()
        if not self._lock.ours():
            raise RunBusy(
                f"Another attempt has taken over {self.folder} while this process was stopped or its machine asleep, so this one ends and writes nothing. "
                "What it did since its last checkpoint is done again there."
            )

    def _save(self, reason: str, *, must: bool = False) -> None:
        self._check_ours()
        # The save is no part of the step that follows it.
        self._step_clock += self._saver.save(self.step, self._loop, reason, self._metrics, must=must)
        if self._parts.notes:
            self._tell_notes()

    # closing ---------------------------------------------------------------------------------------------------

    def _complete(self) -> BaseException | None:
        """What the end of the with-block without an error means: finished, stopped, or nothing at all."""
        if not self._begun or self._ended:
            return None
        try:
            if self._in_step and (not self.update_due or self._parts.not_offered(self._done_here)):
                self.step -= 1  # left in the middle of a step that changed nothing yet
                self._put_back()
            self._in_step = False
            if self._agreement and not self.finished:  # one rank may have heard of an end that the others have not
                self._agreement.after(self.step, None, at_once=True)
            stopped = self.session.reason if not self.finished else None
            self._save(stopped or "final", must=True)
        except BaseException as error:  # noqa: BLE001 - the attempt ends in every case, and then it is raised
            return error
        return SessionEnded(stopped) if stopped else None

    def _close(self, error: BaseException | None, reason: str | None = None) -> BaseException | None:
        """Write down how the attempt ended and let go of everything, whatever fails; returns the first failure."""
        if self._ended:
            return None
        self._ended = True
        lost = self._ranks.main and not self._lock.ours()  # to another machine: what lies there is its own now
        failed = ending.each(lambda: self._saver.close(abandon=lost or isinstance(error, KeyboardInterrupt)))
        if failed:  # interrupted while it waited for the disk: the save under way is given up
            ending.each(lambda: self._saver.close(abandon=True))
        reason = reason or ending.reason_of(error)
        if error is None and not self._begun:
            reason = self._attempt.reason_before or "cancelled"  # opened to look at: nothing has changed
        self.session.patient = True  # the next few file operations are not broken off
        unrecorded = ending.each(
            lambda: self._say_what_is_lost(reason),
            *(
                []
                if lost
                else [lambda: self._write_end(reason, terminal.words_of(error) if reason == "failed" else None)]
            ),
        )
        self.session.patient = False
        failed = failed or unrecorded
        failed = failed or ending.each(
            lambda: self._shown.send("ended", reason, self.step, self.total_steps), lambda: self._shown.send("closed")
        )
        self.session.patient = True
        released = ending.each(self._presence.hide, self._lock.release, self.session.close, self._parts.close)
        _held.pop(self._place, None)
        return failed or released

    def _put_back(self) -> None:
        """Batches that were gathered for a step that is not made are to come again."""
        if not self._feed or not self._gathered or self.update_due:
            return
        done = self._loop[1] - self._gathered
        if self._feed.put_back(done):
            self._loop[1] = done
        else:
            self._tell(
                "warning",
                f"The loop was left {self._gathered} batches into a step, before its update. The loader cannot take them back, so a longer run would "
                "go on after them.",
            )

    def _say_what_is_lost(self, reason: str) -> None:
        if reason == "finished" and self.total_steps is not None and self._begun and self.step < self.total_steps:
            self._tell(
                "info",
                f"The loop was left at step {self.step} of {self.total_steps}, so the run counts as finished there; with another total it goes on.",
            )
        if reason != "finished" and self._begun and self._saver.saved_step < self.step:
            safe = (
                f"step {self._saver.saved_step} is safe and"
                if self._saver.saved_step > 0
                else "nothing had been saved, so"
            )
            self._tell("warning", f"{safe} what came after it will be done again by the next attempt.")

    def _write_end(self, reason: str, words: str | None) -> None:
        """The journal's last lines and the attempt's end.

        Raises:
            SaveFailed: one of them could not be written.
        """
        signal = self.session.signal if reason == self.session.reason else None
        end = functools.partial(self._attempt.end, reason, self.step, self.total_steps, words, signal=signal)
        failure = ending.each(*([self._journal.seal, self._journal.flush] if self._begun else []), end)
        if failure:
            why = failure.strerror if isinstance(failure, OSError) else terminal.words_of(failure)
            sentence = (
                f"How this attempt ended ({reason} at step {self.step}) could not be recorded: {why}. Its last checkpoint is intact. Free disk space "
                f"below {self.folder} and start the run again."
            )
            self._shown.send("told", "warning", sentence)
            raise SaveFailed(sentence) from failure

    def _how_to_go_on(self, ended: SessionEnded) -> str:
        of = f" of {self.total_steps}" if self.total_steps is not None else ""
        return (
            f"the run {self.id} is not finished; it is saved at step {max(self._saver.saved_step, 0)}{of} ({self.session.explanation or ended.reason}). "
            "Run this cell again to go on."
        )

    def _leave(self, ended: SessionEnded, *, inside: bool = False) -> BaseException:
        """What the loop raises; a run outside a with-block ends here and now, unless it is inside something that does more."""
        if self._entered or inside:
            return ended
        return self._close(ended) or ending.in_a_cell(ended, self._how_to_go_on(ended))

    def _give_way(self) -> str:
        """End this attempt because its own process opens the run anew; returns a sentence about it."""
        reason = "finished" if self.finished else "cancelled"
        self._close(None, reason)
        return f"attempt {self._attempt.number} was left open by this process at step {self.step}; it is recorded as {reason}, and this one takes over"

    def _check_early(self, words: str) -> None:
        if self._begun:
            raise UsageError(f"{words} after the loop began; call track() and restore() before it.")

    def _tell(self, level: str, sentence: str) -> None:
        sentence = terminal.clean(sentence)
        self._attempt.tell(sentence)
        self._shown.send("told", level, sentence)


def _is_step(step: Any) -> bool:
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= LARGEST


_held: dict[Path, Run] = {}
"""The runs that this process holds, by their folders."""


def _make_way(place: Path) -> str | None:
    """Let go of a run that this process left open without a with-block, as a cell does that is run again.

    Raises:
        RunBusy: it is inside a with-block that has not ended.
    """
    earlier = _held.get(place)
    if earlier is None or earlier._process != os.getpid():  # noqa: SLF001 - same module
        return None
    if earlier._entered:  # noqa: SLF001
        raise RunBusy(
            f"This process holds the run {place} already, in a with-block that has not ended. One run has one writer: leave that block first, or "
            "choose another name."
        )
    return earlier._give_way()  # noqa: SLF001


@atexit.register
def _end_what_is_open() -> None:
    """A script without a with-block ends: what became of its runs is written down, as far as it is known."""
    error = None if ending.interactive() else getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    for run in list(_held.values()):
        if run._process == os.getpid():  # noqa: SLF001
            run._close(error, None if error else "finished" if run.finished else "cancelled")  # noqa: SLF001


def _csv_paths(config: Any, run_id: str) -> Iterable[Path]:
    if config.log_csv:
        yield config.log_csv
    if config.log_dir:
        yield config.log_dir / f"{run_id}.csv"
