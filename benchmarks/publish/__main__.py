"""Publishing 77 MB to git and a folder, beside DVC and git doing the same, and beside hashing and writing once.

    make bench-publish        DVC 3.67.1 is installed into an environment of its own

All of them end when the bytes are safe as each understands it: outlast after fsync and the verdict read back.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from outlast.publish.git import GitReference, repository_at
from outlast.publish.plan import make_plan
from outlast.publish.transaction import Journal, publish
from outlast.remote.folder import FolderRemote

SIZES = {"train/weights/best.safetensors": 20_000_000, "train/weights/last.safetensors": 57_000_000}
ROUNDS = 3
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


def seconds(make: Callable[[Path], Callable[[], object]]) -> float:
    Path("bench-runs").mkdir(exist_ok=True)  # on the disk of the checkout; a temporary folder may be memory
    with tempfile.TemporaryDirectory(dir="bench-runs") as folder:
        work = make(Path(folder).resolve())
        os.sync()
        began = time.perf_counter()
        work()
        return time.perf_counter() - began


def main() -> int:
    command = sys.argv[1] if len(sys.argv) > 1 else "dvc"
    kinds = {"plain": plainly, "outlast": with_outlast, "dvc": lambda folder: with_dvc(folder, command)}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):  # by turns: the machine is not the same all the time
        for name, make in kinds.items():
            taken[name].append(seconds(make))
    middle = {name: statistics.median(values) for name, values in taken.items()}
    beyond, ratio = middle["outlast"] - middle["plain"], middle["outlast"] / middle["dvc"]
    print(f"77 MB, median of {ROUNDS}: hashing and writing once {middle['plain']:.2f} s")
    print(f"outlast publish to git and a folder: {middle['outlast']:.2f} s, {beyond:.2f} beyond (most {MOST_SECONDS})")
    print(f"dvc add, dvc push, git push: {middle['dvc']:.2f} s; outlast takes {ratio:.3f} of it (most {MOST_RATIO})")
    print(json.dumps(taken))
    return 0 if beyond <= MOST_SECONDS and ratio <= MOST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
