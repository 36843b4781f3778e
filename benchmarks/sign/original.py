"""The original's training of its Transformer, as `benchmarks.sign.speed` compares it.
Own code after seed-systems.md (004).

    python -m benchmarks.sign.original < JOB.json    # prints the result as JSON

It imports numpy and torch alone, so its memory is not that of the recipe. A .npz file is opened for each sample, in a
random order, clips are padded to the longest of the batch, and the layers are torch's. float32: the original switches
--amp off on a CPU.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

BATCH, RATE, CATEGORIES = 32, 3e-4, 4
Clip = tuple[str, int]
"""A file and its gloss."""
Part = tuple[tuple[Tensor, ...], Tensor]
"""Arguments of a network, and glosses."""
Batches = Iterable[list[Part]]
"""Each in one part, or in several whose gradients are added."""


class OriginalTransformer(nn.Module):
    """Four of torch's layers with their norms first over 78 keypoints (x, y), a masked mean, and two heads."""

    def __init__(self, glosses: int, categories: int, *, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.project, self.drop, self.norm = nn.Linear(156, width), nn.Dropout(dropout), nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, 8, 1024, dropout, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.gloss, self.category = (
            nn.Sequential(
                nn.Dropout(dropout), nn.Linear(width, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, classes)
            )
            for classes in (glosses, categories)
        )
        frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
        angle = torch.arange(300)[:, None] * frequency
        self.register_buffer("places", torch.stack([angle.sin(), angle.cos()], -1).flatten(1), persistent=False)

    def forward(self, points: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 78, 2) and (B,) -> (B, glosses) and (B, categories)."""
        x = points.flatten(2)
        padding = torch.arange(x.shape[1])[None] >= lengths[:, None]
        x = self.norm(self.drop(self.project(x) + self.places[: x.shape[1]]))
        x = self.layers(x, src_key_padding_mask=padding)
        kept = (~padding)[..., None].to(x.dtype)
        x = (x * kept).sum(1) / kept.sum(1)
        return self.gloss(x), self.category(x)

    def load_recipe(self, state: dict[str, Tensor]) -> None:
        """Take the weights of the recipe's network with the original's dimensions."""
        words = (
            ("attention.inside.", "self_attn.in_proj_"),
            ("attention.outside.", "self_attn.out_proj."),
            ("feed.0.", "linear1."),
            ("feed.3.", "linear2."),
            ("head.gloss.", "gloss."),
            ("head.category.", "category."),
        )
        own = {}
        for name, value in state.items():
            if name == "head.members":
                continue
            renamed = name.replace("layers.", "layers.layers.")
            for before, now in words:
                renamed = renamed.replace(before, now)
            own[renamed] = value
        self.load_state_dict(own)


def batches(clips: list[Clip], seed: int) -> Iterator[list[Part]]:
    """An epoch: files in a random order, padded to the longest of the batch."""
    order = np.random.default_rng(seed).permutation(len(clips)).tolist()
    for start in range(0, len(order), BATCH):
        found, labels = [], []
        for number in order[start : start + BATCH]:
            with np.load(clips[number][0], allow_pickle=False) as arrays:
                found.append(torch.from_numpy(np.array(arrays["X"], np.float32)).view(-1, 78, 2))
            labels.append(clips[number][1])
        points = nn.utils.rnn.pad_sequence(found, batch_first=True)
        yield [((points, torch.tensor([len(each) for each in found])), torch.tensor(labels))]


def peak_memory() -> float:
    """MB of this process, of Linux. `ru_maxrss` would begin with what the process that started it had."""
    return int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def trained(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch_of: Callable[[int], Batches],
    held: Batches,
    epochs: int,
    *,
    half: bool = False,
) -> dict[str, float]:
    """Clips a second of the processor, the peak memory of this process in MB, and the accuracy on other clips."""
    rates, before = [], peak_memory()
    for epoch in range(epochs):
        begin, count = time.process_time(), 0
        for parts in epoch_of(epoch):
            size = sum(len(labels) for _, labels in parts)
            optimizer.zero_grad()
            for inputs, labels in parts:
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    gloss, category = network(*inputs)
                loss = cross_entropy(gloss, labels) + cross_entropy(category, labels % CATEGORIES)
                (loss * (len(labels) / size)).backward()
            optimizer.step()
            count += size
        rates.append(count / (time.process_time() - begin))
    peak = peak_memory()
    network.eval()
    with torch.no_grad():
        given = [part for parts in held for part in parts]
        right = [int((network(*inputs)[0].argmax(1) == labels).sum()) for inputs, labels in given]
        count = sum(len(labels) for _, labels in given)
    return {"rate": statistics.median(rates), "MB": peak, "MB before": before, "accuracy": sum(right) / count}


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    network = OriginalTransformer(job["glosses"], CATEGORIES)
    network.load_recipe(torch.load(job["weights"], weights_only=True, mmap=True))
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    held = list(batches(job["held"], 0))
    print(json.dumps(trained(network, optimizer, lambda epoch: batches(job["clips"], epoch), held, job["epochs"])))


if __name__ == "__main__":
    main(json.load(sys.stdin))
