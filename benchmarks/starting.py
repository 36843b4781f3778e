"""From Enter to the end of the first step, of a new run and of one that is resumed, beside bare scripts.

    python -m benchmarks.starting [--rounds N] [--megabytes N] [--only train|resume]

`train`: `outlast train digits`, and a script that imports the same frameworks, builds the same network, optimizer and
batches, and makes a step. `resume`: `outlast resume` of a recipe with a large state, and a script that builds the same
network, reads every file of the checkpoint, compares it with the hashes of the manifest, makes views of its bytes the
weights and the moments, and makes a step. Pairs in alternating order. Prints JSON: for the clock and for seconds of a
core (of the process until that moment), medians, the median of the ratios within a pair, and
`least`, the ratio of the quickest of each, which other processes disturb least.

The end of the first step is noted in the same way in both: a hook of torch, from a sitecustomize.py on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HOOK = """
import importlib.abc, importlib.util, os, sys, time

class AfterImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch.optim.optimizer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            module.register_optimizer_step_post_hook(note)
        spec.loader.exec_module = exec_module
        return spec

def note(*_):
    global note_once
    if note_once:
        note_once = False
        with open(os.environ["NOTE"], "w") as file:
            file.write(f"{time.monotonic():.6f} {time.process_time():.6f}")

note_once = True
sys.meta_path.insert(0, AfterImport())
"""

DIGITS = """
import copy
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
images, labels = load_digits(return_X_y=True)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
x, y = torch.from_numpy(images).float().view(-1, 1, 8, 8)[order] / 16, torch.from_numpy(labels)[order]

def block(channels, out):
    return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]

model = nn.Sequential(*block(1, 32), *block(32, 64), nn.MaxPool2d(2), *block(64, 64),
                      nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, 10))
average = copy.deepcopy(model).eval()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
loader = DataLoader(TensorDataset(x[:1197], y[:1197]), 64, shuffle=True, drop_last=True)
for x, y in loader:
    x = torch.roll(x, torch.randint(-1, 2, (2,)).tolist(), (2, 3))
    F.cross_entropy(model(x), y, label_smoothing=0.05).backward()
    optimizer.step()
    break
"""

READ = """
import json, os, sys
import torch, xxhash
from benchmarks.checkpoint.network import network, train

folder, nbytes = sys.argv[1], int(sys.argv[2])
model, optimizer = network(nbytes)
manifest = json.load(open(f"{folder}/MANIFEST.json"))
tensors = {}
for name, entry in manifest["files"].items():
    memory = memoryview(torch.empty(entry["size"], dtype=torch.uint8).numpy())
    with open(f"{folder}/{name}", "rb", buffering=0) as file:
        for index, start in enumerate(range(0, entry["size"], 1 << 24)):
            chunk = memory[start : start + (1 << 24)]
            assert file.readinto(chunk) == len(chunk)
            assert xxhash.xxh3_128_hexdigest(chunk) == entry["xxh3_128"][index]
    if name in ("model.safetensors", "optimizer.safetensors"):
        size = 8 + int.from_bytes(memory[:8], "little")
        whole = torch.frombuffer(memory, dtype=torch.uint8)
        for key, about in json.loads(bytes(memory[8:size])).items():
            if key != "__metadata__":
                begin, end = about["data_offsets"]
                tensors[key] = whole[size + begin : size + end].view(torch.float32).view(about["shape"])
