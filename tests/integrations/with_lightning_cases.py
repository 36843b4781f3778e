"""What a Trainer may be given besides a module: each case is options, and functions that make it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import torchmetrics
from tests.integrations.twins import Stops
from tests.integrations.with_lightning import VALIDATION, Asking, Module, Noisy, module

import outlast
from outlast.integrations.lightning import _NAME, OutlastCallback, lightning

callbacks = lightning.callbacks
MixedPrecision = __import__(f"{_NAME}.plugins", fromlist=["MixedPrecision"]).MixedPrecision


class Data(lightning.LightningDataModule):
    """Scales its samples by what it has counted."""

    def __init__(self, loader: Any) -> None:
        super().__init__()
        self.loader, self.scale = loader, 1.0

    def train_dataloader(self) -> Any:
        return self.loader(Noisy(), 4, shuffle=True)

    def val_dataloader(self) -> Any:
        return VALIDATION

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        self.scale *= 0.99 if self.trainer.training else 1.0
        return [batch[0] * self.scale, batch[1]]

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scale = state["scale"]


class Counting(Module):
    """Logs a metric of torchmetrics that is in no state."""

    def __init__(self) -> None:
        super().__init__()
        self.error = torchmetrics.MeanSquaredError()

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        self.error(self.net(batch[0]), batch[1])
        self.log("error", self.error, on_step=False, on_epoch=True)
        return super().training_step(batch, number)


def _scaler() -> Any:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=2)  # overflows at first
    return MixedPrecision("16-mixed", "cpu", scaler=scaler)


def _files(folder: Path) -> list[Any]:
    options = {"monitor": "val", "save_top_k": 2, "save_last": True, "every_n_train_steps": 2}
    return [callbacks.ModelCheckpoint(folder / "files", **options), callbacks.Timer()]


CASES: dict[str, dict[str, Any]] = {
    "scaler": {"options": lambda: {"plugins": [_scaler()]}},
    "datamodule": {"datamodule": Data},
    "accumulation": {
        "callbacks": lambda _: [callbacks.GradientAccumulationScheduler({0: 1, 1: 2, 2: 3})],
        "options": lambda: {"accumulate_grad_batches": 1},
    },
    "files": {"callbacks": _files, "options": lambda: {"enable_checkpointing": True}},
    "metric": {"module": Counting},
    "limit": {"options": lambda: {"limit_train_batches": 7}},
}
if hasattr(callbacks, "EMAWeightAveraging"):
    CASES["average"] = {"callbacks": lambda _: [callbacks.WeightAveraging()]}
    CASES["ema"] = {"callbacks": lambda _: [callbacks.EMAWeightAveraging(decay=0.9, update_starting_at_step=5)]}


def _fit(case: str, folder: Path, loader: Any, *own: Any, path: Path | None = None) -> Any:
    """Train a case; `own` are callbacks."""
    given = CASES[case]
    options = {"accumulate_grad_batches": 2, **given.get("options", dict)()}
    if not options.get("enable_checkpointing"):
        options["enable_checkpointing"] = False
    made = lightning.Trainer(
        **options,
        max_epochs=3,
        accelerator="cpu",
        val_check_interval=4,
        log_every_n_steps=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[*own, *given.get("callbacks", lambda _: [])(folder)],
    )
    torch.manual_seed(0)
    trained = module() if "module" not in given else given["module"]()
    if "datamodule" in given:
        made.fit(trained, datamodule=given["datamodule"](loader), ckpt_path=path)
    else:
        made.fit(trained, loader(Noisy(), 4, shuffle=True), VALIDATION, ckpt_path=path)
    return made


def fit(case: str, run: outlast.Run, stops: Stops, folder: Path) -> None:
    """In sessions."""
    if not run.step:
        shutil.rmtree(folder, ignore_errors=True)
    made = _fit(case, folder, outlast.DataLoader, OutlastCallback(run), Asking(lambda step, _: stops(step)))
    assert made.global_step == run.step


def alone(case: str, folder: Path, stop: int | None = None, resume: bool = False) -> torch.Tensor:
    """Lightning with its own checkpoints, all parameters in one vector."""
    last = folder / "own.ckpt"

    def leave(step: int, trainer: Any) -> None:
        if step == stop:
            trainer.save_checkpoint(last)
            trainer.should_stop, trainer.fit_loop.min_epochs = True, 0

    made = _fit(case, folder, torch.utils.data.DataLoader, Asking(leave), path=last if resume else None)
    return torch.cat([each.detach().flatten() for each in made.lightning_module.parameters()])
