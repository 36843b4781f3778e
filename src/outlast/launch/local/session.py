"""`python -m outlast.launch.local.session FOLDER`: one session. It starts the training, and stops it at the limit.

A folder of a session holds

    session.json    command, working folder, seconds, grace; no variables, because some are secret
    code/           the unpacked bundle           request.json   the request for `outlast.launch.inside`
    inputs/         runs of earlier sessions      work/          files of this session
    begun           created by the process that starts the session or by the one that cancels it, never by both
    keeper.json, training.json    the processes: pid, began          log.txt    output of the training
    cancel          request to stop; with "now" in it: at once       end.json   how it ended

    If a record is missing or incomplete, for example after a power failure, the session counts as lost.

The keeper outlives the process that started it. It asks the training to stop (SIGTERM) `grace` seconds before the
limit, and kills its process group at the limit. A process that has left this group (a daemon) is not killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN
from outlast.launch.local.process import identity

_LOOK = 0.1  # seconds between two checks
_CREDENTIALS = ("OUTLAST_DRIVE_", "OUTLAST_GIT_")  # of remotes and git servers
SAVING = 30.0
"""Seconds that the training has to save after a cancel."""


def claim(folder: Path) -> bool:
    """Create the file `begun`. Returns whether this process created it and so decides whether the session starts."""
    try:
        os.close(os.open(folder / "begun", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record atomically and durably."""
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("w") as file:
        file.write(json.dumps(record))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main(folder: Path) -> int:
    """Start the keeper in the background.

    Returns after its record is written, so that the caller knows that the session has started.
    """
    if not claim(folder):
        return 1
    waiting, go = os.pipe()
    keeper = os.fork()
    if keeper:
        os.close(waiting)
        write(folder / "keeper.json", {"pid": keeper, "began": identity(keeper)})
        os.write(go, b"1")
        os.close(go)
        return 0
    code = 1
    try:
        os.close(go)
        if not os.read(waiting, 1):
            os._exit(code)  # without its record, nothing could stop the training
        os.setsid()
        _Keeper(folder).run()
        code = 0
    finally:
        os._exit(code)  # skip the caller's exit handlers
    raise AssertionError("unreachable")


class _Keeper:
    """Watches over one training.

    Args:
        folder: the session's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = json.loads((folder / "session.json").read_text())
        self.begun = time.monotonic()
        self.asked = ""  # why the training was asked to stop
        self.kill_at = self.begun + self.about["seconds"]
        self.terminated = False

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # meant for the terminal's process, not for this
        signal.signal(signal.SIGTERM, self._terminate)
        try:
            training = self._start()
        except OSError as error:
            seconds = round(time.monotonic() - self.begun, 3)
            message = f"it cannot be started: {error.strerror}"
            write(self.folder / "end.json", {"word": "failed", "message": message, "exit": 127, "seconds": seconds})
            return
        try:
            write(self.folder / "training.json", {"pid": training.pid, "began": identity(training.pid)})
            killed = self._watch(training)
        finally:  # kills what is left of the group, or all of it if this keeper fails
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(training.pid, signal.SIGKILL)
        write(self.folder / "end.json", self._end(training.returncode, killed=killed))

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                self.about["command"],
                cwd=self.about["cwd"],
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def _variables(self) -> dict[str, str]:
        """The environment variables of the process that started the session.

        Variables that would change where or how long the session trains are omitted; credentials are kept.
        """
        ends = time.time() + self.about["seconds"] - self.about["grace"]
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("OUTLAST_") or name.startswith(_CREDENTIALS)
        }
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
        soft = self.begun + self.about["seconds"] - self.about["grace"]
        while training.poll() is None:
            now = time.monotonic()
            if now >= self.kill_at:
                os.killpg(training.pid, signal.SIGKILL)
                training.wait()
                return True
            if not self.asked:
                self.asked = self._why(late=now >= soft)
                if self.asked:
                    training.send_signal(signal.SIGTERM)
            time.sleep(_LOOK)
        return False

    def _why(self, *, late: bool) -> str:
        """Why the training must stop now; empty if it need not."""
        if (self.folder / "cancel").exists():
            at_once = (self.folder / "cancel").read_text() == "now"
            self.kill_at = 0.0 if at_once else min(self.kill_at, time.monotonic() + SAVING)
            return "cancelled"
        if self.terminated:
            return "the machine goes down"
        return "timed-out" if late else ""

    def _terminate(self, *_: object) -> None:
        self.terminated = True

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
            word, message = "completed", ""
        elif killed or self.asked:
            word, message = "timed-out", f"it had not stopped by its limit of {self.about['seconds']:g} s"
        elif code == -signal.SIGKILL:
            word, message = "lost", "its process was killed, by hand or because memory ran out"
        else:
            word, message = "failed", ""
        seconds = round(time.monotonic() - self.begun, 3)
        return {"word": word, "message": message, "exit": exit_code, "seconds": seconds}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