for index, (name, parameter) in enumerate(model.named_parameters()):
    parameter.data = tensors[name]
    optimizer.state[parameter] = {key: tensors[f"state/{index}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
train(model, optimizer)
"""

LIGHT = """
import outlast

recipe = outlast.Recipe(name="wide", summary="wide layers", Config=outlast.Config, code=".training")
"""

RECIPE = """
import os
import torch
from benchmarks.checkpoint.network import network, train as step_of

def train(run, config):
    model, optimizer = network(int(os.environ["NBYTES"]))
    run.track(model=model, optimizer=optimizer)
    for step in run.steps(3):
        step_of(model, optimizer)
        if step == 1:
            run.session.request_stop("budget", "one step is enough")
        if step == 2:
            os._exit(0)  # what comes after the first step is not the question
"""


def environment(root: Path) -> dict[str, str]:
    """Variables of both: the hook, and outlast and the benchmarks by their place."""
    (root / "hook").mkdir(exist_ok=True)
    (root / "hook/sitecustomize.py").write_text(HOOK)
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = [str(root / "hook"), str(Path(__file__).parents[1]), *filter(None, path)]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(here), "NOTE": str(root / "note")}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # pip compiles what it installs, and outlast may be a checkout here
    return found


def started(words: list[str], root: Path, variables: Mapping[str, str]) -> tuple[float, float]:
    """Seconds from the start of a process to the end of its first step, on the clock and of a core."""
    (root / "note").unlink(missing_ok=True)
    begun = time.monotonic()
    done = subprocess.run(words, cwd=root, env=dict(variables), capture_output=True, text=True, check=False)
    if not (root / "note").exists():
        raise SystemExit(f"{words} made no step: {done.stdout[-500:]}{done.stderr[-2000:]}")
    at, core = map(float, (root / "note").read_text().split())
    return at - begun, core


def train(root: Path) -> tuple[Callable[[], tuple[float, float]], Callable[[], tuple[float, float]]]:
    """Starts of the bare script and of `outlast train digits`."""
    variables = environment(root)
    (root / "bare.py").write_text(DIGITS)
    outlast = [str(Path(sys.executable).with_name("outlast")), "train", "digits", "--epochs", "1"]

    def ours() -> tuple[float, float]:
        shutil.rmtree(root / "runs", ignore_errors=True)
        return started(outlast, root, variables)

    return lambda: started([sys.executable, "bare.py"], root, variables), ours


def resume(root: Path, megabytes: float) -> tuple[Callable[[], tuple[float, float]], Callable[[], tuple[float, float]]]:
    """Starts of the script that reads and verifies, and of `outlast resume`."""
    nbytes = str(int(megabytes * 1e6))
    variables = {**environment(root), "NBYTES": nbytes}
    (root / "bare.py").write_text(READ)
    (root / "wide").mkdir()
    (root / "wide/recipe.py").write_text(LIGHT)
    (root / "wide/training.py").write_text(RECIPE)
    outlast = str(Path(sys.executable).with_name("outlast"))
    started([outlast, "train", "./wide"], root, variables)
    checkpoint = "runs/wide/checkpoints/step-00000001"
    if not (root / checkpoint / "MANIFEST.json").exists():
        raise SystemExit("the state was not saved")
    return (
        lambda: started([sys.executable, "bare.py", checkpoint, nbytes], root, variables),
        lambda: started([outlast, "resume", "wide", "--recipe", "./wide"], root, variables),
    )


def measure(rounds: int, pair: tuple[Callable[[], tuple[float, float]], Callable[[], tuple[float, float]]]) -> object:
    """Medians and ratios of pairs, after one of each that makes the files' cache warm."""
    found: list[list[tuple[float, float]]] = [[], []]
    for way in pair:
        way()
    for number in range(rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            found[index].append(pair[index]())
    result = {}
    for number, name in enumerate(("clock", "core")):
        bare, ours = ([each[number] for each in way] for way in found)
        ratios = sorted(b / a for a, b in zip(bare, ours, strict=True))
        result[name] = {
            "bare": round(statistics.median(bare), 2),
            "outlast": round(statistics.median(ours), 2),
            "ratio": round(statistics.median(ratios), 3),
            "least": round(min(ours) / min(bare), 3),
            "from": round(ratios[0], 3),
            "to": round(ratios[-1], 3),
        }
    return result


def main(rounds: int, megabytes: float, only: str | None) -> None:
    """Measure and print."""
    shown: dict[str, object] = {"rounds": rounds, "megabytes": megabytes}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if only != "resume":
            (root / "train").mkdir()
            shown["train"] = measure(rounds, train(root / "train"))
        if only != "train":
            (root / "resume").mkdir()
            shown["resume"] = measure(rounds, resume(root / "resume", megabytes))
    print(json.dumps({**shown, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=990.0)
    parser.add_argument("--only", choices=("train", "resume"))
    given = parser.parse_args()
    main(given.rounds, given.megabytes, given.only)
