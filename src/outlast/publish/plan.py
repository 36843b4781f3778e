"""What will be published, under which name. The same run folder gives the same plan, whenever it is made."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from outlast.errors import OutlastError, UnsafeFolder, UsageError
from outlast.folder import layout, plain
from outlast.remote.parallel import in_parallel

SMALL = 2**20
"""Bytes: a larger file is kept in the store, never in a branch."""

WEIGHTS = (".safetensors", ".onnx", ".pt", ".pth", ".npz", ".ckpt", ".bin")
"""Endings of files that are kept in the store whatever their size is."""

_PIECE = 2**20


@dataclass(frozen=True)
class PlannedFile:
    """A file of a publication.

    Attributes:
        path: relative to the folder of the publication's artifact, such as "train/results.csv".
        source: where it is read from.
        size: bytes.
        md5: in hex. DVC names objects by it.
        sha256: in hex.
    """

    path: str
    source: Path
    size: int
    md5: str
    sha256: str

    @property
    def is_large(self) -> bool:
        """Whether a store keeps it, and a branch only a pointer to it."""
        return self.size > SMALL or self.path.endswith(WEIGHTS)


@dataclass(frozen=True)
class Plan:
    """A publication before it is visible.

    Attributes:
        module: what was trained: the recipe's name.
        experiment: the run's name.
        time: when the newest of its checkpoints was written, as the records write it. Nothing else in a plan has a
            clock.
        about: what its manifest says of the run.
        files: by path, ascending.
        name: of the reference; by default made from module, experiment and time.
    """

    module: str
    experiment: str
    time: str
    about: Mapping[str, object]
    files: tuple[PlannedFile, ...]
    name: str

    @property
    def folder(self) -> str:
        """Where the files are in what is published."""
        return f"artifacts/{self.module}/{self.experiment}"

    @property
    def seconds(self) -> int:
        """`time` in seconds since 1970."""
        return int(datetime.fromisoformat(self.time).timestamp())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def make_plan(
    *,
    module: str,
    experiment: str,
    time: str,
    about: Mapping[str, object],
    sources: Iterable[tuple[str, Path]],
    known: Iterable[PlannedFile] = (),
    name: str | None = None,
) -> Plan:
    """Hash the files, and name what they make.

    Args:
        module: what was trained.
        experiment: the run's name.
        time: as `Plan.time`.
        about: as `Plan.about`.
        sources: path in the artifact, and where the file is.
        known: those of them that are hashed already.
        name: of the reference.

    Raises:
        OutlastError: a file cannot be read.
    """
    module, experiment = slug(module), slug(experiment)
    stamp = datetime.fromisoformat(time).strftime("%Y%m%d-%H%M%S")
    ready = {file.path: file for file in known}
    found = [*ready.values(), *hash_files(each for each in sources if each[0] not in ready)]
    files = tuple(sorted(found, key=lambda file: file.path))
    name = slug(name) if name else f"kaggle-train-{module}-{experiment}-{stamp}"
    return Plan(module, experiment, time, about, files, name)


def check_word(given: str | None, flag: str) -> None:
    """Raise UsageError if a name that the user chose would have to be changed."""
    if given is not None and slug(given) != given:
        raise UsageError(
            f"{flag} is {given[:120]!r}; expected up to 120 letters, digits, '.', '_' and '-', such as {slug(given)}"
        )


def slug(text: str) -> str:
    """Text as a component of a branch's and an object's name: letters, digits, "-", "_" and "."."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    words = re.sub(r"\.\.+", "-", words).removesuffix(".lock").strip("-.")
    return words[:120] or "run"


def hash_files(sources: Iterable[tuple[str, Path]]) -> Iterator[PlannedFile]:
    """`hashed` for several files at a time, in their order."""
    return in_parallel(lambda each: hashed(*each), sources)


def hashed(path: str, source: Path) -> PlannedFile:
    """Read a file once, for its size and both hashes, which are computed side by side.

    Raises:
        OutlastError: it cannot be read, or its name is none that every system takes.
    """
    if not all(layout.is_plain(each) for each in path.split("/")):
        raise OutlastError(
            f"{source} cannot be published as {path!r}: that is no plain file name. Rename the artifact."
        )
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with ThreadPoolExecutor(1) as beside:  # MD5 takes longer than SHA-256 and the reading together
        before: Future[None] | None = None
        for piece in pieces(source):
            if before:
                before.result()
            before = beside.submit(md5.update, piece)
            sha256.update(piece)
            size += len(piece)
    return PlannedFile(path, source, size, md5.hexdigest(), sha256.hexdigest())


def pieces(source: Path) -> Iterator[bytes]:
    """The bytes of a plain file; raises OutlastError when it cannot be read."""
    try:
        with os.fdopen(plain.open_plain(source), "rb", buffering=0) as opened:
            while piece := opened.read(_PIECE):
                yield piece
    except (OSError, UnsafeFolder) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise OutlastError(f"{source} cannot be read: {words}. Nothing was published.") from error
