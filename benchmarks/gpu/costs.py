"""The cost of a save on a GPU, compared with the copy and `torch.save`: `python -m benchmarks.gpu.costs FOLDER DEVICE
BYTES`."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.checkpoint.peers import sync

import outlast
from outlast.checkpoint import Retention
from outlast.environment import Environment, Limits
from outlast.tracking import SaveFacts, Sink

LAYERS = 12


def network(nbytes: int, device: str) -> tuple[Any, Any]:
    """A model whose parameters and Adam moments take about so many bytes."""
    width = int((nbytes / 12 / LAYERS) ** 0.5) // 16 * 16
    layers = (layer for _ in range(LAYERS) for layer in (torch.nn.Linear(width, width), torch.nn.ReLU()))
    model = torch.nn.Sequential(*layers).to(device)
    return model, torch.optim.AdamW(model.parameters())


def wait(device: str) -> None:
    """Return when the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def step(model: Any, optimizer: Any, device: str) -> float:
    """Seconds of one step."""
    begun = time.perf_counter()
    loss = model(torch.ones(256, model[0].in_features, device=device)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    wait(device)
    return time.perf_counter() - begun


def copies(nbytes: int, device: str) -> dict[str, float]:
    """Seconds to copy so many bytes from the device to pageable and to pinned memory."""
    source = torch.ones(nbytes, dtype=torch.uint8, device=device)
    found = {}
    for name, pinned in (("pageable", False), ("pinned", True)):
        if pinned and not device.startswith("cuda"):
            continue
        target = torch.zeros(nbytes, dtype=torch.uint8, pin_memory=pinned)
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            target.copy_(source)
            wait(device)
            times.append(time.perf_counter() - begun)
        found[name] = min(times)
    return found


def torch_save(model: Any, optimizer: Any, folder: Path) -> float:
    """Seconds until torch.save has written the same state and the disk has it."""
    path = folder / "peer.pt"
    begun = time.perf_counter()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    sync(path)
    took = time.perf_counter() - begun
    path.unlink()
    return took


class SaveTimes(Sink):
    """Notes when a save was durable."""

    def __init__(self) -> None:
        self.durable: list[float] = []

    def saved(self, save: SaveFacts) -> None:
        """Another save is safe."""
        self.durable.append(save.seconds)


def ours(model: Any, optimizer: Any, folder: Path, device: str) -> dict[str, float]:
    """Seconds that a step was longer with a save after it, that later steps were longer while it is written, and until
    it is durable."""
    heard, plain, slowed, held = SaveTimes(), [], [], []
    with outlast.open_run(
        "costs",
        total_steps=10**6,
        root=folder,
        save="never",
        keep=Retention(last=1),
        progress="none",
        environment=Environment("local", Limits(None, 2**40, 2)),
        sinks=[heard],
    ) as run:
        run.track(model=model, optimizer=optimizer)
        ended = 0.0
        asked = 0
        for number in run.steps():
            now = time.perf_counter()
            if asked == number - 1 and asked:
                held.append(now - ended)
            took = step(model, optimizer, device)
            pending = len(heard.durable) < len(held)
            (slowed if pending else plain).append(took)
            if number > 5 and not pending and number % 5 == 0:
                if len(held) == 4:
                    break
                run.save()
                asked = number
            ended = time.perf_counter()
    return {
        "step": statistics.median(plain[3:]),
        "held": statistics.median(held[1:]),  # the first also makes the buffer
        "slowed step": statistics.median(slowed) if slowed else statistics.median(plain),
        "durable": statistics.median(heard.durable[1:4]),
    }


def main() -> None:
    """Print the figures as JSON."""
    folder, device, nbytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    model, optimizer = network(nbytes, device)
    step(model, optimizer, device)
    arrays = [*model.parameters(), *(value for each in optimizer.state.values() for value in each.values())]
    total = sum(array.numel() * array.element_size() for array in arrays)
    found = {"bytes": total, **copies(total, device), "torch.save": torch_save(model, optimizer, folder)}
    print(json.dumps(found | ours(model, optimizer, folder, device)))


if __name__ == "__main__":
    main()
