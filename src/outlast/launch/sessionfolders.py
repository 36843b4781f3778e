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
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.errors import CorruptCheckpoint, LaunchRefused, OutlastError, UnknownName, UsageError
from outlast.folder import durable, layout, plain, reading, records
from outlast.launch.bundle import own_recipe
from outlast.launch.keeper import LOG, write
from outlast.launch.provider import Handle, Line, Output, Quota, Request, State

_LINE = 1 << 16  # most bytes of a log line; a longer line is split
_GLANCE = 0.5  # seconds between two looks for the record of an end
_NEAR = 0.02  # the same once the training has written its exit code, so that only its process has still to end
_SOON = 30.0  # seconds that this may take
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
            write(coming / "session.json", dict(about))
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
        with zipfile.ZipFile(io.BytesIO(request.bundle.data)) as archive:
            archive.extractall(coming / "code")
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
