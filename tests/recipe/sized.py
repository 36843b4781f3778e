"""A recipe of NumPy alone that takes as much memory, time or trouble as it is told."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import outlast
from outlast import setting


class Config(outlast.SupervisedConfig):
    batch_size: int = setting(4, "samples", flags=("-b",), ge=1)
    megabytes: float = setting(0.0, "MB of memory of a sample", ge=0)
    wait: float = setting(0.0, "seconds of a step", ge=0)
    fails: int = setting(0, "step that fails", ge=0)
    killed: int = setting(0, "step in which the system kills it", ge=0)
    ends_with: int = setting(0, "exit code of the process, whatever becomes of the training", ge=0)
    elsewhere: float = setting(0.0, "MB of memory of a process that it starts", ge=0)
    tells: str = setting("", "file that gets the number of that process")
    prepares: bool = setting(False, "write a file beside the run folders, as prepared data are")


def train(run: outlast.Run, config: Config) -> None:
    state = run.restore({"w": np.zeros(1000)})
    if config.prepares:
        Path(config.checkpoint_dir, "prepared").write_text("as data are")
    if config.ends_with:
        atexit.register(os._exit, config.ends_with)
    if config.elsewhere:
        hold = f"held = b'x' * int({config.elsewhere} * 1e6); print(flush=True); import time; time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE)
        Path(config.tells).write_text(str(child.pid))
        child.stdout.readline()
    for step in run.steps(1000):
        if step == config.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        held = np.ones(int(config.batch_size * config.megabytes * 1e6 / 8))
        time.sleep(config.wait)
        if step == config.fails:
            raise ValueError("as it was told to")
        state = {"w": state["w"] + 1e-3 * (held.sum() + 1)}
        run.offer(state)
        del held  # before the next step asks for as much


recipe = outlast.Recipe("sized", "as much as it is told", Config, train)
