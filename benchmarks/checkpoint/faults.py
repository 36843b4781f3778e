"""make bench-faults: what is left after a flipped bit, a truncated file, a full disk and kill -9, ours and the peers'.

Every value of the state is the number of the step, so a load that mixes two steps or takes damaged bytes is seen at
once. Each trial runs in a fork of its own. The peers overwrite one place, as their examples do.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.checkpoint.peers import PEERS, Peer
from rich.console import Console
from rich.table import Table

import outlast
from outlast.checkpoint import CheckpointStore, Retention
from outlast.environment import Environment, Limits
from outlast.errors import CheckpointError
from outlast.folder.layout import RunFolder
from outlast.run.parts import Parts

WIDTH = 512
OUTCOMES = {0: "right", 3: "refused", 4: "LOADED WRONG", 5: "nothing to load", 6: "fell back"}


class Ours(Peer):
    """A run that keeps two checkpoints."""

    def steps(self, first: int, last: int) -> None:
        here = Environment("local", Limits(None, 2**40, 2))
        with outlast.open_run(
            "r",
            total_steps=last,
            root=self.folder,
            save="1 steps",
            keep=Retention(last=2),
            progress="none",
            environment=here,
        ) as run:
            run.track(model=self.model, optimizer=self.optimizer)
            for step in run.steps():
                fill(self.model, self.optimizer, max(first, step))

    def save(self, place: Path) -> None:  # noqa: ARG002
        self.steps(0, 1 + max([c.step for c in CheckpointStore(RunFolder(self.folder / "r")).committed()], default=0))

    def load(self, place: Path) -> None:  # noqa: ARG002
        opened, damaged = CheckpointStore(RunFolder(self.folder / "r")).open_newest()
        if opened is None:
            raise FileNotFoundError
        parts = Parts(opened)
        parts.track({"model": self.model, "optimizer": self.optimizer})
        self.fell_back = bool(damaged)


def network() -> tuple[Any, Any]:
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(4)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, WIDTH)).sum().backward()
    optimizer.step()
    return model, optimizer


def tensors(model: Any, optimizer: Any) -> list[Any]:
    moments = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    return [*model.parameters(), *moments]


def fill(model: Any, optimizer: Any, step: int) -> None:
    with torch.no_grad():
        for tensor in tensors(model, optimizer):
            tensor.fill_(float(step))


def in_fork(action: Callable[[], int]) -> int:
    """Exit code of an action in a fork; -signal when it was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            code = action()
        except BaseException:  # noqa: BLE001 - an exit code says it
            code = 1
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


class Subject:
    """One way to save, in its own folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kind = Ours if name == "outlast" else PEERS[name]
        self.folder = folder
        self.place = folder / ("r" if name == "outlast" else "last")

    def peer(self) -> Any:
        torch.set_num_threads(1)
        return self.kind(*network(), self.folder)

    def write(self, step: int) -> int:
        def action() -> int:
            peer = self.peer()
            fill(peer.model, peer.optimizer, step)
            if hasattr(peer, "prepare"):
                peer.prepare()
            peer.save(self.place)
            peer.finish()
            return 0

        return in_fork(action)

    def write_for_ever(self) -> Callable[[], int]:
        def action() -> int:
            peer = self.peer()
            if isinstance(peer, Ours):
                peer.steps(1, 10**6)
            for step in range(1, 10**6):
                fill(peer.model, peer.optimizer, step)
                peer.save(self.place)
                peer.finish()
            return 0

        return action

    def read(self) -> str:
        def action() -> int:
            peer = self.peer()
            fill(peer.model, peer.optimizer, -1)
            try:
                peer.load(self.place)
            except FileNotFoundError:
                return 5
            except (CheckpointError, Exception):  # noqa: BLE001 - any refusal is one
                return 3 if self.place.exists() else 5
            values = {float(value) for tensor in tensors(peer.model, peer.optimizer) for value in tensor.unique()}
            if len(values) != 1 or -1.0 in values:
                return 4
            return 6 if getattr(peer, "fell_back", False) else 0

        return OUTCOMES.get(in_fork(action), "crashed")

    def has_begun(self) -> bool:
        """Whether there is something to lose: a peer's first file, or our first commit."""
        return any(self.place.glob("checkpoints/*/MANIFEST.json")) if self.kind is Ours else self.place.exists()

    def largest(self) -> Path:
        paths = [path for path in self.place.rglob("*") if path.is_file()] if self.place.is_dir() else [self.place]
        newest = max((path.parent for path in paths), key=lambda parent: parent.name) if self.kind is Ours else None
        return max((path for path in paths if newest in (None, path.parent)), key=lambda path: path.stat().st_size)


