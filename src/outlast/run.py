"""The façade that a training script holds: one run, in one attempt.

Order of a start, because it decides what is exact: lock -> what other places hold -> records -> newest checkpoint that
verifies -> journal cut back to it -> [the script builds its model] -> `track` loads into it -> `steps` restores the random
generators last -> the first step.

Everything is saved between two steps and never in the middle of one.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import outlast
from outlast import files, places, state
from outlast.attempt import Attempt
from outlast.checkpoint import Opened, Retention, SavePolicy, Snapshot, Store
from outlast.config import Resolved
from outlast.config.units import parse_interval, parse_seconds
from outlast.environment import Environment, detect
from outlast.errors import DataError, OutlastError, ResumeRefused, SaveFailed, SessionEnded, StateError, UsageError
from outlast.files import RunFolder
from outlast.lock import Lock
from outlast.session import Session, now
from outlast.tracking import CsvView, Fanout, Journal, Progress, Sink
from outlast.tracking import progress as screens

RNG = "rng"
_RETRY = 60.0  # seconds until a failed save is tried again
_TICK = 0.2  # seconds between two progress events


def open_run(
    name: str,
    *,
    total_steps: int | None = None,
    root: str | Path = "runs",
    save: str = "5m",
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
) -> Run:
    """Open a run, new or begun earlier, for one attempt. Use it as a context manager.

    Args:
        name: the run's id and the name of its folder; the same name continues the same run.
        total_steps: steps in all; or give it to `steps`, or let `batches` count it.
        root: the folder that holds run folders.
        save: when to save besides the end of a session: "10m", "500 steps", "1 epoch", "10m, 1 epoch", "never".
        keep: which checkpoints to keep; the newest three by default.
        budget: time that this session may take: "11h30m", or seconds. The environment's own limit holds besides.
        reserve: time of it to keep back for the last save; reckoned from the size of the state when not given.
        config: resolved values, for config.json and the checks on resume.
        recipe: name of the recipe, for the records.
        grade: what the script promises of a resume: "exact", "statistical" or "restart-epoch".
        environment: where this runs; detected when not given.
        progress: "auto", "rich", "plain", "json" or "none".
        sinks: further receivers of events.
        deterministic: ask torch for kernels that give the same bits every time.
        results: folder for artifacts instead of the run folder's own.

    Raises:
        RunBusy: another live attempt writes this run.
        NoGoodCheckpoint: the run has checkpoints and none verifies.
        UsageError: a name, an interval or a budget that cannot be.
    """
    files.check_run_id(name)
    try:
        every = parse_interval(save)
        seconds, kept_back = parse_seconds(budget), parse_seconds(reserve)
    except ValueError as error:
        raise UsageError(
            f"open_run({name!r}): {error}; it was given save={save!r}, budget={budget!r}, reserve={reserve!r}."
        ) from error
    if deterministic:
        from outlast.state import torch

        torch.use_deterministic_kernels()
    environment = environment or detect()
    shown = Fanout([screens.choose(progress), *sinks])
    session = Session(
        environment, budget=seconds, reserve=kept_back, on_stop=lambda *facts: shown.send("stopping", *facts)
    )
    return Run(
        RunFolder(Path(root) / name),
        session,
        shown,
        save=SavePolicy(steps=every.steps, seconds=every.seconds, epochs=every.epochs),
        keep=keep or Retention(),
        about={"recipe": recipe, "grade": grade, "deterministic": deterministic},
        config=config,
        total_steps=total_steps,
        results=results,
    )


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
        should_stop: call it to ask whether the session must end; costs well under a microsecond.
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
    ) -> None:
        self.id = folder.path.name
        self.folder = folder.path
        self.session = session
        self.total_steps = total_steps
        self.should_stop = session.should_stop
        self.epoch: int | None = None
        self.epoch_end = False
        self.update_due = True
        self.resumed_from: int | None = None
        self._files, self._shown, self._about, self._results = folder, shown, about, results
        self._save_policy, self._keep = save, keep
        self._store = Store(folder, keep)
        self._lock = Lock(folder.lock)
        self._journal = Journal(folder.journal)
        self._tracked: dict[str, Any] = {}
        self._trees: dict[str, Any] = {}
        self._claimed: set[str] = set()
        self._loop = [0, 0]  # epochs done, batches of the running epoch done
        self._metrics: dict[str, Any] = {}  # of the running step, for retention
        self._last_metrics: dict[str, Any] = {}  # of any step, for the screen
        self._begun = self._asked = self._ended = self._in_step = False
        self._saved_step = -1
        self._total = 0
        self._finished_total: int | None = None
        self._warm, self._seconds_per_step, self._tick = False, 0.0, 0.0
        self._step_clock = self._save_clock = now()
        files.make_folder(folder.path)
        taken = self._lock.take(f"an attempt begun {time.strftime('%H:%M:%S')}")
        try:
            self._opened = self._open(config)
            if taken:
                self._tell("warning", taken)
        except BaseException:
            self._lock.release()
            raise

    # what a script calls ---------------------------------------------------------------------------------------

    def track(self, **parts: Any) -> None:
        """Save these objects with every checkpoint, and load them now when the run continues.

        Args:
            **parts: name=object with `state_dict()` and `load_state_dict()`: models, optimizers, schedulers, scalers, loaders.
                The random generators of Python, NumPy and torch are always included.

        Raises:
            StateError: an object has no usable state_dict, or its state cannot be saved without pickle.
            ResumeRefused: the checkpoint holds another kind of state under this name.
        """
        for name, thing in parts.items():
            self._claim(name)
            state.check_trackable(name, thing)
            if self._opened:
                node, arrays = self._stored(name, "object")
                state.load_object(name, thing, node, arrays)
            state.pack_object(name, thing)  # what cannot be saved is refused before the first step
            self._tracked[name] = thing

    def restore(self, initial: Any, name: str = "state") -> Any:
        """Return the pytree of the checkpoint, or the argument itself when there is nothing to restore.

        Args:
            initial: the initial state; its structure, shapes, dtypes and placement are what is restored into.
            name: the name of this state, when there are several.

        Raises:
            StateError: it holds something that cannot be saved without pickle.
            ResumeRefused: the checkpoint's state has another form.
        """
        self._claim(name)
        state.pack_tree(name, initial)
        if self._opened:
            node, arrays = self._stored(name, "tree")
            initial = state.unpack_tree(name, initial, node, arrays)
        self._trees[name] = initial
        return initial

    def offer(self, tree: Any, name: str = "state", **metrics: Any) -> None:
        """Hand over the state after this step, and log metrics. It is copied only when a save is due, before the next step.

        Raises:
            UsageError: no state of this name was restored before.
        """
        if name not in self._trees:
            raise UsageError(
                f"offer() was given {name!r} before restore(): call `state = run.restore(state)` before the loop."
            )
        self._trees[name] = tree
        if metrics:
            self.log(**metrics)

    def steps(self, total_steps: int | None = None) -> Iterator[int]:
        """Yield step numbers from the one after the last committed step up to the total.

        When the session must end before that, the state is saved and SessionEnded leaves the loop and the script, with exit
        code 75; so whatever stands after the loop belongs to a finished run.

        Raises:
            UsageError: no total was given, here or to `open_run`.
            SessionEnded: the session is over and the run is not.
        """
        self._begin(total_steps)
        self._restore_generators()
        while self.step < self._total:
            self._leave_if_over()
            self._enter_step()
            yield self.step
            self._finish_step()
        self._save("final", must=True)

    def batches(self, loader: Any, epochs: int, accumulate: int = 1) -> Iterator[Any]:
        """Yield the batches of several epochs, from the batch after the last committed one.

        A step is an optimizer update: with `accumulate` batches to a step, `update_due` says when to update; the last batch of
        an epoch always completes one. `epoch_end` is true in the last batch's body: validate there.

        Args:
            loader: an outlast.DataLoader, a torchdata StatefulDataLoader, or anything with len() and a state_dict that tells
                its position. It is tracked as "data" unless it is tracked already.
            epochs: epochs in all.
            accumulate: batches per optimizer update.

        Raises:
            StateError: the loader cannot say where it is.
            DataError: it ends before len() batches.
            SessionEnded: as in `steps`.
        """
        if accumulate < 1:
            raise UsageError(
                f"accumulate is {accumulate}; it counts the batches of one optimizer update and is at least 1."
            )
        if self.total_steps is not None:
            raise UsageError(
                "total_steps and batches() both say how long the run is; leave total_steps out of open_run()."
            )
        if all(thing is not loader for thing in self._tracked.values()):
            self.track(data=loader)
        per_epoch = len(loader)
        self._begin(epochs * -(-per_epoch // accumulate))
        # An iterator in the middle of an epoch may draw a seed that the uninterrupted run drew long ago: restore after it.
        iterator = iter(loader) if self._loop[1] else None
        self._restore_generators()
        while self._loop[0] < epochs and self.step < self._total:
            iterator = iterator or iter(loader)
            while self._loop[1] < per_epoch:
                if self._loop[1] % accumulate == 0:
                    self._leave_if_over()
                    self._enter_step(epoch=self._loop[0] + 1)
                yield self._next_batch(iterator, per_epoch, accumulate)
                self._after_batch(iterator, per_epoch)
            self._loop = [self._loop[0] + 1, 0]
            iterator = None
        self.epoch, self.epoch_end = None, False
        self._save("final", must=True)

    def begin(self, total_steps: int | None = None) -> None:
        """Start a loop that outlast does not run (ultralytics, Lightning, Hugging Face).

        Call it after `track`; then call `log`, `save` and `should_stop` from that framework's own extension point, and leave
        the loop when `should_stop()` says so.

        Raises:
            UsageError: a loop began already in this attempt.
        """
        self._begin(total_steps, own_loop=False)
        self._restore_generators()

    def log(self, *, step: int | None = None, **metrics: Any) -> None:
        """Add a line to the journal.

        Args:
            step: the step it belongs to, for loops that outlast does not run; the running step by default.
            **metrics: name=number; tensors and arrays of one element are read.

        Raises:
            UsageError: a metric is no number.
        """
        if step is not None:
            self.step = step
        record = self._journal.append(self.step, metrics, self.epoch)
        self._metrics.update({name: record[name] for name in metrics})
        self._last_metrics |= self._metrics
        self._shown.send("logged", record)

    def save(self, *, step: int | None = None) -> None:
        """Save at the end of the running step; at once in a loop that outlast does not run.

        Args:
            step: steps done, for loops that outlast does not run.

        Raises:
            SaveFailed: outside a step, the checkpoint could not be written.
        """
        if self._in_step:
            self._asked = True
            return
        if step is not None:
            self.step = step
        if not self._begun:
            raise UsageError(
                "save() was called before the loop began: call run.begin() first, or save inside run.steps()."
            )
        self._save("asked", must=True)

    @contextlib.contextmanager
    def artifact(self, name: str) -> Iterator[Path]:
        """A path to write a named output to; it appears under its name when the block ends without an error.

        Args:
            name: a file name, such as "confusion.png"; folders in it are made.
        """
        base = self._results / self.id if self._results else self._files.artifacts
        target = base / name
        if not target.resolve().is_relative_to(base.resolve()):
            raise UsageError(
                f"An artifact named {name!r} would lie outside {base}; use a name without '..' or a leading slash."
            )
        files.make_folder(target.parent)
        temporary = target.with_name(f"{files.TEMPORARY}{target.name}")
        try:
            yield temporary
            files.move(temporary, target)
        finally:
            if not temporary.is_dir():
                files.remove_file(temporary)

    def tell(self, sentence: str) -> None:
        """Say something to whoever watches: on the screen and in the attempt's record."""
        self._tell("info", sentence)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.total_steps is not None and self.step >= (self._total if self._begun else self.total_steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            error = self._complete()
            unrecorded = self._close(error)
            if unrecorded and not isinstance(error, OutlastError):
                raise unrecorded
            if error is not None and not (isinstance(error, SessionEnded) and _interactive()):
                raise error
            return False
        self._close(error)
        return isinstance(error, SessionEnded) and _interactive()

    def close(self) -> None:
        """End the attempt as the end of a with-block does."""
        self.__exit__(None, None, None)

    # opening ---------------------------------------------------------------------------------------------------

    def _open(self, config: Resolved[Any] | None) -> Opened | None:
        folder = self._files
        for place in (folder.path, folder.artifacts):
            files.sweep_temporaries(place)
        notes = places.bring_home(folder, self.session.environment.inputs)
        if folder.run.exists():
            files.check_format(files.read_json(folder.run), folder.run)
        else:
            files.write_json(
                folder.run,
                {"format": files.FORMAT, "id": self.id, "recipe": self._about["recipe"], "grade": self._about["grade"]},
            )
        self._attempt = Attempt.begin(folder, outlast.__version__, self.session.environment.record())
        self._store.sweep()
        opened, damaged = self._store.open_newest()
        self.step = opened.checkpoint.step if opened else 0
        complaint = self._journal.rewind(opened.state["journal"] if opened else None, self.step)
        if config:
            files.write_json(folder.config, config.record())
            self._attempt.record["changes"] = [str(change) for change in config.changes]
            self._shown.sinks += [CsvView(path, folder.journal) for path in _csv_paths(config.config, self.id)]
        for sentence in notes:
            self._tell("info", sentence)
        for error in damaged:
            self._tell(
                "warning", f"{error} It is set aside in {folder.set_aside}, and step {self.step} is used instead."
            )
        if complaint:
            self._tell("warning", complaint)
        for change in config.changes if config else ():
            self._tell(*change.sentence)
        end = _last_end(folder, self._attempt.number)
        if opened:
            if end.get("reason") == "finished" and end["step"] == self.step:
                self._finished_total = end["total_steps"]
            self._saved_step = self.resumed_from = self.step
            self._loop = list(opened.state["loop"])
        return opened

    def _claim(self, name: str) -> None:
        if self._begun:
            raise UsageError(f"{name!r} was tracked after the loop began; call track() and restore() before it.")
        if name in self._claimed or name == RNG:
            raise UsageError(f"The name {name!r} is taken; give each part of the state a name of its own.")
        self._claimed.add(name)

    def _stored(self, name: str, kind: str) -> tuple[Any, Mapping[str, Any]]:
        assert self._opened  # noqa: S101 - callers ask first
        entry = self._opened.state["parts"].get(name)
        if entry is None or entry["kind"] != kind:
            held = ", ".join(sorted(self._opened.state["parts"])) or "nothing"
            raise ResumeRefused(
                f"{name!r} is not in the checkpoint at step {self._opened.checkpoint.step}, which holds {held}. A run tracks the same "
                "parts in every attempt: leave it out, or begin a new run with --experiment_name."
            )
        return entry["state"], self._opened.parts.get(name, {})

    def _begin(self, total_steps: int | None, *, own_loop: bool = True) -> None:
        if self._begun:
            raise UsageError("steps() or batches() ran already in this attempt; a run has one loop.")
        if total_steps is not None:
            self.total_steps = total_steps
        if self.total_steps is None and own_loop:
            raise UsageError("How many steps? Give total_steps to open_run() or to steps().")
        self._total = self.total_steps or 0
        if self._finished_total is not None and self._finished_total == self.total_steps:
            self._total = self.step  # the script ended the run early and called that finished
        if not self._claimed:
            raise StateError(
                "Nothing is tracked, so nothing could be continued: call run.track(model=model, optimizer=optimizer, ...) or "
                "state = run.restore(state) before the loop."
            )
        self._begun = True
        software = state.software()
        if self._opened:
            unclaimed = sorted(self._opened.state["parts"].keys() - self._claimed)
            if unclaimed:
                raise ResumeRefused(
                    f"The checkpoint holds {', '.join(unclaimed)}, which this program does not track; going on would drop it. Track it, "
                    "or begin a new run with --experiment_name."
                )
            self._judge(self._opened.checkpoint.manifest["software"], software)
        self._software = software
        self._attempt.record["software"] = software
        self._attempt.write()
        self.session.observe_state(self._pack().nbytes, self._stored_bytes())
        self.session.listen()
        self._shown.send("started", self.id, self._attempt.number, self.step, self.total_steps)
        self._step_clock = self._save_clock = now()

    def _judge(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Say, and record, whether the continuation can be the same to the last bit."""
        different = [
            f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}"
            for key in before.keys() | after.keys()
            if before.get(key) != after.get(key)
        ]
        gpu = str(after.get("torch device", "cpu")) != "cpu" or not str(after.get("jax device", "cpu")).startswith(
            "cpu"
        )
        if gpu and not self._about["deterministic"]:
            different.append("a GPU without --deterministic")
        exact = not different and self._about["grade"] == "exact"
        self._attempt.record["resume"] = {
            "step": self.step,
            "grade": "exact" if exact else "not to the last bit",
            "differences": sorted(different),
        }
        if different:
            self._tell("info", f"continues, though not to the last bit: {'; '.join(sorted(different))}")

    def _restore_generators(self) -> None:
        if self._opened:
            from outlast.state import rng

            rng.restore(state.unpack_value(RNG, self._opened.state[RNG], self._opened.parts[RNG]))
        self._opened = None  # its bytes are no longer needed

    # the loop --------------------------------------------------------------------------------------------------

    def _enter_step(self, epoch: int | None = None) -> None:
        self._metrics = {}
        self.epoch = epoch
        self.step += 1
        self._in_step = True

    def _finish_step(self, *, epoch_ended: int | None = None) -> None:
        self._in_step = False
        clock = now()
        took, self._step_clock = clock - self._step_clock, clock
        if self._warm:  # the first step of an attempt compiles and warms up; it says nothing of the next
            self.session.observe_step(took)
            self._seconds_per_step = 0.95 * self._seconds_per_step + 0.05 * took if self._seconds_per_step else took
        self._warm = True
        if self.step < self._total:  # the last step is saved as "final"
            self._save_if_due(clock, epoch_ended)
        if epoch_ended is not None:
            self._shown.send("epoch_ended", epoch_ended)
        if clock - self._tick >= _TICK or self.step == self._total:
            self._tick = clock
            self._shown.send("progressed", self._progress(clock))

    def _save_if_due(self, clock: float, epoch_ended: int | None) -> None:
        reason = self._save_policy.due(step=self.step, seconds=clock - self._save_clock, epoch_ended=epoch_ended)
        if self._asked:
            reason = "asked"
        elif not reason and self._save_policy.on_best and self._is_best():
            reason = "best"
        if reason and not self.should_stop():  # else the save of the session's end is next
            self._asked = False
            self._save(reason)

    def _is_best(self) -> bool:
        value = self._metrics.get(self._keep.metric or "")
        if not self._keep.best or not isinstance(value, int | float):
            return False
        return self._keep.is_new_best(value, [checkpoint.kept for checkpoint in self._store.committed()])

    def _leave_if_over(self) -> None:
        if self.should_stop():
            self._save(self.session.reason or "budget", must=True)
            raise SessionEnded(self.session.reason or "budget")

    def _next_batch(self, iterator: Iterator[Any], per_epoch: int, accumulate: int) -> Any:
        try:
            batch = next(iterator)
        except StopIteration:
            raise DataError(
                f"The loader ended after {self._loop[1]} batches of epoch {self._loop[0] + 1}, and its len() says {per_epoch}. The length "
                "must be exact, because the number of steps is reckoned from it."
            ) from None
        self._loop[1] += 1
        self.epoch_end = self._loop[1] == per_epoch
        self.update_due = self.epoch_end or self._loop[1] % accumulate == 0
        return batch

    def _after_batch(self, iterator: Iterator[Any], per_epoch: int) -> None:
        if not self.update_due:
            return
        if not self.epoch_end:
            self._finish_step()
            return
        next(iterator, None)  # lets a stateful loader notice its end, so that its state is that of the next epoch
        self._loop = [self._loop[0] + 1, 0]
        self._finish_step(epoch_ended=self._loop[0])
        self._loop = [self._loop[0] - 1, per_epoch]

    def _progress(self, clock: float) -> Progress:
        interval = self._save_policy.seconds
        return Progress(
            step=self.step,
            total=self.total_steps,
            epoch=self.epoch,
            rate=1 / self._seconds_per_step if self._seconds_per_step else 0.0,
            metrics=self._last_metrics,
            seconds_left=self.session.seconds_left,
            next_save=None if interval is None else max(0.0, interval - (clock - self._save_clock)),
        )

    # saving ----------------------------------------------------------------------------------------------------

    def _save(self, reason: str, *, must: bool = False) -> None:
        """Commit unless this step is committed already. A failed save is told; only one that must succeed raises."""
        if self._saved_step == self.step:
            return
        begun = now()
        try:
            self._commit(reason)
        except SaveFailed as error:
            if must:
                raise
            self._tell("warning", str(error))
            interval = self._save_policy.seconds
            self._save_clock = now() - (interval - min(_RETRY, interval) if interval is not None else 0.0)
            return
        self._saved_step, self._save_clock = self.step, now()
        # The save is no part of the step that follows it.
        self._step_clock += self._save_clock - begun

    def _commit(self, reason: str) -> None:
        begun = now()
        try:
            self._journal.flush()
        except OSError as error:
            raise SaveFailed(
                f"The journal could not be written before the checkpoint at step {self.step}: {error.strerror} ({self._journal.path}). "
                "Earlier checkpoints are intact and no line is lost while training runs. Free disk space."
            ) from error
        snapshot = self._pack(reason)
        checkpoint = self._store.commit(snapshot)
        took = now() - begun
        self.session.observe_state(snapshot.nbytes, self._stored_bytes(), took)
        self._shown.send("saved", self.step, reason, took, checkpoint.nbytes)

    def _pack(self, reason: str = "") -> Snapshot:
        from outlast.state import rng

        packed: dict[str, tuple[str, state.Packed]] = {}
        for name, thing in self._tracked.items():
            packed[name] = ("object", state.pack_object(name, thing))
        for name, tree in self._trees.items():
            packed[name] = ("tree", state.pack_tree(name, tree))
        generators, generator_arrays = state.pack_value(RNG, rng.capture())
        return Snapshot(
            step=self.step,
            reason=reason,
            parts={name: arrays for name, (_, (_, arrays)) in packed.items()} | {RNG: generator_arrays},
            state={
                "step": self.step,
                "loop": list(self._loop),
                "journal": self._journal.mark,
                "parts": {name: {"kind": kind, "state": node} for name, (kind, (node, _)) in packed.items()},
                RNG: generators,
            },
            metrics={name: value for name, value in self._metrics.items() if isinstance(value, int | float)},
            software=self._software,
        )

    def _stored_bytes(self) -> int:
        return sum(checkpoint.nbytes for checkpoint in self._store.committed())

    # closing ---------------------------------------------------------------------------------------------------

    def _complete(self) -> SessionEnded | OutlastError | None:
        """What the end of the with-block without an error means: finished, or a stop that a foreign loop obeyed."""
        try:
            if self.session.reason and not self.finished:
                self._in_step = False
                return SessionEnded(self.session.reason)
            if self._begun:  # a break out of the loop ends the run early, at a step that is done
                self._in_step = False
                self._save("final", must=True)
        except SaveFailed as error:
            return error
        return None

    def _close(self, error: BaseException | None) -> SaveFailed | None:
        """Write down how the attempt ended and let go of everything; returns what could not be written."""
        if self._ended:
            return None
        unrecorded = None
        self._ended = True
        reason = _end_reason(error)
        words = (
            None
            if reason in ("finished", "budget", "preempted") or error is None
            else f"{type(error).__name__}: {error}"
        )
        steps: list[Callable[[], None]] = [
            self._journal.flush,
            lambda: self._attempt.end(reason, self.step, self.total_steps, words),
        ]
        for action in steps:
            try:
                action()
            except OSError as failure:
                unrecorded = SaveFailed(
                    f"How this attempt ended ({reason} at step {self.step}) could not be recorded: {failure.strerror}. Its last "
                    f"checkpoint is intact. Free disk space below {self.folder} and start the run again."
                )
                self._shown.send("told", "warning", str(unrecorded))
        self._shown.send("ended", reason, self.step, self.total_steps)
        self._shown.send("closed")
        self.session.close()
        self._lock.release()
        return unrecorded

    def _tell(self, level: str, sentence: str) -> None:
        self._attempt.tell(sentence)
        self._shown.send("told", level, sentence)


def _last_end(folder: RunFolder, number: int) -> Mapping[str, Any]:
    """How the attempt before this one ended; empty for the first."""
    if number == 1 or not folder.attempt(number - 1).exists():
        return {}
    end: Mapping[str, Any] = files.read_json(folder.attempt(number - 1)).get("end", {})
    return end


def _end_reason(error: BaseException | None) -> str:
    if error is None:
        return "finished"
    if isinstance(error, SessionEnded):
        return error.reason
    return "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"


def _interactive() -> bool:
    """Whether this is a notebook or a prompt, where ending the process is nobody's wish."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


def _csv_paths(config: Any, run_id: str) -> Iterable[Path]:
    if config.log_csv:
        yield config.log_csv
    if config.log_dir:
        yield config.log_dir / f"{run_id}.csv"
