"""`make soak-kaggle`: a run of many short sessions on the stand-in, with random faults and a relay that is killed at
random.

python -m tests.launch.soak [--sessions 20] [--seed 0] [DIR]

Ends with 0 when the run ends as its twin on this machine, byte for byte, and nothing was pushed twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.standins.kaggle import Fault, Standin, log_in

STEPS = 3  # of a session

RECIPE = """
import time

import numpy as np
import outlast


def train(run, config):
    outlast.seed_everything(config.seed)
    state = run.restore({"x": np.zeros(20_000), "sum": np.zeros(())})
    for step in run.steps(config.steps):
        noise = np.random.standard_normal(20_000)
        state = {"x": state["x"] + noise, "sum": state["sum"] + noise[0]}
        run.offer(state, sum=state["sum"])
        if config.stop_every and step % config.stop_every == 0 and step < config.steps:
            run.session.request_stop("budget", "the session of the soak is short")


class Config(outlast.SupervisedConfig):
    steps: int = outlast.setting(60, "in all")
    stop_every: int = outlast.setting(0, "steps after which a session ends; 0: never", on_resume="free")


recipe = outlast.Recipe(name="soak", summary="a random walk", Config=Config, train=train)
"""

REPEATABLE = ("GetKernelSessionStatus", "ListKernelSessionOutput", "GetAcceleratorQuotaStatistics", "GetDatasetStatus")
HARMLESS = ("429", "500", "503", "html", "drop", "drop after", "cut")


def faults(chance: random.Random) -> list[Fault]:
    """Some of everything that happens to requests."""
    made = [
        Fault(chance.choice(REPEATABLE), chance.choice(HARMLESS), skip=chance.randrange(4), retry_after=0.05)
        for _ in range(chance.randrange(4))
    ]
    if chance.random() < 0.5:
        made.append(Fault("SaveKernel", chance.choice(("drop", "drop after", "429", "503", "html"))))
    if chance.random() < 0.6:
        made.append(Fault("download", chance.choice(("corrupt", "cut", "503", "403")), skip=chance.randrange(8)))
    if chance.random() < 0.4:
        made.append(Fault("logs", chance.choice(("503", "cut"))))
    return made


def soak(folder: Path, sessions: int, seed: int, *, tell=print) -> int:
    """Run it; returns how many sessions it took. Raises AssertionError when anything was lost or done twice."""
    chance = random.Random(seed)
    steps = sessions * STEPS
    laptop = folder / "laptop"
    (laptop / "soak").mkdir(parents=True)
    (laptop / "soak/recipe.py").write_text(RECIPE)
    train = [sys.executable, "-m", "outlast.cli", "train", "soak", "--steps", str(steps), "--checkpoint-dir", "twin"]
    base = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}", "OMP_NUM_THREADS": "1"}
    subprocess.run(train, cwd=laptop, env=base, check=True, capture_output=True)
    with Standin(folder / "kaggle") as standin:
        standin.world.add_user("ada", "key-of-ada")
        log_in(folder / "home")
        environment = {**base, **standin.client_environment(folder / "home")}
        asked = folder / "asked.json"
        flags = {"steps": str(steps), "stop_every": str(STEPS)}
        kills = errors = starts = seen = 0
        deadline = time.monotonic() + 60 + 40 * sessions
        while True:
            assert time.monotonic() < deadline, "the relay comes to no end"
            starts += 1
            dying = {"die": chance.randrange(1, 12), "after": chance.random() < 0.5} if chance.random() < 0.5 else {}
            asked.write_text(json.dumps({"recipe": "soak", "flags": flags, "keep": 2, **dying}))
            standin.faults = faults(chance)
            command = [sys.executable, "-m", "tests.launch.relaying", str(asked)]
            process = subprocess.Popen(
                command, cwd=laptop, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            end = time.monotonic() + chance.uniform(4, 20)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.7)
                new = faults(chance)
                standin.faults = [fault for fault in standin.faults if fault.times] + new
                seen += sum(fault.times for fault in new)
            process.kill()
            out, _ = process.communicate()
            kills += process.returncode < 0
            errors += process.returncode == 1
            tell(f"start {starts}: ended with {process.returncode}; {out.strip().splitlines()[-1:]}")
            if process.returncode == 0:
                break
            assert process.returncode in (1, -9), out  # 1: patience or tries ran out; the same command goes on
        ours, twin = laptop / "runs/soak", laptop / "twin/soak"
        assert (ours / "journal.jsonl").read_bytes() == (twin / "journal.jsonl").read_bytes()
        newest = [max(root.glob("checkpoints/step-*")) for root in (ours, twin)]
        for name in ("state.safetensors", "rng.safetensors", "state.json"):
            assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes(), name
        assert all(len(kernel.versions) == 1 for kernel in standin.world.kernels.values())
        pushed = standin.world.pushed
        assert pushed >= sessions
        assert not standin.strays
        tell(
            f"{sessions} sessions of {STEPS} steps, {pushed} pushed, {starts} starts of the relay, {kills} of them "
            f"killed and {errors} given up, among {seen} faults: identical to the twin"
        )
        return pushed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("folder", type=Path, nargs="?")
    values = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        soak(values.folder or Path(scratch), values.sessions, values.seed)
