"""Folders of sessions on a disk that this machine and the sessions share.

A folder holds

    code/           the unpacked bundle           request.json   the request for `outlast.launch.inside`
    inputs/         runs of earlier sessions      work/          files of this session
    session.json    working folder and limit; no variables, because some are secret

and what `outlast.launch.keeper` writes. If a record is missing or incomplete, for example after a power failure, the
session counts as lost.
"""

from __future__ import annotations

import abc
import functools
import io
import math
import os
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.errors import CorruptCheckpoint, LaunchRefused, OutlastError, UnknownName, UsageError
from outlast.folder import durable, layout, plain, reading, records
from outlast.launch.bundle import Bundle, own_recipe
from outlast.launch.keeper import LOG, write
from outlast.launch.provider import Handle, Line, Output, Quota, Request, State

_LINE = 1 << 16  # most bytes of a log line; a longer line is split
_GLANCE = 0.5  # seconds between two looks for the record of an end
_NEAR = 0.02  # the same once the training has written its exit code, so that only its process has still to end
_SOON = 30.0  # seconds that this may take
_SHARED = ("outlast/", "outlast_recipes/")  # in a bundle; what else is in it is the user's
_UNPACKED = 315532800.0
"""The time of their files, 1980: a file of another time was changed after it was unpacked."""
_WORDS = ("completed", "failed", "cancelled", "timed-out", "out-of-memory", "lost")
END = records.form(
    {
        "word": records.one_of(*_WORDS),
        "message": records.text(),
        "exit": records.or_null(records.whole(0, 255)),
        "seconds": records.number,
    }
)


class SessionFolders:
    """The folders of a provider's sessions.

    Args:
        root: the folder that holds them.
        title: the provider's name in messages.
        handle: the form of a handle; its `session` is the folder's name.
    """

    def __init__(self, root: Path, title: str, handle: records.Check) -> None:
        self.root, self.title, self._handle = root, title, handle

    def of(self, handle: Handle) -> Path:
        """The folder of a session.

        Raises:
            UsageError: this is no handle of the provider.
        """
        try:
            records.check(handle, self._handle, "The handle")
        except CorruptCheckpoint as error:
            raise UsageError(f"This is not a session on {self.title}. {error}") from error
        return self.root / str(handle["session"])

    def existing(self, handle: Handle) -> Path:
        """The folder of a session that exists.

        Raises:
            UsageError: this is no handle of the provider.
            UnknownName: there is no such session.
        """
        folder = self.of(handle)
        if not folder.is_dir():
            raise UnknownName(f"There is no session {folder.name} in {self.root}.")
        return folder

    def address(self, handle: Handle) -> str:
        """The session's folder, as a path that is as short as possible."""
        folder = self.of(handle)
        return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)

    def create(
        self, handle: Handle, request: Request, about: Mapping[str, Any], *, begun: Callable[[], None] = lambda: None
    ) -> Path:
        """Create the folder of a session, with all that it needs; returns it.

        Args:
            handle: of the session.
            request: the request.
            about: the record session.json.
            begun: called just before the folder appears.

        Raises:
            LaunchRefused: the disk refused, or there is such a folder.
        """
        folder = self.of(handle)
        coming = folder.with_name(f"{layout.TEMPORARY}{folder.name}")
        shutil.rmtree(coming, ignore_errors=True)
        try:
            self._fill(coming, folder, request)
            write(coming / "session.json", {**about, "bundle": request.bundle.hash})
            begun()
            coming.rename(folder)
        except OSError as error:
            shutil.rmtree(coming, ignore_errors=True)
            raise LaunchRefused(f"{folder} cannot be created: {error.strerror}. Nothing was started.") from error
        return folder

    def _fill(self, coming: Path, folder: Path, request: Request) -> None:
        """Write code, inputs and request. The paths in them are those after the rename."""
        for name in ("code", "inputs", "work"):
            (coming / name).mkdir(parents=True)
        before = self.of(request.after) if request.after else None
        same = before if before and _bundle_of(before) == request.bundle.hash else None
        _unpack(request.bundle, coming / "code", same / "code" if same else None)
        if request.after:
            (coming / "inputs/after").symlink_to(Path("../..") / self.of(request.after).name / "work")
        for name, path in request.files.items():
            target = coming / "inputs/sent" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        asked = dict(request.asked)
        if "source" in asked and (own := own_recipe(asked["source"])):
            asked["recipe"] = str(folder / "code" / own)
        write(coming / "request.json", asked)

    def clear(self, handle: Handle) -> None:
        """Delete the code, inputs and files of a session. Its log and its final record are kept."""
        for name in ("code", "inputs", "work"):
            durable.remove_any(self.of(handle) / name)

    def delete(self, handle: Handle) -> list[str]:
        """Delete the folder of a session that has ended; returns its name, or nothing if there is none."""
        folder = self.of(handle)
        going = folder.with_name(f"{layout.TEMPORARY}{folder.name}")
        durable.remove_any(going)  # left by a delete that was killed
        if not folder.is_dir():
            return []
        folder.rename(going)  # atomic, so that no session has only some of its records
        durable.remove_any(going)
        return [folder.name]


def _bundle_of(folder: Path) -> str:
    """The hash of a session's bundle; empty if it is not known."""
    return str((read(folder / "session.json", records.table()) or {}).get("bundle", ""))


def _unpack(bundle: Bundle, code: Path, before: Path | None) -> None:
    """Unpack a bundle.

    Files of outlast and its recipes that an earlier session has unpacked, and nobody has changed, get a second name
    instead, and so does what Python has compiled of them. The user's own files are never shared.

    Args:
        bundle: the bundle.
        code: where to.
        before: where an earlier session has unpacked the same bundle, or None.
    """
    made: set[Path] = set()
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        for info in archive.infolist():
            target, shared = code / info.filename, info.filename.startswith(_SHARED)
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            if shared and before and _linked_unchanged(before / info.filename, info.file_size, target):
                continue
            target.write_bytes(archive.read(info))
            if shared:
                os.utime(target, (_UNPACKED, _UNPACKED))
    if before:
        for place in made:
            _link_compiled(place, code, before)


