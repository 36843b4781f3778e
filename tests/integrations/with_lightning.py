"""A module of Lightning with dropout, random augmentation, accumulation, and a schedule that follows a validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.integrations.twins import Stops

import outlast
from outlast.integrations.lightning import OutlastCallback, lightning

X = torch.randn(42, 6, generator=torch.Generator().manual_seed(1))
Y = X.sum(1, keepdim=True)


class Noisy(torch.utils.data.Dataset):
    """42 samples: 11 batches, 6 steps of two batches, the last of one."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return X[index] + 0.1 * torch.randn(6), Y[index]


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1)
        )

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]) * (1 + 0.1 * self.current_epoch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.7)
        each = {"scheduler": plateau, "monitor": "val", "interval": "step", "frequency": 4}
        return {"optimizer": optimizer, "lr_scheduler": each}


class Asking(lightning.Callback):
    def __init__(self, function: Any) -> None:
        self.function = function

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.function(trainer.global_step, trainer)


def trainer(folder: Path, *callbacks: Any, **options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        **{"max_epochs": 3, "accumulate_grad_batches": 2, **options},
        accelerator="cpu",
        log_every_n_steps=3,
        val_check_interval=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[*callbacks, lightning.callbacks.EarlyStopping("val", patience=50)],
    )


def module() -> Module:
    torch.manual_seed(0)
    np.random.seed(0)
    return Module()


VALIDATION = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X[:8], Y[:8]), 4)


def fit(run: outlast.Run, stops: Stops, folder: Path, **options: Any) -> lightning.Trainer:
    made = trainer(folder, OutlastCallback(run), Asking(lambda step, _: stops(step)), **options)
    made.fit(module(), outlast.DataLoader(Noisy(), 4), VALIDATION)
    return made


def alone(folder: Path, stop: int | None = None, resume: bool = False) -> torch.Tensor:
    """Lightning with its own checkpoints, all parameters in one vector."""

    def leave(step: int, trainer: lightning.Trainer) -> None:
        if step == stop:
            trainer.save_checkpoint(folder / "last.ckpt")
            trainer.should_stop, trainer.fit_loop.min_epochs = True, 0

    made = module()
    plain = torch.utils.data.DataLoader(Noisy(), 4, shuffle=True)
    trainer(folder, Asking(leave)).fit(made, plain, VALIDATION, ckpt_path=folder / "last.ckpt" if resume else None)
    return torch.cat([each.detach().flatten() for each in made.parameters()])
