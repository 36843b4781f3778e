"""Kills a training process before every one of its file operations in turn, resumes it, and compares with a twin.

    python -m tests.durability.crash torch|large|jax|each FOLDER [--store naive] [--power] [--torn] [--again N]
    ...

Each attempt is a fork of a process that has imported the framework and done nothing else, so that hundreds of them take
seconds. `--power` is a power cut (`power`): what was not fsynced is lost or not, file by file and name by name.
`--torn` lets the last write get half done. `--again` kills an attempt that continues what a killed one left. Prints one
JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

from tests.durability.power import Disk

OPERATIONS = ("open", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "ftruncate")


class Counter:
    """Counts the file operations below a folder and kills the process before one of them."""

    def __init__(
        self, root: Path, kill_at: int, *, power: bool, torn: bool, drop_fsync: bool = False, seed: int = 0
    ) -> None:
        self.root, self.kill_at, self.power, self.torn = str(root), kill_at, power, torn
        self.drop_fsync, self.seed = drop_fsync, seed
        self.count = 0
        self.names: list[str] = []
        self.real = {name: getattr(os, name) for name in OPERATIONS}
        self.descriptors: dict[int, str] = {}
        self.elsewhere: dict[int, str] = {}
        self.synced: set[str] = set()
        self.disk: Disk | None = None
        self.alone = threading.RLock()
        self.over = False
        self.stopped: list[threading.Thread] = []

    def install(self) -> None:
        if self.power:
            self.disk = Disk(Path(self.root), 1000 * self.seed + self.kill_at, self.real)
        for name in OPERATIONS:
            setattr(os, name, self.one_at_a_time(getattr(self, f"do_{name}"), self.real[name]))

    def one_at_a_time(self, watched, real):
        """Several threads write: what is noted about the disk is right, and none goes on while the power is cut."""

        def operation(*args, **options):
            if not self.over:
                with self.alone:  # who kills never gives it back
                    return watched(*args, **options)
            if threading.current_thread() in self.stopped:
                threading.Event().wait()
            return real(*args, **options)

        return operation

    def mine(self, path, folder=None) -> str | None:
        """The whole path when it is below the folder and one of the run's own threads asks, else None."""
        if not threading.current_thread().name.startswith(("MainThread", "outlast-writer")):  # not the lock's heartbeat
            return None
        if isinstance(path, int):
            return self.descriptors.get(path)
        path = (
            os.path.join(self.descriptors.get(folder, ""), os.fspath(path)) if folder is not None else os.fspath(path)
        )
        return path if isinstance(path, str) and path.startswith(self.root + os.sep) else None

    def point(self, name: str, path: str, on_torn=None) -> None:
        self.count += 1
        self.names.append(f"{name} {os.path.relpath(path, self.root)}")
        if self.count == self.kill_at:
            if self.torn and on_torn:
                with contextlib.suppress(OSError):  # half a page is no write that O_DIRECT allows
                    on_torn()
            self.stopped = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
            self.over = True
            if self.disk:
                promised = self.promised()
                self.disk.cut_power()
                if lost := self.lost(promised):
                    Path(self.root).parent.joinpath("lost.txt").write_text(lost)
            os.kill(os.getpid(), signal.SIGKILL)

    def promised(self) -> list[Path]:
        """Checkpoints that must survive: all but the newest, which may be in the middle of its commit, or is durable as
        well."""
        manifests = sorted(Path(self.root).glob("r/checkpoints/step-*/MANIFEST.json"))
        return [path.parent for path in manifests if path != manifests[-1] or self.disk.is_durable(str(path))]

    def lost(self, promised: list[Path]) -> str | None:
        from outlast.checkpoint import verify

        for path in promised:
            try:
                verify(path)
            except Exception as error:
                return f"{path.name} was committed and is lost: {error}"
        return None

    def do_open(self, path, flags, mode=0o777, *, dir_fd=None):
        mine = self.mine(path, dir_fd)
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if mine and writes:
            self.point("open", mine)
        descriptor = self.real["open"](path, flags, mode, dir_fd=dir_fd)
        self.descriptors.pop(descriptor, None)
        self.elsewhere[descriptor] = str(path)
        if mine or os.fspath(path) == self.root:
            self.descriptors[descriptor] = mine or self.root
            if self.disk and writes:
                self.disk.opened(mine, truncated=bool(flags & os.O_TRUNC))
        return descriptor

    def do_write(self, descriptor, data):
        if mine := self.mine(descriptor):
            half = memoryview(data)[: len(data) // 2]
            if len(half) > 4096:
                half = half[: len(half) // 4096 * 4096]
            self.point("write", mine, on_torn=lambda: self.real["write"](descriptor, half))
        return self.real["write"](descriptor, data)

    def do_fsync(self, descriptor):
        mine = None if self.drop_fsync else self.mine(descriptor)
        if mine:
            self.point("fsync", mine)
            if self.disk:
                self.disk.synced(mine)
        elif not self.drop_fsync:
            self.synced.add(self.elsewhere.get(descriptor, ""))

    def do_ftruncate(self, descriptor, size):
        mine = self.mine(descriptor)
        if mine:
            self.point("ftruncate", mine)
        self.real["ftruncate"](descriptor, size)
        if mine and self.disk:
            self.disk.truncated(mine, size)

    def _rename(self, name, source, target, folders):
        mine, where = self.mine(source, folders.get("src_dir_fd")), self.mine(target, folders.get("dst_dir_fd"))
        if mine:
            self.point(name, where)
        self.real[name](source, target, **folders)
        if mine and self.disk:
            self.disk.renamed(mine, where)

    def do_replace(self, source, target, **folders):
        self._rename("replace", source, target, folders)

    def do_rename(self, source, target, **folders):
        self._rename("rename", source, target, folders)

    def do_link(self, source, target, **folders):
        if mine := self.mine(target):
            self.point("link", mine)
        self.real["link"](source, target, **folders)
        if mine and self.disk:
            if own := self.mine(source):
                self.disk.linked(own, mine)
            else:
                self.disk.came(mine, synced=str(source) in self.synced)

    def _change(self, name, note, path, *more, dir_fd=None):
        mine = self.mine(path, dir_fd)
        if mine:
            self.point(name, mine)
        self.real[name](path, *more, dir_fd=dir_fd)
        if mine and self.disk:
            getattr(self.disk, note)(mine)

    def do_unlink(self, path, *, dir_fd=None):
        self._change("unlink", "removed", path, dir_fd=dir_fd)

    def do_rmdir(self, path, *, dir_fd=None):
        self._change("rmdir", "removed", path, dir_fd=dir_fd)

    def do_mkdir(self, path, mode=0o777, *, dir_fd=None):
        self._change("mkdir", "made", path, mode, dir_fd=dir_fd)


def train_torch(root: Path, save: str = "4 steps, 1 epoch") -> None:
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
    with outlast.open_run("r", root=root, save=save, keep=keep, progress="none", environment=environment) as run:
        run.track(model=model, optimizer=optimizer, scheduler=scheduler)
        for x, y in run.batches(loader, epochs=2):
            if "every step" in save and (flight := run._loop.saver._flight):
                flight.future.exception()  # so that each step is kept, and the operations are the same each time
            loss = (model(x).squeeze(1) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            run.log(loss=loss)
        run.log(weight=model[0].weight.sum())


def train_each(root: Path) -> None:
    """Every step is left in a slot, and every fourth one is saved."""
    train_torch(root, "4 steps, every step")


def train_large(root: Path) -> None:
    """Files that checkpoints share, arrays that are copied while training goes on, several chunks a file, and the best
    kept."""
    import torch
    from torch import nn

    import outlast
    from outlast.environment import Environment, Limits

    torch.set_num_threads(1)
    outlast.seed_everything(1)
    features = torch.arange(32 * 128, dtype=torch.float32).reshape(32, 128).sin()
    dataset = torch.utils.data.TensorDataset(features, features[:, :8].sum(1))
    frozen = nn.Linear(128, 2**11).requires_grad_(False)  # 1 MiB, stable
    model = nn.Sequential(frozen, nn.Tanh(), nn.Linear(2**11, 16), nn.ReLU(), nn.Linear(16, 1))  # 128 KiB, trained
    optimizer = torch.optim.AdamW(model[2:].parameters(), lr=1e-3)
    loader = outlast.DataLoader(dataset, 8, seed=3)
    environment = Environment("local", Limits(None, 2**34, 2))
    keep = outlast.Retention(last=1, best=1, metric="score")
    with outlast.open_run("r", root=root, save="2 steps", keep=keep, progress="none", environment=environment) as run:
        run.track(model=model, optimizer=optimizer)
        for x, y in run.batches(loader, epochs=3):
            loss = (model(x).squeeze(1) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if run.step == 7:  # what was shared until now is another file from here on
                with torch.no_grad():
                    frozen.weight.mul_(0.5)
            run.log(loss=loss)
            if run.step % 2 == 0:
                run.log(score=-abs(run.step - 8.0))


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


TRAINERS = {"torch": train_torch, "large": train_large, "jax": train_jax, "each": train_each}
CHUNK = 2**18
"""Of the large state, so that its files have several; a multiple of a page, as the real one is."""


def attempt(trainer, root: Path, store: str, counter: Counter | None) -> int:
    """Train in a fork; returns the wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        signal.alarm(60)
        if store == "naive":
            import outlast.run.open
            from tests.durability.naive import NaiveStore

            outlast.run.open.CheckpointStore = NaiveStore
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


def final_state(root: Path, store: str, framework: str) -> dict[str, str] | None:
    """Hashes of what a finished run leaves: the newest checkpoint and the journal, byte for byte.

    Of the large state the arrays, because which file holds them depends on what the attempt has saved before; and the
    best.
    """
    from outlast.checkpoint import open_checkpoint
    from outlast.folder.hashing import digest

    checkpoints = root / "r" / "checkpoints"
    newest = checkpoints / "last" if store == "naive" else max(checkpoints.glob("step-*"), default=None)
    if newest is None or not newest.is_dir():
        return None
    paths = [path for path in sorted(newest.iterdir()) if path.name != "MANIFEST.json"]
    contents = {path.name: path.read_bytes() for path in paths}
    if framework == "large" and store == "outlast":
        opened = open_checkpoint(newest)
        contents = {"state.json": contents["state.json"]}
        for part, arrays in opened.parts.items():
            contents |= {f"{part}[{name}]": array.data for name, array in arrays.items()}
        contents["best"] = (checkpoints / "step-00000008" / "model.safetensors").read_bytes()
    contents["journal"] = (root / "r" / "journal.jsonl").read_bytes()
    return {name: digest(data) for name, data in contents.items()}


class Harness:
    """What is killed and compared.

    Args:
        options: as the command line gives them.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, options.folder.resolve()
        self.trainer, self.root = TRAINERS[options.framework], self.folder / "crashed"

    def counter(self, root: Path, point: int, seed: int = 0) -> Counter:
        power, torn, drop_fsync = bool(point and self.options.power), self.options.torn, self.options.drop_fsync
        return Counter(root, point, power=power, torn=torn, drop_fsync=drop_fsync, seed=seed)

    def count(self, root: Path) -> list[str]:
        """Train to the end; returns the names of the file operations."""
        status = attempt(self.trainer, root, self.options.store, self.counter(root, 0))
        assert status == 0, (self.folder / "error.txt").read_text()
        return json.loads((self.folder / "operations.json").read_text())

    def kill(self, point: int, seed: int, base: Path | None) -> str | None:
        """Train from the base until a point, and no further; returns what is wrong with that."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(base, self.root) if base else self.root.mkdir()
        status = attempt(self.trainer, self.root, self.options.store, self.counter(self.root, point, seed))
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return f"was not killed: {status} {(self.folder / 'error.txt').read_text()}"
        lost = self.folder / "lost.txt"
        if lost.exists():
            sentence = lost.read_text()
            lost.unlink()
            return sentence
        return None

    def resume(self, expected: dict[str, str]) -> str | None:
        """Train to the end; returns how that is another one."""
        if attempt(self.trainer, self.root, self.options.store, None) != 0:
            return (self.folder / "error.txt").read_text()[:300]
        found = final_state(self.root, self.options.store, self.options.framework) or {}
        wrong = [name for name in expected if found.get(name) != expected[name]]
        return f"another end: {wrong}" if wrong or found.keys() != expected.keys() else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=TRAINERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", default="outlast")
    parser.add_argument("--power", action="store_true")
    parser.add_argument("--torn", action="store_true")
    parser.add_argument("--drop-fsync", action="store_true", help="as if the store never asked for durability")
    parser.add_argument("--again", type=int, help="kill the second attempt, after the first was killed at this point")
    parser.add_argument("--seeds", type=int, default=1, help="power cuts at each point, each leaving something else")
    parser.add_argument("--only", default="", help="points whose operation this regular expression matches")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    options = parser.parse_args()
    importlib.import_module("jax" if options.framework == "jax" else "torch")
    os.fsync = lambda descriptor: None  # a killed process loses nothing without it, and the power is cut by us
    if options.framework == "large":
        from outlast.checkpoint import writer
        from outlast.folder import hashing

        hashing.CHUNK = writer.CHUNK = CHUNK
    harness = Harness(options)
    twin = harness.folder / "twin"
    twin.mkdir(parents=True)
    names = harness.count(twin)
    expected = final_state(twin, options.store, options.framework)
    for name in json.loads((harness.folder / "modules.json").read_text()):  # once, and not in every fork
        with contextlib.suppress(Exception):
            importlib.import_module(name)

    base = None
    if options.again:
        assert harness.kill(options.again, 0, None) is None
        base = shutil.copytree(harness.root, harness.folder / "base")
        names = harness.count(shutil.copytree(base, harness.folder / "second"))
    failures = []
    points = [point for point, name in enumerate(names, start=1) if re.search(options.only, name)]
    points = points[options.offset :: options.stride]
    for point, seed in itertools.product(points, range(options.seeds)):
        wrong = harness.kill(point, seed, base) or harness.resume(expected)
        if wrong:
            failures.append([point, names[point - 1], wrong])
    print(json.dumps({"operations": len(names), "points": len(points), "failures": failures}))


if __name__ == "__main__":
    main()
