"""What a power cut may leave of a folder, by the letter of POSIX and not by the kindness of one file system.

The contents of a file are safe up to its last fsync. A name (created, renamed, deleted) is safe when its folder was
fsynced after it; of the changes before that, any subset may survive, in any folder. A rename is one change: nothing
vanishes from both of its ends.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class Node:
    """A file or a folder, whatever its names are.

    Attributes:
        image: a file's contents, under a name outside of the watched folder; None for a folder.
        synced: bytes of a file that are safe.
        durable: names in a folder that are safe.
        live: names in a folder as running programs see them.
        pending: changes of a folder since its last fsync: what decides whether one survives, and the names that it
            changes.
    """

    image: str | None = None
    synced: int = 0
    durable: dict[str, Node] = field(default_factory=dict)
    live: dict[str, Node] = field(default_factory=dict)
    pending: list[tuple[object, dict[str, Node | None]]] = field(default_factory=list)

    def change(self, names: dict[str, Node | None], coin: object = None) -> None:
        self.pending.append((coin or object(), names))
        _apply(self.live, names)


class Disk:
    """Follows what one process does below a folder, and cuts the power.

    Args:
        root: the folder; what is in it now is durable.
        seed: decides what survives.
        real: the functions of `os` as they were before anybody watched them.
    """

    def __init__(self, root: Path, seed: int, real) -> None:
        self._real, self._random = real, random.Random(str(seed))  # a text is mixed well
        self._chance = self._random.choice([0.0, 0.5, 0.5, 0.8])  # 0.0: nothing that was not fsynced
        self._images = Path(f"{root}-images")
        shutil.rmtree(self._images, ignore_errors=True)
        self._images.mkdir()
        self._coins: dict[object, bool] = {}
        self._kept = 0
        self._root, self._top = str(root), self._scan(str(root))

    def node(self, path: str) -> Node | None:
        """What lies at a path, as running programs see it."""
        found: Node | None = self._top
        for name in Path(path).relative_to(self._root).parts:
            found = found.live.get(name) if found else None
        return found

    def opened(self, path: str, *, truncated: bool) -> None:
        """A file was opened for writing, and perhaps created."""
        node = self.node(path)
        if node is None:
            node = Node(self._keep(path))
            self._folder(path).change({os.path.basename(path): node})
        elif truncated:
            node.synced = 0

    def truncated(self, path: str, size: int) -> None:
        if node := self.node(path):
            node.synced = min(node.synced, size)

    def synced(self, path: str) -> None:
        node = self.node(path)
        if node is None:
            return
        if node.image:
            node.synced = os.path.getsize(node.image)
        else:
            # A name that left this folder for good has arrived elsewhere; one that came may still be seen where it was.
            self._coins |= {coin: True for coin, names in node.pending if None in names.values()}
            node.durable, node.pending = dict(node.live), []

    def renamed(self, source: str, target: str) -> None:
        node = self.node(source)
        coin, old, new = object(), {os.path.basename(source): None}, {os.path.basename(target): node}
        if os.path.dirname(source) == os.path.dirname(target):
            self._folder(target).change(old | new, coin)
        else:
            self._folder(target).change(new, coin)
            self._folder(source).change(old, coin)

    def linked(self, source: str, target: str) -> None:
        """A file got a second name."""
        self._folder(target).change({os.path.basename(target): self.node(source)})

    def came(self, path: str, *, synced: bool) -> None:
        """A file of another folder got a second name here."""
        node = Node(self._keep(path), os.path.getsize(path) if synced else 0)
        self._folder(path).change({os.path.basename(path): node})

    def removed(self, path: str) -> None:
        self._folder(path).change({os.path.basename(path): None})

    def made(self, path: str) -> None:
        self._folder(path).change({os.path.basename(path): Node()})

    def is_durable(self, path: str) -> bool:
        """Whether a file is safe, with its name and those of the folders above it."""
        node: Node | None = self._top
        for name in Path(path).relative_to(self._root).parts:
            node = node.durable.get(name) if node else None
        return bool(node and node.image and node.synced == os.path.getsize(node.image))

    def cut_power(self) -> None:
        """Make the folder what the cut leaves."""
        self._settle(self._top, self._root)
        shutil.rmtree(self._images)

    def _scan(self, path: str) -> Node:
        node = Node()
        for entry in os.scandir(path):
            child = self._scan(entry.path) if entry.is_dir() else Node(self._keep(entry.path), entry.stat().st_size)
            node.durable[entry.name] = node.live[entry.name] = child
        return node

    def _keep(self, path: str) -> str:
        image = str(self._images / str(self._kept))
        self._kept += 1
        os.link(path, image)
        return image

    def _folder(self, path: str) -> Node:
        """The folder that a path lies in. One that another process made is taken for durable, with nothing in it that
        is ours."""
        folder = self._top
        for name in Path(path).relative_to(self._root).parts[:-1]:
            if name not in folder.live:
                folder.durable[name] = folder.live[name] = Node()
            folder = folder.live[name]
        return folder

    def _after(self, node: Node) -> dict[str, Node]:
        after = dict(node.durable)
        for coin, names in node.pending:
            if self._coins.setdefault(coin, self._random.random() < self._chance):
                _apply(after, names)
        return after

    def _settle(self, node: Node, path: str) -> None:
        """Put names right in a folder that lies where it is; names that nobody here changed are left alone."""
        after = self._after(node)
        changed = {name for _, names in node.pending for name in names}
        for name in changed:
            if after.get(name) is not node.live.get(name):
                self._clear(os.path.join(path, name))
        for name, child in after.items():
            target = os.path.join(path, name)
            if child is not node.live.get(name):
                self._place(child, target)
            elif not os.path.exists(target):
                continue  # another process removed it, and answers for that
            elif child.image is None:
                self._settle(child, target)
            elif child.synced < os.path.getsize(target):
                self._lose_tail(child, target)

    def _place(self, node: Node, target: str) -> None:
        if node.image is None:
            os.path.isdir(target) or self._real["mkdir"](target)
            for name, child in self._after(node).items():
                self._place(child, os.path.join(target, name))
        else:
            shutil.copyfile(node.image, f"{target}~")  # another name may hold this very file
            self._lose_tail(node, f"{target}~")
            self._real["replace"](f"{target}~", target)

    def _lose_tail(self, node: Node, path: str) -> None:
        """What was not fsynced is lost or, where the file system had made room for it, zeros."""
        size = os.path.getsize(path)
        os.truncate(path, node.synced)
        if self._chance and self._random.random() < 0.3:
            os.truncate(path, size)

    def _clear(self, path: str) -> None:
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            self._real["unlink"](path)


def _apply(names: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node
