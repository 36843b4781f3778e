"""This machine as a provider, without an account or network. A relay on it takes a minute.

A session is a process with a time limit, in its own folder below RUNS/.sessions; see `outlast.launch.local.session`. It
gets the same bundle as a session of another provider, and finds the files of the previous session in its inputs.
"""

from __future__ import annotations

import functools
import io
import math
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.config.units import format_seconds
from outlast.environment.base import gpus
from outlast.errors import CorruptCheckpoint, LaunchError, LaunchRefused, OutlastError, UnknownName, UsageError
from outlast.folder import durable, layout, plain, reading, records
from outlast.launch.bundle import own_recipe
from outlast.launch.local.process import kill_group, lives, terminate
from outlast.launch.local.session import SAVING, claim, write
from outlast.launch.options import Option
from outlast.launch.provider import Capabilities, Handle, Limits, Line, Output, Quota, Request, State, Tell, Terms
from outlast.launch.schema import MADE

OPTIONS = (
    Option("session", "length of a session, at whose end it is killed", "seconds", 600.0, setting=True, metavar="TIME"),
)
FOLDER = ".sessions"

_START = 30.0  # seconds that a process may take to start on a busy machine
_LOOK = 1.0  # most seconds between two queries, which cost nothing
_HANDLE = records.form({"session": MADE})
_PROCESS = records.form({"pid": records.whole(2, 2**31 - 1), "began": records.text(300)})
_ABOUT = records.form(
    {"command": records.anything, "cwd": records.anything, "seconds": records.number, "grace": records.number}
)
_DIED = "the machine went down, or the session's keeper was killed"
_LINE = 1 << 16  # most bytes of a log line; a longer line is split
_WORDS = ("completed", "failed", "cancelled", "timed-out", "lost")
_END = records.form(
    {
        "word": records.one_of(*_WORDS),
        "message": records.text(),
        "exit": records.whole(0, 255),
        "seconds": records.number,
    }
)


def connect(runs: Path, *, user: str | None = None, patience: float = 600.0) -> LocalProvider:  # noqa: ARG001 - as all
    """The sessions beside the runs of this folder. There are no accounts."""
    if os.name == "nt":
        raise UsageError("Local sessions need process groups, which Windows does not have; use `outlast train` there.")
    return LocalProvider(runs.absolute() / FOLDER)


