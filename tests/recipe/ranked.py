"""A recipe of several ranks that meet in each step."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

import outlast
from outlast import setting


class Config(outlast.SupervisedConfig):
    batch_size: int = setting(4, "samples of all ranks together", flags=("-b",), ge=1)
    megabytes: float = setting(0.0, "MB of memory of a sample, on each rank", ge=0)
    wait: float = setting(0.0, "seconds of a step of rank 1; the others do not wait", ge=0)
    fails: int = setting(0, "step that fails on rank 1", ge=0)
    stops: bool = setting(False, "rank 1 ends its process in the second step")
    hangs: bool = setting(False, "rank 0 hears nothing for an hour in the second step")
    leaves: str = setting("", "folder in which each rank leaves its variables")


def train(run: outlast.Run, config: Config) -> None:
    import torch

    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if config.leaves:
        words = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS")
        Path(config.leaves, str(rank)).write_text(" ".join(os.environ.get(word, "") for word in words))
    state = run.restore({"w": np.zeros(1000)})
    for step in run.steps(1000):
        held = np.ones(int(config.batch_size * config.megabytes * 1e6 / 8))
        time.sleep(rank * config.wait)
        if rank == 1 and step == config.fails:
            raise ValueError("as rank 1 was told to")
        if rank == 1 and step == 2 and config.stops:
            os._exit(9)
        if rank == 0 and step == 2 and config.hangs:
            time.sleep(3600)
        total = torch.ones(1)
        torch.distributed.all_reduce(total)
        state = {"w": state["w"] + float(total) / count}
        run.offer(state)
        del held


recipe = outlast.Recipe("ranked", "ranks that meet", Config, train, ranks=True)