def _link_compiled(place: Path, code: Path, before: Path) -> None:
    """Share what Python has compiled of a folder of outlast. It names the time and size of its source."""
    inside = place.relative_to(code)
    compiled = before / inside / "__pycache__"
    if f"{inside.as_posix()}/".startswith(_SHARED) and plain.kind_of(compiled) == "folder":
        (place / "__pycache__").mkdir()
        for each in compiled.glob("*.pyc"):
            _linked(each, place / "__pycache__" / each.name)


def _linked_unchanged(path: Path, size: int, target: Path) -> bool:
    """Share a plain file of this size and of the time that unpacking gave it; returns whether it was shared."""
    try:
        state = os.lstat(path)
    except OSError:
        return False
    unchanged = stat.S_ISREG(state.st_mode) and (state.st_size, state.st_mtime) == (size, _UNPACKED)
    return unchanged and _linked(path, target)


def _linked(path: Path, target: Path) -> bool:
    """Give a file a second name; returns whether that was possible."""
    try:
        os.link(path, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return False
    return True


class FolderProvider(abc.ABC):
    """What providers whose sessions are folders have in common (see `outlast.launch.provider.Provider`).

    There are no accounts, and no hours are counted.

    Args:
        root: the folder of the sessions.
        handle: the form of a handle.

    Attributes:
        looks: least and most seconds between two looks at a session that is followed.
    """

    title: str
    looks: tuple[float, float]

    def __init__(self, root: Path, handle: records.Check) -> None:
        self.root = root
        self._folders = SessionFolders(root, self.title, handle)

    @abc.abstractmethod
    def state(self, handle: Handle) -> State | None:
        """The state of the session."""

    def account(self) -> str:
        """Empty: sessions belong to the user of this machine."""
        return ""

    def metered(self, accelerator: str) -> str | None:  # noqa: ARG002 - as all
        """None: no hours are counted."""
        return None

    def quotas(self) -> Sequence[Quota]:
        """Empty: there is no quota."""
        return ()

    def plan(self, request: Request) -> Handle:
        """The name of the session's folder."""
        return {"session": request.name}

    def check(self, handle: Handle) -> None:
        """Refuse a handle of another provider."""
        self._folders.of(handle)

    def label(self, handle: Handle) -> str:
        """The session's name."""
        return self._folders.of(handle).name

    def address(self, handle: Handle) -> str:
        """The session's folder."""
        return self._folders.address(handle)

    def log(
        self,
        handle: Handle,
        since: int = 0,
        *,
        live: bool = False,
        pause: float = 5.0,
        seen: Callable[[State | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """What the session has written into its log. Its lines have no times."""
        place, told, position = self._folders.existing(handle) / LOG, 0, [0]
        least, most = self.looks
        while True:
            seen(state := self.state(handle))
            over = state is None or state.over
            for line in lines(place, position, over=over):
                if told >= since:
                    yield Line(0.0, line)
                told += 1
            if over or not live:
                return
            _wait_for_end(place.parent, min(max(least, pause), most))

    def outputs(self, handle: Handle) -> Iterator[Output]:
        """The files that are in the session's working folder."""
        folder = self._folders.existing(handle)
        if (state := self.state(handle)) is None or not state.over:
            return
        for path in plain.plain_files(folder / "work"):
            yield Output(path.relative_to(folder / "work").as_posix(), functools.partial(shutil.copyfile, path))

    def clear(self, handle: Handle) -> None:
        """Delete the code, inputs and files of a session that has ended. Its log and its final record are kept."""
        if (state := self.state(handle)) and state.over:
            self._folders.clear(handle)


def _wait_for_end(folder: Path, seconds: float) -> None:
    """Wait so long, or until a session records its end. A look into its folder costs less than a query."""
    until, over = time.monotonic() + seconds, plain.kind_of(folder / "end.json") is not None
    while (left := until - time.monotonic()) > 0 and (over or not plain.kind_of(folder / "end.json")):
        time.sleep(min(left, _NEAR if not over and age(folder / "exit") < _SOON else _GLANCE))


def lines(place: Path, position: list[int], *, over: bool) -> Iterator[str]:
    """The lines of a growing log from a position, which is updated. An unfinished last line only if `over`."""
    if plain.kind_of(place) != "file":
        return
    with place.open("rb") as file:
        file.seek(position[0])
        while piece := file.readline(_LINE):
            if not over and len(piece) < _LINE and not piece.endswith(b"\n"):
                return
            position[0] += len(piece)
            yield from piece.decode("utf-8", errors="replace").splitlines()


def own_lines(data: bytes, *, over: bool) -> Iterator[str]:
    """The lines of a log that was read as a whole. An unfinished last line only if `over`."""
    if not over:
        data = data[: data.rfind(b"\n") + 1]
    return iter(data.decode("utf-8", errors="replace").splitlines())


def read(path: Path, form: records.Check) -> Mapping[str, Any] | None:
    """A record of a session; None if it is missing or incomplete."""
    try:
        return reading.read_record(path, form)
    except (FileNotFoundError, OutlastError):
        return None


def ended(folder: Path) -> State | None:
    """How a session ended, by its final record; None without one."""
    end = read(folder / "end.json", END)
    return State(end["word"], end["message"], end["exit"], end["seconds"]) if end else None


def age(path: Path) -> float:
    """Seconds since a file was changed, by this machine's clock; infinite if the file does not exist."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf
