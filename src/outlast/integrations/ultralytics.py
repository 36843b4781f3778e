"""Ultralytics' trainers in sessions that end; needs ultralytics 8.4, which is under AGPL-3.0.

model = YOLO("yolo11n.yaml")
OutlastCallback(run).train(model, data="data.yaml", epochs=100)  # in place of model.train(...)
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any, NoReturn

from outlast.errors import SessionEnded, UsageError
from outlast.integrations.ultralytics_data import Batches
from outlast.run.run import Run

_MOVING = ("updates", "o2m", "o2o")  # of the loss of yolo26, whose weights change with the epochs
_PATIENCE = ("best_fitness", "best_epoch", "possible_stop")


class _Finished(Exception):
    """The run was finished before."""


class OutlastCallback:
    """Saves what ultralytics trains in the checkpoints of a run, and continues it there, also within an epoch.

    A step is a batch. Batches are made by an `outlast.DataLoader` with the trainer's dataset: random augmentation is
    the same before and after a resume. The images of a mosaic are drawn from all, not from those loaded last.

    Args:
        run: the run; its with-block is around `train`.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._done, self._over = run, -1, False  # steps that the run has counted
        self._rows, self._best = list[Any](), dict[str, Any]()  # of results.csv; weights of best.pt

    def train(self, model: Any, **options: Any) -> Any:
        """Train to the end of the run. Returns what `model.train(**options)` returns; None if the run was finished.

        Raises:
            SessionEnded: the session ends before; all is saved.
            UsageError: several devices, `time=` or `resume=`; a loss that is not finite; or too little memory.
        """
        if "," in str(options.get("device", model.overrides.get("device"))):
            _refuse("several devices; expected one")
        hooks = {"on_train_start": self._prepare, "on_train_epoch_start": self._begin, "on_fit_epoch_end": self._end}
        for event, function in hooks.items():
            model.add_callback(event, function)
        with contextlib.suppress(_Finished):
            return model.train(**options)

    def state_dict(self) -> dict[str, Any]:
        """What the trainer counts, its best weights, and the rows of results.csv."""
        trainer, loss = self._trainer, vars(self._trainer.model.criterion)
        return {
            "last": self._batches.last,
            "averaged": trainer.ema.updates,
            "loss": {name: loss[name] for name in _MOVING if name in loss},
            "patience": {name: getattr(trainer.stopper, name) for name in _PATIENCE},
            "fitness": trainer.best_fitness,
            "means": trainer.tloss,
            "rows": self._rows,
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there."""
        trainer, self._batches.last, self._rows, self._best = self._trainer, state["last"], state["rows"], state["best"]
        trainer.ema.updates, trainer.best_fitness = state["averaged"], state["fitness"]
        trainer.tloss = self._batches.means = state["means"]
        vars(trainer.model.criterion).update(state["loss"])
        vars(trainer.stopper).update(state["patience"])

    def _prepare(self, trainer: Any) -> None:
        if trainer.args.time or trainer.resume or trainer.world_size > 1:
            _refuse("time=, resume= or several processes; expected epochs=, and one process")
        self._trainer, self._batches = trainer, Batches(trainer, self._complete_or_leave)
        if getattr(trainer.model, "criterion", None) is None:
            trainer.model.criterion = trainer.model.init_criterion()
        self._write_row, trainer.save_metrics = trainer.save_metrics, self._save_metrics
        self._write_files, trainer.save_model = trainer.save_model, self._save_model
        trainer.start_epoch = self._run.step // len(self._batches)

    def _begin(self, trainer: Any) -> None:
        """An epoch begins; its learning rate is not set yet."""
        if self._done >= 0:
            return
        run, epoch = self._run, trainer.epoch
        parts = {"model": trainer.model, "optimizer": trainer.optimizer, "schedule": trainer.scheduler}
        parts |= {"ema": trainer.ema.ema, "scaler": trainer.scaler, "data": self._batches.source}
        run.track(**parts, trainer=self)
        run.begin(total_steps=trainer.epochs * len(self._batches))
        self._done, run._loop.told_late = run.step, True
        self._batches.stand(run.step)
        for trainer.epoch, row in self._rows:
            self._write_row(row)
        if self._best:
            self._write(self._best, trainer.best_fitness)
        if run.finished:
            self._write(trainer.ema.ema.state_dict(), None)
            trainer.final_eval()
            raise _Finished
        trainer.epoch = epoch

    def _write(self, weights: Mapping[str, Any], fitness: float | None) -> None:
        """Write last.pt, and best.pt if the fitness is the best: this session may have another folder."""
        trainer, averaged = self._trainer, self._trainer.ema.ema
        trainer.ema.ema, trainer.fitness = copy.deepcopy(averaged), fitness
        trainer.ema.ema.load_state_dict(weights)
        self._write_files()
        trainer.ema.ema = averaged

    def _save_metrics(self, metrics: Mapping[str, Any]) -> None:
        row = {name: float(value) for name, value in metrics.items()}
        self._run.log(row, step=self._batches.at + 1)
        self._rows.append([self._trainer.epoch, row])
        self._write_row(metrics)

    def _save_model(self) -> Any:
        if self._trainer.best_fitness == self._trainer.fitness:
            held = self._trainer.ema.ema.state_dict().items()
            self._best = {name: each.half() if each.is_floating_point() else each.clone() for name, each in held}
        return self._write_files()

    def _end(self, trainer: Any) -> None:
        self._complete(epoch_ended=trainer.epoch + 1)

    def _complete(self, *, epoch_ended: int | None = None) -> None:
        if self._batches.at + 1 != self._done:
            self._done = self._batches.at + 1
            self._over = self._run.after_step(self._done, epoch_ended=epoch_ended or False)

    def _complete_or_leave(self) -> None:
        self._complete()
        if self._over:
            raise SessionEnded(self._run.session.reason or "budget")


def _refuse(what: str) -> NoReturn:
    raise UsageError(
        f"OutlastCallback was given {what}. `outlast run --keep` around a script without it keeps ultralytics' own "
        "last.pt, which continues at an epoch, and not exactly."
    )
