"""Watches over the training of a session in a folder: starts it, asks it to stop, kills it at its limit.

A folder of a session (`outlast.launch.sessionfolders`) gets from it

    training.json   the process: pid, began          log.txt    output of the training
    cancel          request to stop; with "now" in it: at once       end.json   how it ended
    stop            asks a training on several nodes to stop

The keeper asks the training to stop (SIGTERM) `grace` seconds before the limit, and kills its process group at the
limit. A process that has left this group (a daemon) is not killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN
from outlast.launch.process import identity

_LOOK = 0.1  # seconds between two checks
_CREDENTIALS = ("OUTLAST_DRIVE_", "OUTLAST_GIT_")  # of remotes and git servers
LOG = "log.txt"
"""Name of the file with the output of a session."""

STOP = "stop"
"""Name of the file that asks a training on several nodes to stop."""

SAVING = 30.0
"""Seconds that the training has to save after a cancel."""

DOWN = "the machine goes down"
"""Why a training was asked to stop by a signal."""


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record atomically and durably."""
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("w") as file:
        file.write(json.dumps(record))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def inherited_from(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the process that starts a session, for the session.

    Variables that would change where or how long it trains are omitted; credentials are kept.
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("OUTLAST_") or name.startswith(_CREDENTIALS)
    }


def training_command(folder: Path, cards: int, nodes: Sequence[str] = ()) -> list[str]:
    """The command that trains in a session's folder, on several GPUs by torchrun.

    Args:
        folder: the session's folder.
        cards: number of GPUs that it may use, or of ranks on this node.
        nodes: flags of torchrun by which the ranks of several nodes meet; empty: there is one node.
    """
    several = ["torch.distributed.run", *(nodes or ["--standalone"]), f"--nproc-per-node={cards}", "-m"]
    several = several if cards > 1 or nodes else []
    files = [os.fspath(folder / name) for name in ("request.json", "work", "exit")]
    return [sys.executable, "-m", *several, "outlast.launch.inside", *files]


@dataclass(frozen=True)
class Job:
    """What a keeper runs.

    Attributes:
        command: the command of the training.
        cwd: the folder in which it runs. Relative paths of data have the same meaning as for `outlast train`.
        seconds: the limit.
        grace: seconds before the limit at which the training is asked to stop.
        nodes: whether it trains on several nodes: then the file `stop` asks it to stop, as srun would kill at SIGTERM.
    """

    command: Sequence[str]
    cwd: str
    seconds: float
    grace: float
    nodes: bool = False


