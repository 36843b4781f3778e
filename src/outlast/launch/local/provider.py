"""This machine as a provider, without an account or network. A relay on it takes a minute.

A session is a process with a time limit, in its own folder below RUNS/.sessions; see `outlast.launch.local.session`. It
gets the same bundle as a session of another provider, and finds the files of the previous session in its inputs.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.config.units import format_seconds
from outlast.environment.base import gpus
from outlast.errors import LaunchError, UsageError
from outlast.folder import plain, records
from outlast.launch.keeper import SAVING, training_command
from outlast.launch.local.session import claim
from outlast.launch.options import Option
from outlast.launch.process import kill_group, lives, terminate
from outlast.launch.provider import Capabilities, Handle, Limits, Request, State, Tell, Terms
from outlast.launch.schema import MADE
from outlast.launch.sessionfolders import FolderProvider, age, ended, read

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


def connect(runs: Path, *, user: str | None = None, patience: float = 600.0) -> LocalProvider:  # noqa: ARG001 - as all
    """The sessions beside the runs of this folder. There are no accounts."""
    if os.name == "nt":
        raise UsageError("Local sessions need process groups, which Windows does not have; use `outlast train` there.")
    return LocalProvider(runs.absolute() / FOLDER)


class LocalProvider(FolderProvider):
    """This machine (see `outlast.launch.provider.Provider`).

    Args:
        root: the folder of the sessions.
    """

    name = "local"
    title = "this machine"
    environment = "local"
    capabilities = Capabilities(live_logs=True, folders=True, inputs="ended", ask=_LOOK, longer="--session")
    looks = (0.0, _LOOK)

    def __init__(self, root: Path) -> None:
        super().__init__(root, _HANDLE)

    def limits(self, terms: Terms) -> Limits:
        """A session is as long as --session, and trains until shortly before its end."""
        (option,) = OPTIONS
        return Limits(option.read(terms.options.get("session", option.default)), here=True, gpus=len(gpus()))

    # starting ------------------------------------------------------------------------------------------------------

    def preview(self, request: Request, folder: Path) -> str:  # noqa: ARG002 - nothing is worth writing
        """A message about what would be started."""
        return (
            f"A session in {self.root} would train {request.run} for {format_seconds(request.training)} at most, with "
            f"{len(request.bundle.files)} files of code, bundle {request.bundle.hash[:12]}. Nothing was started."
        )

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:  # noqa: ARG002
        """Create the folder, then start the keeper in it. The keeper outlives this process."""
        seconds = self.limits(request.terms).session
        final = self._folders.of(handle)
        about = {
            "command": training_command(final, len(gpus()) if request.asked["ranks"] else 0),
            "cwd": str(Path.cwd()),
            "seconds": seconds,
            "grace": min(30.0, max(0.5, seconds / 10)),
        }
        folder = self._folders.create(handle, request, about, begun=begun)
        command = [sys.executable, "-P", "-m", "outlast.launch.local.session", str(folder)]
        with (folder / "keeper.txt").open("wb") as told:  # not the terminal: the keeper outlives it
            started = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, start_new_session=True, check=False
            )
        if started.returncode:
            raise LaunchError(f"The session in {folder} did not start. Read {told.name}.")
        return handle

    # existing sessions ---------------------------------------------------------------------------------------------

    def state(self, handle: Handle) -> State | None:
        """The state of the session, from its processes and from the final record of its keeper."""
        folder = self._folders.of(handle)
        if not folder.is_dir():
            return None
        if end := ended(folder):
            return end
        keeper, training = (read(folder / f"{name}.json", _PROCESS) for name in ("keeper", "training"))
        if not keeper and not training:
            if _is_recent(folder / "session.json") or (not claim(folder) and _is_recent(folder / "begun")):
                return State("queued")
            return State("lost", "it never started, or its records are damaged")
        ages = [age(folder / name) for name in ("begun", "keeper.json", "training.json")]
        seconds = max(0.0, next(age for age in ages if age < math.inf))
        if keeper and lives(keeper["pid"], keeper["began"]):
            return State("saving" if (folder / "cancel").exists() else "running", seconds=seconds)
        if end := ended(folder):  # the session may have ended between the two checks
            return end
        if training and lives(training["pid"], training["began"]):
            return _unwatched(folder, training, seconds)
        return State("lost", _DIED, seconds=seconds)

    def cancel(self, handle: Handle) -> None:
        """Ask the training to save and stop. It is killed if it does not."""
        folder = self._folders.existing(handle)
        state = self.state(handle)
        if state and not state.over and not (folder / "cancel").exists():
            (folder / "cancel").write_text("")
            keeper, training = (read(folder / f"{name}.json", _PROCESS) for name in ("keeper", "training"))
            if training and not (keeper and lives(keeper["pid"], keeper["began"])):  # only a keeper would ask it
                terminate(training["pid"], training["began"])

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:  # noqa: ARG002 - nothing is shared
        """Delete the session's folder. A running session is killed."""
        folder = self._folders.of(handle)
        end = time.monotonic() + _START
        while (state := self.state(handle)) is not None and not state.over:
            (folder / "cancel").write_text("now")
            if time.monotonic() > end:
                raise LaunchError(
                    f"{folder} was still running {_START:.0f} s after it was killed. Nothing was deleted."
                )
            time.sleep(0.05)
        return self._folders.delete(handle)


def _unwatched(folder: Path, training: Mapping[str, Any], seconds: float) -> State:
    """The state of a training whose keeper was killed. This process enforces its time limit."""
    about = read(folder / "session.json", _ABOUT)
    if about and seconds < about["seconds"]:
        if not plain.kind_of(folder / "cancel"):
            return State("running", seconds=seconds)
        if (folder / "cancel").read_text() != "now" and 0 <= age(folder / "cancel") < SAVING:
            return State("saving", seconds=seconds)
    kill_group(training["pid"], training["began"])
    return State("lost", _DIED, seconds=seconds)


def _is_recent(path: Path) -> bool:
    """Whether a file was changed so recently that the next record may still be written. The clock may go backwards."""
    return abs(age(path)) < _START
