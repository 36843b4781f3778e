"""A stand-in of Kaggle, and a laptop with a small recipe that talks to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.standins.kaggle import Standin, use

RECIPE = """
import time

import numpy as np
import outlast
from helper import STEP


def train(run, config):
    outlast.seed_everything(config.seed)
    state = run.restore({"x": np.zeros(50_000), "sum": np.zeros(())})
    for step in run.steps(9):
        noise = np.random.standard_normal(50_000)
        state = {"x": state["x"] + STEP * noise, "sum": state["sum"] + noise[0]}
        run.offer(state, sum=state["sum"], rate=config.learning_rate)
        time.sleep(config.pause)
        if config.stop_every and step % config.stop_every == 0 and step < 9:
            run.session.request_stop("budget", "the test's session is short")
    with run.artifact("result.txt") as path:
        path.write_text(f"{state['sum']:.6f}")


class Config(outlast.SupervisedConfig):
    pause: float = outlast.setting(0.0, "seconds that a step sleeps")
    stop_every: int = outlast.setting(3, "steps after which a session ends; 0: never", on_resume="free")


recipe = outlast.Recipe(name="walk", summary="a random walk", Config=Config, train=train)
"""


@pytest.fixture
def standin(tmp_path: Path, monkeypatch):
    with Standin(tmp_path / "kaggle") as running:
        use(running, tmp_path / "home", monkeypatch)
        yield running
    assert running.strays == []


@pytest.fixture
def laptop(tmp_path: Path, outlast_cli):
    """The command line in a folder with the recipe."""
    folder = tmp_path / "laptop"
    (folder / "walk").mkdir(parents=True)
    (folder / "walk/recipe.py").write_text(
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\n" + RECIPE
    )
    (folder / "walk/helper.py").write_text("STEP = 0.5\n")

    def call(*words: str, timeout: float = 120):
        # The recipe uses NumPy alone, and so do its sessions.
        return outlast_cli(*words, cwd=folder, timeout=timeout, template="torch" if "digits" in words else "launch")

    call.folder = folder
    return call