def damaged(name: str, folder: Path, count: int, harm: Callable[[Path], None]) -> collections.Counter[str]:
    """The result of loading a finished save whose largest file was damaged."""
    found: collections.Counter[str] = collections.Counter()
    for trial in range(count):
        subject = fresh(name, folder / f"{harm.__name__}{trial}")
        for step in (1, 2) if name == "outlast" else (1,):
            subject.write(step)
        harm(subject.largest())
        found[subject.read()] += 1
    return found


def flip(path: Path) -> None:
    """Turn one bit somewhere in the middle half."""
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data) // 4, len(data) * 3 // 4)] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Cut it off anywhere."""
    os.truncate(path, random.randrange(path.stat().st_size))


def full_disks(name: str, folder: Path, count: int) -> collections.Counter[str]:
    """A second save that the system refuses half-way (RLIMIT_FSIZE stands for the full disk)."""
    found: collections.Counter[str] = collections.Counter()
    for trial in range(count):
        subject = fresh(name, folder / f"full{trial}")
        subject.write(1)
        limit = random.randrange(2**16, 2**21)

        def full(subject: Subject = subject, limit: int = limit) -> int:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            return subject.write(2)

        in_fork(full)
        found[subject.read()] += 1
    return found


def kills(name: str, folder: Path, count: int) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for trial in range(count):
        subject = fresh(name, folder / f"kill{trial}")
        child = os.fork()
        if not child:
            code = in_fork_quietly(subject.write_for_ever())
            os._exit(code)
        started = time.monotonic()
        while not subject.has_begun() and time.monotonic() - started < 30:
            time.sleep(0.002)
        time.sleep(random.uniform(0.05, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found[subject.read()] += 1
        shutil.rmtree(subject.folder)
    return found


def in_fork_quietly(action: Callable[[], int]) -> int:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        return action()
    except BaseException:  # noqa: BLE001
        return 1


def fresh(name: str, folder: Path) -> Subject:
    folder.mkdir(parents=True)
    return Subject(name, folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200, help="for outlast; the peers get a tenth, at least 15")
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    names = [
        name for name in ("outlast", *PEERS) if (not options.only or name in options.only) and name != "Orbax (JAX)"
    ]
    names = [name for name in names if name == "outlast" or PEERS[name].installed()]
    results: dict[str, dict[str, dict[str, int]]] = {}
    torch.set_num_threads(1)
    network()  # what torch imports on first use is imported here, once, and not in every fork
    for name in names:
        random.seed(0)
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            trials = options.kills if name == "outlast" else max(15, options.kills // 10)
            results[name] = {
                "bit flipped": damaged(name, folder, 12, flip),
                "truncated": damaged(name, folder, 4, cut),
                "disk full": full_disks(name, folder, 4),
                "kill -9": kills(name, folder, trials),
            }
        print(name, json.dumps(results[name]), file=sys.stderr)
    table = Table("way", *next(iter(results.values())), box=None, header_style="bold", pad_edge=False)
    for name, faults in results.items():
        table.add_row(
            name, *(", ".join(f"{count} {word}" for word, count in found.items()) for found in faults.values())
        )
    Console(width=150, highlight=False).print(table)
    place = Path(__file__).parents[1] / "results"
    place.mkdir(exist_ok=True)
    (place / "faults.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
