"""Kills a publisher before each of its file operations in turn, and looks at what others see.

The publisher is a fork; `Counter` counts the operations of this process below a folder and kills it before one of them.
With `lose`, every file whose bytes were not fsynced is empty afterwards, which is the worst that a power cut may do.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from outlast.remote import parallel
from tests.durability.publish import apart
from tests.publish import making

OPERATIONS = ("open", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "utime")


@dataclass
class Counter:
    """Counts the mutating operations below a folder, and kills before one of them.

    Attributes:
        root: the folder.
        kill_at: number of the operation, from 1; 0: none.
        lose: whether unsynced bytes are lost then.
    """

    root: Path
    kill_at: int
    lose: bool = False
    names: list[str] = field(default_factory=list)
    unsynced: dict[tuple[int, int], str] = field(default_factory=dict)

    def install(self) -> None:
        self.real = {name: getattr(os, name) for name in OPERATIONS}
        self.paths: dict[int, str] = {}
        self.alone = threading.RLock()
        for name in OPERATIONS:
            setattr(os, name, self._one_at_a_time(getattr(self, f"_{name}", None) or self._counted(name)))

    def _one_at_a_time(self, watched: Callable) -> Callable:
        """Several threads write: each operation has one number, and none goes on while the power is cut."""

        def operation(*args, **named):
            with self.alone:
                return watched(*args, **named)

        return operation

    def point(self, name: str, path: object) -> None:
        self.names.append(f"{name} {path}")
        if len(self.names) == self.kill_at:
            if self.lose:
                self.cut_power()
            os.kill(os.getpid(), signal.SIGKILL)

    def cut_power(self) -> None:
        lost = set(self.unsynced)
        for folder, _, files in os.walk(self.root):
            for each in files:
                path = os.path.join(folder, each)
                found = os.lstat(path)
                if (found.st_dev, found.st_ino) in lost:
                    os.truncate(path, 0)

    def _counted(self, name: str) -> Callable:
        def do(path, *more, **named):
            target = str(more[0]) if name in ("replace", "rename", "link") else str(path)
            if target.startswith(str(self.root)):
                self.point(name, target)
            return self.real[name](path, *more, **named)

        return do

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        ours = str(path).startswith(str(self.root)) and flags & (os.O_WRONLY | os.O_RDWR)
        if ours:
            self.point("open", path)
        descriptor = self.real["open"](path, flags, mode, dir_fd=dir_fd)
        self.paths.pop(descriptor, None)
        if ours:
            self.paths[descriptor] = str(path)
        return descriptor

    def _write(self, descriptor, data):
        if descriptor in self.paths:
            self.point("write", self.paths[descriptor])
            found = os.fstat(descriptor)
            self.unsynced[found.st_dev, found.st_ino] = self.paths[descriptor]
        return self.real["write"](descriptor, data)

    def _fsync(self, descriptor):
        if descriptor in self.paths:
            self.point("fsync", self.paths[descriptor])
            found = os.fstat(descriptor)
            self.unsynced.pop((found.st_dev, found.st_ino), None)
        return self.real["fsync"](descriptor)


def in_fork(work: Callable[[], object], counter: Counter | None = None) -> int:
    """Run in a fork; returns its wait status: 0, killed, or 256 when it raised."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        signal.alarm(60)
        parallel.AT_ONCE = 1  # the same operations in the same order each time
        if counter:
            counter.install()
        work()
        if counter:
            (counter.root.parent / "operations").write_text("\n".join(counter.names))
        os._exit(0)
    except BaseException as error:
        (counter.root.parent if counter else Path("/tmp")).joinpath("error").write_text(f"{type(error)}: {error}")
        os._exit(1)


@dataclass(frozen=True)
class World:
    """The folders of one sweep: `run` with the journal, `store`, and with git the server and the user's clone."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def server(self) -> Path:
        return self.root / "server.git"

    @property
    def tree(self) -> Path:
        return self.root / "tree"


Publisher = Callable[[World], object]
Wrong = Callable[[World], str | None]


def operations(publisher: Publisher, template: Path, folder: Path) -> list[str]:
    """The operations of one whole publication by a function of a module."""
    return apart.called(operations_here, [publisher], [template, folder])


def operations_here(publisher: Publisher, template: Path, folder: Path) -> list[str]:
    """The same in this process."""
    world = fresh(template, folder)
    counter = Counter(world.root, 0)
    assert in_fork(lambda: publisher(world), counter) == 0, (world.root.parent / "error").read_text()
    return (world.root.parent / "operations").read_text().splitlines()


def fresh(template: Path, folder: Path) -> World:
    world = World(folder / "world")
    shutil.rmtree(world.root, ignore_errors=True)
    shutil.copytree(template, world.root)
    return world


def sweep(
    publisher: Publisher, wrong: Wrong, template: Path, folder: Path, points: Iterable[int], *, lose: bool
) -> list[str]:
    """Kill at each point; returns what was wrong: after the kill, and after a second publication.

    Both functions are of modules.
    """
    return apart.called(sweep_here, [publisher, wrong], [template, folder], points=list(points), lose=lose)


def sweep_here(
    publisher: Publisher, wrong: Wrong, template: Path, folder: Path, points: Iterable[int], *, lose: bool
) -> list[str]:
    """The same in this process."""
    found = []
    for point in points:
        world = fresh(template, folder)
        tree = making.fingerprint(world.tree) if world.tree.exists() else None
        status = in_fork(functools.partial(publisher, world), Counter(world.root, point, lose))
        assert os.WIFSIGNALED(status) or status == 0, (world.root.parent / "error").read_text()
        if sentence := wrong(world):
            found.append(f"killed before {point}: {sentence}")
        status = in_fork(functools.partial(publisher, world))
        if status != 0:
            found.append(f"killed before {point}: the second publication fails")
        elif sentence := wrong(world) or ("" if is_visible(world) else "nothing is visible"):
            found.append(f"killed before {point}, published again: {sentence}")
        if tree is not None and making.fingerprint(world.tree) != tree:
            found.append(f"killed before {point}: the user's repository was written")
    return found


def is_visible(world: World) -> bool:
    if world.server.exists():
        return making.is_visible(world.server)
    return (world.store / "publications" / f"{making.NAME}.json").exists()
