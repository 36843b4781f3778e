"""Small trainings on one device, and one attempt at all of them: `python -m benchmarks.gpu.training FOLDER DEVICE
STOP`."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import outlast
from outlast.environment import Environment, Limits

STEPS = 12
STOP = 5
"""The step after which the first of two attempts is stopped."""

HERE = Environment("local", Limits(None, 2**40, 2))


class Small(nn.Module):
    """Convolution, batch norm, dropout and attention: what draws from the device's generator, and what cuDNN
    chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1))
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) -> (batch, 10)."""
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


@dataclass(frozen=True)
class Kind:
    """One way to train.

    Args:
        dtype: of autocast, or None.
        scaler: whether a GradScaler scales the loss.
        compiled: whether torch.compile compiles the model.
        half: whether the parameters themselves are bfloat16.
    """

    dtype: torch.dtype | None = None
    scaler: bool = False
    compiled: bool = False
    half: bool = False


KINDS = {
    "float32": Kind(),
    "float16 autocast, GradScaler": Kind(torch.float16, scaler=True),
    "bfloat16 autocast": Kind(torch.bfloat16),
    "bfloat16 parameters": Kind(half=True),
    "compiled model": Kind(compiled=True),
}


def run_name(kind: str) -> str:
    """The run's id for a kind."""
    return "".join(letter if letter.isalnum() else "-" for letter in kind)


def attempt(folder: Path, kind: str, device: str, stop: int | None) -> None:
    """Train one kind, from wherever its run is; `stop` ends the attempt after that step as the end of a session
    does."""
    options = KINDS[kind]
    outlast.seed_everything(3)
    model: Any = Small().to(device)
    if options.half:
        model = model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=STEPS)
    tracked: dict[str, Any] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    scaler = torch.amp.GradScaler(
        torch.device(device).type, enabled=options.scaler, init_scale=2.0**10, growth_interval=3
    )
    if options.scaler:
        tracked["scaler"] = scaler
    forward = torch.compile(model) if options.compiled else model
    with outlast.open_run(
        run_name(kind),
        total_steps=STEPS,
        root=folder,
        save="4 steps",
        progress="none",
        environment=HERE,
        deterministic=True,
    ) as run:
        run.track(**tracked)
        for step in run.steps():
            images = torch.randn(16, 3, 8, 8, device=device)  # drawn by the device's own generator
            labels = torch.randint(10, (16,), device=device)
            kind_of_device = torch.device(device).type
            with torch.autocast(kind_of_device, options.dtype) if options.dtype else contextlib.nullcontext():
                logits = forward(images.bfloat16() if options.half else images)
                loss = nn.functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            run.log(loss=loss)
            if step == stop:
                run.session.request_stop("budget", "the check asks for it")


def caught(action: Callable[[], None]) -> str | None:
    """The error of an attempt in one line, or None; the end of a session is none."""
    try:
        action()
    except outlast.SessionEnded:
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this kind's result
        traceback.print_exc()
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def main() -> None:
    """Print kind -> error or null as JSON."""
    folder, device, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) or None
    errors = {kind: caught(lambda kind=kind: attempt(folder, kind, device, stop)) for kind in KINDS}
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
