"""The loops of examples/ with the frameworks' own checkpoints, which know nothing of the data's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

STEPS, PER_EPOCH = 30, 10


def _parts() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    x = torch.randn(40, 6)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 4, shuffle=True)
    return net, torch.optim.AdamW(net.parameters(), lr=1e-2), loader


def _weights(net: Any) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in net.parameters()])


def with_accelerate(folder: Path, stop: int | None = None, resume: bool = False) -> torch.Tensor:
    """save_state, load_state and skip_first_batches, as accelerate's documentation has it."""
    from accelerate import Accelerator

    net, optimizer, loader = _parts()
    accelerator = Accelerator(cpu=True)
    net, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    step, kept = 0, folder / "state"
    if resume:
        accelerator.load_state(kept)
        step = int((folder / "step").read_text())
    while step < STEPS:
        done = step % PER_EPOCH
        for x, y in accelerator.skip_first_batches(loader, done) if done else loader:
            accelerator.backward(torch.nn.functional.mse_loss(net(x), y))
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == stop:
                accelerator.save_state(kept)
                (folder / "step").write_text(str(step))
                return _weights(net)
    return _weights(net)


def with_fabric(folder: Path, stop: int | None = None, resume: bool = False) -> torch.Tensor:
    """fabric.save and fabric.load, and the epoch is begun again."""
    from lightning_fabric import Fabric

    net, optimizer, loader = _parts()
    fabric = Fabric(accelerator="cpu")
    net, optimizer = fabric.setup(net, optimizer)
    loader = fabric.setup_dataloaders(loader)
    state = {"net": net, "optimizer": optimizer, "step": 0}
    if resume:
        fabric.load(folder / "state", state)
    while state["step"] < STEPS:
        for x, y in loader:
            fabric.backward(torch.nn.functional.mse_loss(net(x), y))
            optimizer.step()
            optimizer.zero_grad()
            state["step"] += 1
            if state["step"] == stop:
                fabric.save(folder / "state", state)
                return _weights(net)
            if state["step"] == STEPS:
                break
    return _weights(net)
