"""Lightning's Trainer in sessions that end; needs lightning or pytorch-lightning, 2.2.5 or newer.

trainer = Trainer(max_epochs=10, callbacks=[OutlastCallback(run)])
trainer.fit(module, outlast.DataLoader(dataset, batch_size=64))
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from outlast.data.loader import DataLoader
from outlast.errors import SessionEnded, UsageError
from outlast.integrations.lightning_state import Rest
from outlast.run.run import Run

# Two names of one library, with classes of their own.
_NAME = (
    "lightning.pytorch" if "pytorch_lightning" not in sys.modules and find_spec("lightning") else "pytorch_lightning"
)
lightning: Any = importlib.import_module(_NAME)


class OutlastCallback(lightning.Callback):
    """Saves what a Trainer fits in the checkpoints of a run, and continues it there.

    A step is complete when the next batch is asked for, after validation and plateau schedulers. When the session must
    end, `fit` then raises `SessionEnded`, as `run.steps()` does. What modules log is in the journal.

    Args:
        run: the run; its with-block is around `fit`.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._done = run, -1  # steps that the run has counted

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            trainer.loggers = [*trainer.loggers, _Journal(self._run, trainer)]

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        found = {"optimizer": trainer.optimizers, "schedule": schedules}
        parts = {name: things if len(things) > 1 else things[0] for name, things in found.items() if things}
        known = self._run._loop.attempt.ranks.count
        if trainer.world_size != known:
            raise UsageError(
                f"Lightning trains in {trainer.world_size} processes, and the run was opened for {known}; expected a "
                "script that is started with `outlast run --nproc N` or torchrun, and calls "
                "torch.distributed.init_process_group() before open_run()."
            )
        for each in trainer.callbacks:
            if isinstance(each, lightning.callbacks.StochasticWeightAveraging):
                raise UsageError(
                    "fit() was given a StochasticWeightAveraging, which replaces the schedule while it trains and does "
                    "not continue within an epoch; expected WeightAveraging or EMAWeightAveraging (Lightning 2.6)."
                )
        self._run.track(model=pl_module, **parts, trainer=Rest(trainer))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        loader: Any = self._begin(trainer)
        loop: Any = trainer.fit_loop.epoch_loop
        if loop.restarting:  # the validation of the step that is continued is done

            def nothing_is_due(_: Any) -> bool:
                del loop._should_check_val_fx
                return False

            loop._should_check_val_fx = nothing_is_due
        kind = lightning.callbacks.GradientAccumulationScheduler  # whose hook Lightning calls at the first batch only
        late = [each for each in trainer.callbacks if isinstance(each, kind)] if loader.sampler.batch else []
        take = loader._take

        def complete_and_take() -> Any:
            while late:
                late.pop().on_train_epoch_start(trainer, pl_module)
            if self._complete(trainer):
                raise SessionEnded(self._run.session.reason or "budget")
            return take()

        loader._take = complete_and_take

        def begin_epoch(epoch: int) -> None:
            if epoch > loader.sampler.epoch:  # `limit_train_batches` has ended the one before
                loader.close()
                loader.sampler.epoch, loader.sampler.batch = epoch, 0

        loader.sampler.set_epoch = begin_epoch

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._complete(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if self._done < 0:
            self._begin(trainer)  # all was done before

    def _begin(self, trainer: Any) -> DataLoader:
        loader = trainer.train_dataloader
        if not isinstance(loader, DataLoader):
            raise UsageError(
                f"fit() was given a {type(loader).__name__}, which cannot be continued within an epoch here; expected "
                "an outlast.DataLoader, which takes the arguments of torch's."
            )
        self._run.track(data=loader)
        own = trainer.lightning_module.automatic_optimization
        self._run.begin(total_steps=int(trainer.estimated_stepping_batches) if own else None)
        self._done, self._run._loop.told_late = self._run.step, True
        trainer.should_stop |= self._run.finished  # also where it was stopped early before
        return loader

    def _complete(self, trainer: Any) -> bool:
        if trainer.global_step == self._done:
            return False
        self._done, ended = trainer.global_step, trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        return self._run.after_step(self._done, epoch_ended=ended) and not trainer.fit_loop.done


class _Journal(lightning.loggers.Logger):
    """Sends what Lightning logs to the journal."""

    def __init__(self, run: Run, trainer: Any) -> None:
        super().__init__()
        self._run, self._trainer = run, trainer

    name, version = "outlast", 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        if shown:
            self._run.log(shown, step=self._trainer.global_step)
