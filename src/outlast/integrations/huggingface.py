"""Hugging Face's Trainer in sessions that end; needs transformers 5.12 or newer, and torch.

callback = OutlastCallback(run)
trainer = Trainer(model, args, train_dataset=dataset, callbacks=[callback])
callback.train(trainer)  # in place of trainer.train()
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import IterableDataset
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, TrainerState

from outlast.errors import SessionEnded
from outlast.integrations import refusals
from outlast.integrations.epochs import EpochLoader
from outlast.run.run import Run

_PROGRESS = (
    "epoch", "global_step", "num_input_tokens_seen", "total_flos", "log_history",
    "best_metric", "best_global_step", "best_model_checkpoint",
)  # fmt: skip
_MEANS = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "current_flos")
_CLOCKS = ("_runtime", "_per_second", "train_loss", "epoch")  # metrics of this session, and what `step` says already


class _Finished(Exception):
    """The run was stopped early before."""


class OutlastCallback(transformers.TrainerCallback):
    """Saves what a Trainer trains in the checkpoints of a run, and continues it there.

    A step is complete when it was logged and evaluated. Batches are made by an `outlast.DataLoader` with the Trainer's
    dataset, sampler, collator and workers: random masks and augmentation are the same before and after a resume.

    Args:
        run: the run; its with-block is around `train`.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._done = run, -1  # steps that the run has counted
        self._trainer: Any = None

    def train(self, trainer: transformers.Trainer) -> None:
        """Train to the end of the run, as `trainer.train()` does.

        Raises:
            SessionEnded: the session ends before; all is saved.
            UsageError: the Trainer trains on several processes, or on an IterableDataset, which has no position; or it
                does not have this callback, or has trained with it before.
        """
        endless = isinstance(trainer.train_dataset, IterableDataset)
        refusals.check_trainer(trainer, self, endless=endless, again=self._done >= 0)
        self._trainer, self._loader = trainer, EpochLoader.like(trainer.get_train_dataloader(), _seed(trainer.args))
        trainer.get_train_dataloader = lambda: self._loader
        trainer._load_from_checkpoint = lambda *_, **__: None  # on_train_begin does
        trainer.args.ignore_data_skip = False  # it would begin the epoch again; skipping makes no batches here
        exported = [*trainer.callback_handler.callbacks, trainer.control]
        with tempfile.TemporaryDirectory() as folder:
            at = TrainerState(
                global_step=self._run.step,
                train_batch_size=trainer.args.train_batch_size,
                stateful_callbacks=[each for each in exported if isinstance(each, ExportableState)],
            )
            at.compute_steps(trainer.args, trainer.args.max_steps)
            at.save_to_json(str(Path(folder, TRAINER_STATE_NAME)))
            try:
                trainer.train(resume_from_checkpoint=folder if self._run.step else None)
            except _Finished:
                pass
            finally:  # it is one of the process: left between two batches of a step, no optimizer of accelerate steps
                trainer.accelerator.gradient_state._set_sync_gradients(True)

    def state_dict(self) -> dict[str, Any]:
        """What the Trainer counts and averages, and the state of its other callbacks."""
        progress = {name: getattr(self._trainer.state, name) for name in _PROGRESS}
        means = {name: getattr(self._trainer, name) for name in _MEANS if hasattr(self._trainer, name)}
        return {
            "progress": progress,
            "means": means,
            "callbacks": [(kind, each.state()) for kind, each in self._others],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        for owner, values in ((self._trainer.state, state["progress"]), (self._trainer, state["means"])):
            for name, value in values.items():
                setattr(owner, name, value)
        for (kind, each), (stored, values) in zip(self._others, state["callbacks"], strict=False):
            for name, value in values["attributes"].items() if kind == stored else ():
                setattr(each, name, value)

    @property
    def _others(self) -> list[tuple[str, Any]]:
        found = self._trainer.callback_handler.callbacks
        return [(type(each).__qualname__, each) for each in found if isinstance(each, ExportableState)]

    def _models_of_others(self, model: Any) -> dict[str, torch.nn.Module]:
        # Averages, and trl's reference model: a callback that holds a network trains it; no checkpoint has it.
        trained = {id(part) for part in model.modules()}
        found: dict[str, torch.nn.Module] = {}
        for each in self._trainer.callback_handler.callbacks:
            for name, value in vars(each).items():
                if not isinstance(value, torch.nn.Module):
                    continue
                network = self._trainer.accelerator.unwrap_model(value)
                if id(network) not in trained:
                    kind = f"{type(each).__name__}.{name}"
                    again = sum(other.partition("-")[0] == kind for other in found)
                    found[f"{kind}-{again}" if again else kind] = network
        return found

    def on_train_begin(
        self, args: Any, state: TrainerState, control: Any, model: Any, optimizer: Any, lr_scheduler: Any, **_: Any
    ) -> None:
        refusals.check_begun(self._trainer)
        state.compute_steps(args, state.max_steps)  # where they are given as a part of all steps
        scaler = {"scaler": found} if (found := getattr(self._trainer.accelerator, "scaler", None)) else {}
        optimizer = getattr(optimizer, "optimizer", optimizer)
        self._run.track(
            model=model, optimizer=optimizer, schedule=lr_scheduler, data=self._loader.source, trainer=self, **scaler,
            **self._models_of_others(model),
        )  # fmt: skip
        if self._run.step >= state.max_steps:
            self._complete(state)  # all was done before

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        # Not at on_step_end: the step's log and evaluation come after it.
        if self._complete(state):
            raise SessionEnded(self._run.session.reason or "budget")
        if self._run.finished:
            raise _Finished

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "train_runtime" in logs:
            self._complete(state)  # before the best model is loaded
        elif self._done >= 0 and (shown := {k: v for k, v in logs.items() if not k.endswith(_CLOCKS)}):
            self._run.log(shown, step=state.global_step)

    def _complete(self, state: TrainerState) -> bool:
        run, per_epoch = self._run, -(-len(self._loader) // self._trainer.args.gradient_accumulation_steps)
        if self._done < 0:
            run.begin(total_steps=state.max_steps)  # sets the generators, which the Trainer has moved until here
            self._done, run._loop.told_late = run.step, True
        if state.global_step == self._done:
            return False
        self._done = state.global_step
        epoch, done = divmod(state.global_step, per_epoch)
        self._loader.stand(epoch, done * self._trainer.args.gradient_accumulation_steps)
        return run.after_step(state.global_step, epoch_ended=epoch if not done else False)


def _seed(args: transformers.TrainingArguments) -> int:
    return args.seed if args.data_seed is None else args.data_seed
