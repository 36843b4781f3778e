"""The processes of a wrapped command: start, output, request to stop, end.

Each process leads a session of its own, so that Ctrl-C reaches only outlast, which asks the command to stop. On Linux,
`setpriv` makes the kernel kill a process whose outlast was killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from outlast.distributed import torchrun
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN, UsageError
from outlast.integrations.log import OutputLog

STOP_FILE = "OUTLAST_STOP_FILE"
"""Variable of the command: the path of a file that appears when the command must stop."""

OWN = ("OUTLAST_RUN", "OUTLAST_BUDGET", "OUTLAST_REMOTE", "OUTLAST_RESUME_FROM")
"""Variables of the wrapper that the command does not get: they are about the wrapper's run."""

SIGNALS = ("TERM", "INT", "HUP", "USR1", "USR2", "none")
"""What a command may be asked to stop with."""

_DRAIN = 2.0  # seconds that output of a command which has ended is waited for; what it started may hold its pipe
_PIECE = 2**16  # bytes of output that are read at a time
_POLL = 0.05  # seconds between two looks, where the system has no descriptor of a process


class Command:
    """The running processes of a command.

    Args:
        argv: the command.
        folder: where it runs.
        environment: its variables.
        ranks: number of processes. Several get the variables of torchrun.
        log: receives its output.

    Raises:
        UsageError: it cannot be started.
    """

    def __init__(
        self, argv: Sequence[str], folder: Path, environment: Mapping[str, str], ranks: int, log: OutputLog
    ) -> None:
        self._log, self._by_lines = log, ranks > 1  # the lines of several processes are not mixed
        self._ended: list[tuple[int, int]] = []  # rank and exit code, in the order in which they were seen to end
        self._pumps: list[threading.Thread] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        words = [*_bound_to_us(), *argv]
        port = torchrun.free_port() if ranks > 1 else 0
        try:
            for rank in range(ranks):
                variables = {**environment, **(torchrun.variables(rank, ranks, port) if ranks > 1 else {})}
                self._start(words, folder, variables)
        except OSError as error:
            self.kill()
            raise UsageError(f"{argv[0]!r:.200} cannot be started: {error.strerror}. Nothing was started.") from error

    def _start(self, words: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
        process = subprocess.Popen(
            words, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._processes.append(process)
        for source, target in ((process.stdout, 1), (process.stderr, 2)):
            pump = threading.Thread(target=self._pass_on, args=(source, target), name="outlast-output", daemon=True)
            pump.start()
            self._pumps.append(pump)

    @property
    def processes(self) -> list[int]:
        """Process numbers."""
        return [process.pid for process in self._processes]

    @property
    def codes(self) -> list[int | None]:
        """Exit code of each process, a negative signal number if a signal ended it, None while it runs."""
        return [process.poll() for process in self._processes]

    @property
    def ended(self) -> list[tuple[int, int]]:
        """Rank and exit code of the processes that have ended, in this order as far as it was seen."""
        known = {rank for rank, _ in self._ended}
        self._ended += [(rank, code) for rank, code in enumerate(self.codes) if code is not None and rank not in known]
        return self._ended

    def wait(self, seconds: float) -> bool:
        """Wait until a process ends, or for some seconds; returns whether all have ended."""
        before = len(self.ended)
        until = time.monotonic() + seconds
        while len(self.ended) == before < len(self._processes) and (left := until - time.monotonic()) > 0:
            _wait_for([process.pid for process in self._processes if process.returncode is None], left)
        return len(self.ended) == len(self._processes)

    def ask_to_stop(self, name: str) -> None:
        """Send a signal of SIGNALS to the processes that run."""
        for process in self._processes:
            if name != "none" and process.poll() is None:
                process.send_signal(getattr(signal, f"SIG{name}"))

    def kill(self) -> None:
        """End the processes, and all that they started in their sessions."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def finish_output(self) -> None:
        """Pass on what the ended processes have printed."""
        until = time.monotonic() + _DRAIN
        for pump in self._pumps:
            pump.join(max(0.0, until - time.monotonic()))

    def _pass_on(self, source: IO[bytes], target: int) -> None:
        rest = b""
        with source:
            while data := os.read(source.fileno(), _PIECE):
                if self._by_lines:
                    data = rest + data
                    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 or (len(data) >= _PIECE) * len(data)
                    data, rest = data[:end], data[end:]
                self._put(data, target)
        self._put(rest, target)

    def _put(self, data: bytes, target: int) -> None:
        self._log.write(data)
        with contextlib.suppress(OSError):  # nobody reads our output any more; the log has it
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]


def variables_of(given: Mapping[str, str], stop_file: Path) -> dict[str, str]:
    """The variables of a command.

    Its output goes through a pipe, where Python would hold it back: PYTHONUNBUFFERED, unless it is set.
    """
    own = {name: value for name, value in given.items() if name not in OWN}
    return {"PYTHONUNBUFFERED": "1", **own, STOP_FILE: str(stop_file)}


def killed_by(code: int) -> str | None:
    """The name of the signal that ended a process, by its code or that of the shell around it; None without one."""
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name if number else None
    return None


def words_of(code: int) -> str:
    """An exit code as text."""
    name = killed_by(code)
    return f"killed by {name}" if name else f"exit code {code}"


def is_clean(code: int) -> bool:
    """Whether this exit code says "finished" or "run me again"."""
    return code in (EXIT_FINISHED, EXIT_RUN_AGAIN)


def _bound_to_us() -> list[str]:
    """The beginning of a command that the kernel kills when this process is killed; empty where there is none."""
    found = shutil.which("setpriv") if sys.platform == "linux" else None
    if found is None or os.path.basename(os.path.realpath(found)) != "setpriv":  # noqa: PTH119 - busybox has another
        return []
    return [found, "--pdeathsig", "KILL", "--"]


def check_program(name: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Raise UsageError if there is no such program: setpriv would say so only in its own words."""
    found = (folder / name) if os.sep in name else shutil.which(name, path=environment.get("PATH"))
    if found is None or not os.access(found, os.X_OK) or Path(found).is_dir():
        raise UsageError(
            f"There is no program {name!r:.200} that can be run; expected a command after `--`, such as `outlast run "
            "-- python train.py`. Nothing was started."
        )


def _wait_for(pids: Sequence[int], seconds: float) -> None:
    """Wait until one of some child processes ends, or for some seconds."""
    descriptors: list[int] = []
    try:
        descriptors += [os.pidfd_open(pid) for pid in pids]
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)
    except (AttributeError, OSError):
        time.sleep(min(_POLL, seconds))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
