"""Kills a training process before every one of its file operations in turn, resumes it, and compares with a twin.

    python -m tests.durability.crash torch FOLDER [--store naive] [--power] [--torn] [--stride N] [--offset N]

Each attempt is a fork of a process that has imported the framework and done nothing else, so that hundreds of them take
seconds. `--power` is a power cut in the worst case that POSIX allows: what was not fsynced is lost, names of folders that
were not fsynced go back to what they were. `--torn` lets the last write get half done. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

OPERATIONS = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "ftruncate")


class Counter:
    """Counts the file operations below a folder and kills the process before one of them."""

    def __init__(self, root: Path, kill_at: int, *, power: bool, torn: bool) -> None:
        self.root, self.kill_at, self.power, self.torn = str(root), kill_at, power, torn
        self.count = 0
        self.names: list[str] = []
        self.real = {name: getattr(os, name) for name in OPERATIONS}
        self.descriptors: dict[int, str] = {}
        self.synced: dict[str, int] = {}  # path -> bytes that are safe
        self.pending: list[tuple[str, str, bytes | None]] = []  # folder, path, what was there before its last change

    def install(self) -> None:
        for name in OPERATIONS:
            setattr(os, name, getattr(self, f"do_{name}"))

    def mine(self, path) -> bool:
        return (
            threading.current_thread().name.startswith(("MainThread", "outlast-writer"))  # not the lock's heartbeat
            and isinstance(path, str | os.PathLike)
            and str(path).startswith(self.root)
        )

    def point(self, name: str, path: str, on_torn=None) -> None:
        self.count += 1
        self.names.append(f"{name} {os.path.relpath(path, self.root)}")
        if self.count == self.kill_at:
            if self.torn and on_torn:
                on_torn()
            if self.power:
                promised = self.committed()[:-1]  # the newest may be in the middle of its commit
                self.cut_power()
                if promised and promised[-1] not in self.committed():
                    Path(self.root).parent.joinpath("lost.txt").write_text(f"{promised[-1]} was committed and is gone")
            os.kill(os.getpid(), signal.SIGKILL)

    def committed(self) -> list[str]:
        return sorted(path.parent.name for path in Path(self.root).glob("r/checkpoints/step-*/MANIFEST.json"))

    def cut_power(self) -> None:
        for folder, path, before in reversed(self.pending):
            del folder
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif before is None:
                if os.path.exists(path):
                    self.real["unlink"](path)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                descriptor = self.real["open"](path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                self.real["write"](descriptor, before)
        for path, size in self.synced.items():
            if os.path.isfile(path) and os.path.getsize(path) > size:
                os.truncate(path, size)

    def remember(self, path) -> None:
        path = str(path)
        before = None
        if os.path.isfile(path):
            with open(path, "rb") as file:
                before = file.read()[: self.synced.get(path, 2**62)]
        self.pending.append((os.path.dirname(path), path, before))

    def do_open(self, path, flags, mode=0o777, **more):
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if self.mine(path) and writes:
            self.point("open", str(path))
            new = not os.path.exists(path)
            if new:
                self.remember(path)
                self.synced[str(path)] = 0
            if flags & os.O_TRUNC:
                self.synced[str(path)] = 0
        descriptor = self.real["open"](path, flags, mode, **more)
        if self.mine(path):
            self.descriptors[descriptor] = str(path)
            if writes:
                self.synced.setdefault(str(path), os.path.getsize(path))
        return descriptor

    def do_write(self, descriptor, data):
        path = self.descriptors.get(descriptor)
        if path and self.mine(path):
            half = memoryview(data)[: len(data) // 2]
            self.point("write", path, on_torn=lambda: self.real["write"](descriptor, half))
        return self.real["write"](descriptor, data)

    def do_fsync(self, descriptor):
        if self.real["fsync"].__name__ == "<lambda>":
            return None
        path = self.descriptors.get(descriptor)
        if path and self.mine(path):
            self.point("fsync", path)
            if os.path.isdir(path):
                self.pending = [entry for entry in self.pending if entry[0] != path]
            else:
                self.synced[path] = os.path.getsize(path)
        return self.real["fsync"](descriptor)

    def do_ftruncate(self, descriptor, size):
        path = self.descriptors.get(descriptor)
        if path and self.mine(path):
            self.point("ftruncate", path)
        return self.real["ftruncate"](descriptor, size)

    def _rename(self, name, source, target):
        if self.mine(source):
            self.point(name, str(target))
            if os.path.isdir(source):
                self.pending.append((os.path.dirname(str(target)), str(target), None))
            else:
                self.remember(target)
            self.synced[str(target)] = self.synced.pop(str(source), 2**62)
        return self.real[name](source, target)

    def do_replace(self, source, target):
        return self._rename("replace", source, target)

    def do_rename(self, source, target):
        return self._rename("rename", source, target)

    def do_unlink(self, path, **more):
        if self.mine(path):
            self.point("unlink", str(path))
            self.remember(path)
        return self.real["unlink"](path, **more)

    def do_mkdir(self, path, mode=0o777, **more):
        if self.mine(path):
            self.point("mkdir", str(path))
            self.pending.append((os.path.dirname(str(path)), str(path), None))
        return self.real["mkdir"](path, mode, **more)

    def do_rmdir(self, path, **more):
        if self.mine(path):
            self.point("rmdir", str(path))
        return self.real["rmdir"](path, **more)


def train_torch(root: Path) -> None:
    import torch
    from torch import nn

    import outlast
    from outlast.environment import Environment, Limits

    torch.set_num_threads(1)
    outlast.seed_everything(1)
    features = torch.arange(40 * 6, dtype=torch.float32).reshape(40, 6).sin()
    dataset = torch.utils.data.TensorDataset(features, features.sum(1))
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    loader = outlast.DataLoader(dataset, 8, seed=3)
    environment = Environment("local", Limits(None, 2**34, 2))
    keep = outlast.Retention(last=2)
    with outlast.open_run(
        "r", root=root, save="4 steps, 1 epoch", keep=keep, progress="none", environment=environment
    ) as run:
        run.track(model=model, optimizer=optimizer, scheduler=scheduler)
        for x, y in run.batches(loader, epochs=2):
            loss = (model(x).squeeze(1) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            run.log(loss=loss)
        run.log(weight=model[0].weight.sum())


def train_jax(root: Path) -> None:
    import jax
    import jax.numpy as jnp

    import outlast
    from outlast.environment import Environment, Limits

    outlast.seed_everything(1)

    @jax.jit
    def update(state):
        params, momentum, key = state
        key, one = jax.random.split(key)
        x = jax.random.normal(one, (8,))
        grad = jax.grad(lambda p: jnp.square(p * x - 1).sum())(params)
        momentum = 0.9 * momentum + grad
        return (params - 0.01 * momentum, momentum, key), params.sum()

    environment = Environment("local", Limits(None, 2**34, 2))
    keep = outlast.Retention(last=2)
    with outlast.open_run(
        "r", total_steps=5, root=root, save="2 steps", keep=keep, progress="none", environment=environment
    ) as run:
        state = run.restore((jnp.ones(8), jnp.zeros(8), jax.random.key(0)))
        for _ in run.steps():
            state, total = update(state)
            run.offer(state, total=total)


TRAINERS = {"torch": train_torch, "jax": train_jax}


def attempt(trainer, root: Path, store: str, counter: Counter | None) -> int:
    """Train in a fork; returns the wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        signal.alarm(60)
        if store == "naive":
            import outlast.run
            from tests.durability.naive import NaiveStore

            outlast.run.Store = NaiveStore
        if counter:
            counter.install()
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        trainer(root)
        if counter and counter.kill_at == 0:
            (root.parent / "operations.json").write_text(json.dumps(counter.names))
            (root.parent / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    except BaseException as error:
        (root.parent / "error.txt").write_text(f"{type(error).__name__}: {error}")
        os._exit(1)
    os._exit(0)


def final_state(root: Path, store: str) -> dict[str, str] | None:
    """Hashes of what a finished run leaves: the newest checkpoint's files, and the journal."""
    import xxhash

    checkpoints = root / "r" / "checkpoints"
    newest = checkpoints / "last" if store == "naive" else max(checkpoints.glob("step-*"), default=None)
    if newest is None or not newest.is_dir():
        return None
    paths = [path for path in sorted(newest.iterdir()) if path.name != "MANIFEST.json"] + [root / "r" / "journal.jsonl"]
    return {path.name: xxhash.xxh3_128_hexdigest(path.read_bytes()) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=TRAINERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", default="outlast")
    parser.add_argument("--power", action="store_true")
    parser.add_argument("--torn", action="store_true")
    parser.add_argument("--drop-fsync", action="store_true", help="as if the store never asked for durability")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    options = parser.parse_args()
    importlib.import_module(options.framework)
    if options.drop_fsync:
        os.fsync = lambda descriptor: None
    trainer, folder = TRAINERS[options.framework], options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)

    twin = folder / "twin"
    twin.mkdir()
    assert attempt(trainer, twin, options.store, Counter(twin, 0, power=False, torn=False)) == 0, (
        folder / "error.txt"
    ).read_text()
    expected, names = final_state(twin, options.store), json.loads((folder / "operations.json").read_text())

    for name in json.loads((folder / "modules.json").read_text()):  # imported here once instead of in every fork
        with contextlib.suppress(Exception):
            importlib.import_module(name)

    failures = []
    points = range(1 + options.offset, len(names) + 1, options.stride)
    for point in points:
        root = folder / "crashed"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        status = attempt(trainer, root, options.store, Counter(root, point, power=options.power, torn=options.torn))
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            failures.append([point, names[point - 1], f"was not killed: {status} {(folder / 'error.txt').read_text()}"])
            continue
        lost = folder / "lost.txt"
        if lost.exists():
            failures.append([point, names[point - 1], lost.read_text()])
            lost.unlink()
            continue
        status = attempt(trainer, root, options.store, None)
        if status != 0:
            failures.append([point, names[point - 1], (folder / "error.txt").read_text()[:300]])
        elif final_state(root, options.store) != expected:
            found = final_state(root, options.store) or {}
            failures.append(
                [
                    point,
                    names[point - 1],
                    f"another end: {[name for name in expected if found.get(name) != expected[name]]}",
                ]
            )
    print(json.dumps({"operations": len(names), "points": len(points), "failures": failures}))


if __name__ == "__main__":
    main()