class Keeper:
    """Watches over one training.

    Args:
        folder: the session's folder.
        job: what it runs.
        stop: signals after which the training is asked to stop, because the machine goes down.
        cancel: signals that mean the same as the file `cancel`.
    """

    def __init__(
        self,
        folder: Path,
        job: Job,
        *,
        stop: Sequence[signal.Signals] = (signal.SIGTERM,),
        cancel: Sequence[signal.Signals] = (),
    ) -> None:
        self.folder, self.job = folder, job
        self.stop, self.cancel = stop, cancel
        self.begun = time.monotonic()
        self.asked = ""  # why the training was asked to stop
        self.kill_at = self.begun + job.seconds
        self.terminated = self.cancelled = False

    def run(self) -> int:
        """Run the training to its end; returns its exit code."""
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # meant for the terminal's process, not for this
        for number in self.stop:
            signal.signal(number, self._terminate)
        for number in self.cancel:
            signal.signal(number, self._cancel)
        try:
            training = self._start()
        except OSError as error:
            seconds = round(time.monotonic() - self.begun, 3)
            message = f"it cannot be started: {error.strerror}"
            write(self.folder / "end.json", {"word": "failed", "message": message, "exit": 127, "seconds": seconds})
            return 127
        try:
            write(self.folder / "training.json", {"pid": training.pid, "began": identity(training.pid)})
            killed = self._watch(training)
        finally:  # kills what is left of the group, or all of it if this keeper fails
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(training.pid, signal.SIGKILL)
        end = self._end(training.returncode, killed=killed)
        write(self.folder / "end.json", end)
        return int(end["exit"])

    def _start(self) -> subprocess.Popen[bytes]:
        for old in (self.folder / STOP, *self.folder.glob("exit*")):  # of a job that is started again in its folder
            old.unlink(missing_ok=True)
        with (self.folder / LOG).open("ab") as log:
            return subprocess.Popen(
                list(self.job.command),
                cwd=self.job.cwd,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def _variables(self) -> dict[str, str]:
        """What it inherits, and where and how long it trains."""
        ends = time.time() + self.job.seconds - self.job.grace
        inherited = inherited_from(os.environ)
        path = os.pathsep.join(filter(None, (str(self.folder / "code"), inherited.get("PYTHONPATH", ""))))
        own = {
            "PYTHONPATH": path,
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "OUTLAST_INPUTS": str(self.folder / "inputs"),
            "OUTLAST_SESSION_ENDS": f"{ends:.3f}",
        }
        return inherited | own

    def _watch(self, training: subprocess.Popen[bytes]) -> bool:
        """Wait for the end; returns whether the keeper killed the training."""
        soft = self.begun + self.job.seconds - self.job.grace
        while training.poll() is None:
            now = time.monotonic()
            if now >= self.kill_at:
                os.killpg(training.pid, signal.SIGKILL)
                training.wait()
                return True
            if not self.asked:
                self.asked = self._why(late=now >= soft)
                if self.asked:
                    self._ask(training)
            _wait_for(training, _LOOK)
        return False

    def _ask(self, training: subprocess.Popen[bytes]) -> None:
        if self.job.nodes:
            (self.folder / STOP).write_text("")
        else:
            training.send_signal(signal.SIGTERM)

    def _why(self, *, late: bool) -> str:
        """Why the training must stop now; empty if it need not."""
        if self.cancelled or (self.folder / "cancel").exists():
            at_once = _text(self.folder / "cancel") == "now"
            self.kill_at = 0.0 if at_once else min(self.kill_at, time.monotonic() + SAVING)
            return "cancelled"
        if self.terminated:
            return DOWN
        return "timed-out" if late else ""

    def _terminate(self, *_: object) -> None:
        self.terminated = True

    def _cancel(self, *_: object) -> None:
        self.cancelled = True

    def _told(self) -> int | None:
        """The exit code that the training wrote; None if it wrote none, or an invalid one."""
        try:
            with (self.folder / "exit").open(encoding="ascii") as file:
                code = int(file.read(5))
        except (OSError, ValueError):
            return None
        return code if 0 <= code <= 255 else None

    def _end(self, code: int, *, killed: bool) -> dict[str, Any]:
        """The end of the session, as a `State`.

        The exit code that the training wrote counts, even if its process had to be killed.
        """
        told = self._told()
        exit_code = told if told is not None else (code if code >= 0 else 128 - code)
        if self.asked == "cancelled":
            word, message = "cancelled", "it was cancelled"
        elif exit_code in (EXIT_FINISHED, EXIT_RUN_AGAIN):
            word, message = "completed", DOWN if self.asked == DOWN else ""
        elif killed or self.asked:
            word, message = "timed-out", f"it had not stopped by its limit of {self.job.seconds:g} s"
        elif code == -signal.SIGKILL or (self.job.nodes and told is None):
            word, message = "lost", "its process was killed, by hand or because memory ran out"
        else:
            word, message = "failed", ""
        seconds = round(time.monotonic() - self.begun, 3)
        return {"word": word, "message": message, "exit": exit_code, "seconds": seconds}


def _wait_for(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait so long, or until a process has ended, where the system can say so (Linux)."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        time.sleep(seconds)
        return
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        ended.poll(1000 * seconds)
    finally:
        os.close(descriptor)


def _text(path: Path) -> str:
    """The contents of a short file; empty if it is not there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