class LocalProvider:
    """This machine (see `outlast.launch.provider.Provider`).

    Args:
        root: the folder of the sessions.
    """

    name = "local"
    title = "this machine"
    environment = "local"
    capabilities = Capabilities(live_logs=True, folders=True, inputs="ended", ask=_LOOK, longer="--session")

    def __init__(self, root: Path) -> None:
        self.root = root

    def account(self) -> str:
        """There are no accounts."""
        return ""

    def limits(self, terms: Terms) -> Limits:
        """A session is as long as --session, and trains until shortly before its end."""
        (option,) = OPTIONS
        return Limits(option.read(terms.options.get("session", option.default)))

    def metered(self, accelerator: str) -> str | None:  # noqa: ARG002 - as all
        """None: no hours are counted."""
        return None

    def quotas(self) -> Sequence[Quota]:
        """Empty: there is no quota."""
        return ()

    # starting ------------------------------------------------------------------------------------------------------

    def preview(self, request: Request, folder: Path) -> str:  # noqa: ARG002 - nothing is worth writing
        """A message about what would be started."""
        return (
            f"A session in {self.root} would train {request.run} for {format_seconds(request.training)} at most, with "
            f"{len(request.bundle.files)} files of code, bundle {request.bundle.hash[:12]}. Nothing was started."
        )

    def plan(self, request: Request) -> Handle:
        """The name of the session's folder."""
        return {"session": request.name}

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:  # noqa: ARG002
        """Create the folder, then start the keeper in it. The keeper outlives this process."""
        folder = self._folder(handle)
        coming = folder.with_name(f"{layout.TEMPORARY}{folder.name}")
        shutil.rmtree(coming, ignore_errors=True)
        try:
            self._fill(coming, folder, request)
            begun()
            coming.rename(folder)
        except OSError as error:
            shutil.rmtree(coming, ignore_errors=True)
            raise LaunchRefused(f"{folder} cannot be created: {error.strerror}. Nothing was started.") from error
        command = [sys.executable, "-P", "-m", "outlast.launch.local.session", str(folder)]
        with (folder / "keeper.txt").open("wb") as told:  # not the terminal: the keeper outlives it
            started = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, start_new_session=True, check=False
            )
        if started.returncode:
            raise LaunchError(f"The session in {folder} did not start. Read {told.name}.")
        return handle

    def _fill(self, coming: Path, folder: Path, request: Request) -> None:
        """Write all files of the session. The paths in them are those after the rename."""
        for name in ("code", "inputs", "work"):
            (coming / name).mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(request.bundle.data)) as archive:
            archive.extractall(coming / "code")
        if request.after:
            (coming / "inputs/after").symlink_to(Path("../..") / self._folder(request.after).name / "work")
        for name, path in request.files.items():
            target = coming / "inputs/sent" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        asked = dict(request.asked)
        if own := own_recipe(asked["source"]):
            asked["recipe"] = str(folder / "code" / own)
        write(coming / "request.json", asked)
        seconds = self.limits(request.terms).session
        about = {
            "command": _command(folder, ranks=bool(asked["ranks"])),
            "cwd": str(Path.cwd()),  # relative paths of data have the same meaning as for `outlast train`
            "seconds": seconds,
            "grace": min(30.0, max(0.5, seconds / 10)),
        }
        write(coming / "session.json", about)

    # existing sessions ---------------------------------------------------------------------------------------------

    def check(self, handle: Handle) -> None:
        """Refuse a handle of another provider."""
        self._folder(handle)

    def label(self, handle: Handle) -> str:
        """The session's name."""
        return self._folder(handle).name

    def address(self, handle: Handle) -> str:
        """The session's folder."""
        folder = self._folder(handle)
        return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)

    def state(self, handle: Handle) -> State | None:
        """The state of the session, from its processes and from the final record of its keeper."""
        folder = self._folder(handle)
        if not folder.is_dir():
            return None
        if end := _ended(folder):
            return end
        keeper, training = (_read(folder / f"{name}.json", _PROCESS) for name in ("keeper", "training"))
        if not keeper and not training:
            if _is_recent(folder / "session.json") or (not claim(folder) and _is_recent(folder / "begun")):
                return State("queued")
            return State("lost", "it never started, or its records are damaged")
        ages = [_age(folder / name) for name in ("begun", "keeper.json", "training.json")]
        seconds = max(0.0, next(age for age in ages if age < math.inf))
        if keeper and lives(keeper["pid"], keeper["began"]):
            return State("saving" if (folder / "cancel").exists() else "running", seconds=seconds)
        if end := _ended(folder):  # the session may have ended between the two checks
            return end
        if training and lives(training["pid"], training["began"]):
            return _unwatched(folder, training, seconds)
        return State("lost", _DIED, seconds=seconds)

    def log(
        self,
        handle: Handle,
        since: int = 0,
        *,
        live: bool = False,
        pause: float = 5.0,
        seen: Callable[[State | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """The output of the training. Its lines have no times."""
        place, told, position = self._existing_folder(handle) / "log.txt", 0, [0]
        while True:
            seen(state := self.state(handle))
            over = state is None or state.over
            for line in _lines(place, position, over=over):
                if told >= since:
                    yield Line(0.0, line)
                told += 1
            if over or not live:
                return
            time.sleep(min(pause, _LOOK))

    def outputs(self, handle: Handle) -> Iterator[Output]:
        """The files that are in the session's working folder."""
        folder = self._existing_folder(handle)
        state = self.state(handle)
        if state is None or not state.over:
            return
        for path in plain.plain_files(folder / "work"):
            yield Output(path.relative_to(folder / "work").as_posix(), functools.partial(shutil.copyfile, path))

    def cancel(self, handle: Handle) -> None:
        """Ask the training to save and stop. It is killed if it does not."""
        folder = self._existing_folder(handle)
        state = self.state(handle)
        if state and not state.over and not (folder / "cancel").exists():
            (folder / "cancel").write_text("")
            keeper, training = (_read(folder / f"{name}.json", _PROCESS) for name in ("keeper", "training"))
            if training and not (keeper and lives(keeper["pid"], keeper["began"])):  # only a keeper would ask it
                terminate(training["pid"], training["began"])

    def clear(self, handle: Handle) -> None:
        """Delete the code, inputs and files of a session that has ended. Its log and its final record are kept."""
        folder = self._folder(handle)
        if (state := self.state(handle)) is None or not state.over:
            return
        for name in ("code", "inputs", "work"):
            durable.remove_any(folder / name)

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:  # noqa: ARG002 - nothing is shared
        """Delete the session's folder. A running session is killed."""
        folder = self._folder(handle)
        end = time.monotonic() + _START
        while (state := self.state(handle)) is not None and not state.over:
            (folder / "cancel").write_text("now")
            if time.monotonic() > end:
                raise LaunchError(
                    f"{folder} was still running {_START:.0f} s after it was killed. Nothing was deleted."
                )
            time.sleep(0.05)
        going = folder.with_name(f"{layout.TEMPORARY}{folder.name}")
        durable.remove_any(going)  # left by a delete that was killed
        if state is None:
            return []
        folder.rename(going)  # atomic, so that no session has only some of its records
        durable.remove_any(going)
        return [folder.name]

    def _folder(self, handle: Handle) -> Path:
        """The folder of a session."""
        try:
            records.check(handle, _HANDLE, "The handle")
        except CorruptCheckpoint as error:
            raise UsageError(f"This is not a session on this machine. {error}") from error
        return self.root / str(handle["session"])

    def _existing_folder(self, handle: Handle) -> Path:
        folder = self._folder(handle)
        if not folder.is_dir():
            raise UnknownName(f"There is no session {folder.name} in {self.root}.")
        return folder


def _command(folder: Path, *, ranks: bool) -> list[str]:
    """The command of the session. It uses torchrun on all GPUs if the recipe supports several ranks."""
    cards = len(gpus()) if ranks else 0
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={cards}", "-m"] if cards > 1 else []
    files = [str(folder / name) for name in ("request.json", "work", "exit")]
    return [sys.executable, "-m", *several, "outlast.launch.inside", *files]


def _read(path: Path, form: records.Check) -> Mapping[str, Any] | None:
    """A record of a session; None if it is missing or incomplete."""
    try:
        return reading.read_record(path, form)
    except (FileNotFoundError, OutlastError):
        return None


def _unwatched(folder: Path, training: Mapping[str, Any], seconds: float) -> State:
    """The state of a training whose keeper was killed. This process enforces its time limit."""
    about = _read(folder / "session.json", _ABOUT)
    if about and seconds < about["seconds"]:
        if not plain.kind_of(folder / "cancel"):
            return State("running", seconds=seconds)
        if (folder / "cancel").read_text() != "now" and 0 <= _age(folder / "cancel") < SAVING:
            return State("saving", seconds=seconds)
    kill_group(training["pid"], training["began"])
    return State("lost", _DIED, seconds=seconds)


def _age(path: Path) -> float:
    """Seconds since a file was changed, by this machine's clock; infinite if the file does not exist."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf


def _is_recent(path: Path) -> bool:
    """Whether a file was changed so recently that the next record may still be written. The clock may go backwards."""
    return abs(_age(path)) < _START


def _lines(place: Path, position: list[int], *, over: bool) -> Iterator[str]:
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


def _ended(folder: Path) -> State | None:
    end = _read(folder / "end.json", _END)
    return State(end["word"], end["message"], end["exit"], end["seconds"]) if end else None
