"""Publishing 77 MB to git and a folder, beside DVC and git doing the same, and beside hashing and writing once.

    make bench-publish        DVC 3.67.1 is installed into an environment of its own

Four of them, by turns: hashing and writing once; what publishing does with files that are there; the whole command
`outlast publish`, which also starts Python, reads and verifies the checkpoint, exports its weights, draws the curves
and looks for secrets; and `dvc add`, `dvc push`, `git push`. Seconds on the clock, and seconds of a core of all
processes, which other work on the machine changes less.

Both commands start from compiled modules, as pip leaves them; the first round compiles those of this checkout.

All of them end when the bytes are safe as each understands it: outlast after fsync and the verdict read back.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import outlast
from outlast.environment import Environment, Limits
from outlast.publish.git import GitReference
from outlast.publish.plan import make_plan
from outlast.publish.repository import repository_at
from outlast.publish.transaction import Journal, publish
from outlast.remote.folder import FolderRemote

SIZES = {"train/weights/best.safetensors": 20_000_000, "train/weights/last.safetensors": 57_000_000}
ROUNDS = 5
MOST_SECONDS = 1.5
MOST_RATIO = 0.15
PIECE = 2**20


def git(place: Path, *words: str | Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON"))}
    environment |= dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "n")
    environment |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "n@localhost")
    subprocess.run(["git", "-C", place, *words], check=True, capture_output=True, env=environment)


def files(folder: Path) -> dict[str, Path]:
    """Random bytes, new ones each time, so that nothing is in any store."""
    found = {}
    for path, size in SIZES.items():
        found[path] = folder / path
        found[path].parent.mkdir(parents=True, exist_ok=True)
        found[path].write_bytes(os.urandom(size))
    found["train/metrics.json"] = folder / "train/metrics.json"
    found["train/metrics.json"].write_text("{}\n")
    return found


def world(folder: Path) -> tuple[Path, Path]:
    """A git server and a clone of it."""
    url, tree = folder / "server.git", folder / "tree"
    url.mkdir()
    git(url, "init", "--quiet", "--bare", "-b", "main")
    tree.mkdir()
    git(tree, "init", "--quiet", "-b", "main")
    (tree / "code.py").write_text("print(1)\n")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "-m", "first")
    git(tree, "remote", "add", "origin", url)
    git(tree, "push", "--quiet", "origin", "main")
    return url, tree


def with_outlast(folder: Path) -> Callable[[], object]:
    url, tree = world(folder)
    sources = files(folder / "run")

    def work() -> None:
        scratch = folder / "scratch"
        scratch.mkdir()
        plan = make_plan(module="m", experiment="e", time="2025-12-23T14:30:00Z", about={}, sources=sources.items())
        reference = GitReference(
            str(url), str(folder / "store"), scratch, repository=repository_at(tree, scratch), remote="origin"
        )
        publish(plan, FolderRemote(folder / "store"), reference, Journal(folder / "run/publish/x.json", {}))

    return work


class Weights:
    """One array of so many random bytes."""

    def __init__(self, size: int) -> None:
        self.array = np.frombuffer(os.urandom(size), np.uint8).view(np.float32)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"weight": self.array}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self.array = state["weight"]


def by_command(folder: Path) -> Callable[[], object]:
    """The larger file is exported from a checkpoint; the smaller one is an artifact, whose header has no text."""
    _, tree = world(folder)
    small, large = SIZES.values()
    here = Environment("local", Limits(seconds=None, ram=2**34, cores=2))
    with outlast.open_run("r", root=folder, total_steps=1, progress="none", environment=here) as run:
        run.track(weights=Weights(large))
        for _ in run.steps():
            run.log(loss=1.0)
    header = json.dumps({"w": {"dtype": "F32", "shape": [small // 4], "data_offsets": [0, small]}}).encode()
    artifact = folder / "r/artifacts/weights"
    artifact.mkdir(parents=True)
    data = len(header).to_bytes(8, "little") + header + os.urandom(small)
    (artifact / "best.safetensors").write_bytes(data)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = ["--to", "git+dvc", "--store", str(folder / "store"), "--repository", str(tree), "--part", "weights"]

    def work() -> None:
        command = [sys.executable, "-m", "outlast", "publish", str(folder / "r"), *words]
        subprocess.run(command, cwd=tree, check=True, capture_output=True, env=environment)

    return work


def with_dvc(folder: Path, command: str) -> Callable[[], object]:
    _, tree = world(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON"))}
    environment |= {"DVC_NO_ANALYTICS": "1"}

    def dvc(*words: str) -> None:
        subprocess.run([command, *words], cwd=tree, check=True, capture_output=True, env=environment)

    dvc("init", "--quiet")
    dvc("remote", "add", "-d", "store", str(folder / "store"))
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "-m", "dvc")
    files(tree / "artifacts")

    def work() -> None:
        dvc("add", *(f"artifacts/{path}" for path in SIZES))
        dvc("push")
        git(tree, "checkout", "--quiet", "-b", "x")
        git(tree, "add", "artifacts")
        git(tree, "commit", "--quiet", "-m", "publish")
        git(tree, "push", "--quiet", "origin", "x")

    return work


def plainly(folder: Path) -> Callable[[], object]:
    """Hash the bytes and write them once."""
    sources = files(folder / "run")

    def work() -> None:
        for number, source in enumerate(sources.values()):
            md5, sha256 = hashlib.md5(), hashlib.sha256()
            with source.open("rb") as read, (folder / str(number)).open("wb") as write:
                while piece := read.read(PIECE):
                    md5.update(piece)
                    sha256.update(piece)
                    write.write(piece)
                write.flush()
                os.fsync(write.fileno())

    return work


def measured(make: Callable[[Path], Callable[[], object]]) -> tuple[float, float]:
    """Seconds on the clock, and seconds of a core."""
    Path("bench-runs").mkdir(exist_ok=True)  # on the disk of the checkout; a temporary folder may be memory
    with tempfile.TemporaryDirectory(dir="bench-runs") as folder:
        work = make(Path(folder).resolve())
        os.sync()
        before, began = of_a_core(), time.perf_counter()
        work()
        return time.perf_counter() - began, of_a_core() - before


def of_a_core() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> int:
    command = shutil.which(sys.argv[1] if len(sys.argv) > 1 else "dvc")
    if command is None:
        sys.exit(f"There is no program {sys.argv[1:] or ['dvc']}; expected DVC 3.67.1, as in `make bench-publish`.")
    command = str(Path(command).absolute())  # it is started in other folders
    kinds = {
        "hashing and writing once": plainly,
        "outlast, files to git and a folder": with_outlast,
        "outlast publish, the whole command": by_command,
        "dvc add, dvc push, git push": lambda folder: with_dvc(folder, command),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for number in range(ROUNDS):  # by turns: the machine is not the same all the time
        for name, make in list(kinds.items())[:: 1 if number % 2 else -1]:
            taken[name].append(measured(make))
    plain, *ours, dvc = taken
    clock = {name: statistics.median(each[0] for each in values) for name, values in taken.items()}
    core = {name: statistics.median(each[1] for each in values) for name, values in taken.items()}
    print(f"77 MB, medians of {ROUNDS}; seconds on the clock and of a core, ratios to DVC within a round")
    for name, values in taken.items():
        ratios = [
            statistics.median(each[i] / other[i] for each, other in zip(values, taken[dvc], strict=True))
            for i in (0, 1)
        ]
        print(f"{name:36} {clock[name]:6.2f} {core[name]:6.2f}    {ratios[0]:5.2f} {ratios[1]:5.2f} of DVC's")
    for name in ours:
        print(f"{name}: {clock[name] - clock[plain]:.2f} s beyond (most {MOST_SECONDS})")
    print(json.dumps(taken))
    beyond = max(clock[name] - clock[plain] for name in ours)
    return 0 if beyond <= MOST_SECONDS and clock[ours[0]] / clock[dvc] <= MOST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
