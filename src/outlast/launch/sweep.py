"""Several independent runs: each a process of `outlast train`, or of `outlast relay`, a bounded number at a time.

A sweep has no state of its own. Whether a run is finished is asked of its folder, so that a sweep that was stopped, or
killed, goes on when it is started again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from outlast.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_INTERRUPTED, EXIT_RUN_AGAIN
from outlast.launch.provider import Tell
from outlast.terminal import counted

_LOOK = 0.1  # seconds between two looks at the processes
_LEAST = 5.0  # seconds of a budget with which no run is started

_ASKS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: the run's name.
        values: the values in which the runs differ: name -> text.
        words: the arguments of outlast that train it.
    """

    name: str
    values: Mapping[str, str]
    words: Sequence[str]


@dataclass
class Sweep:
    """Trains runs.

    Args:
        members: the runs that are not finished.
        jobs: most runs at a time.
        tell: receives messages.
        seconds: the budget of this call, of which each run gets what is left; None: each run has its own.
        relays: whether the runs are relays. One that ends with 75 while others run may have found all places taken, and
            is tried again when another run ends. On this machine, 75 means that the session ends for all.

    Attributes:
        codes: exit codes by name.
    """

    members: Sequence[Member]
    jobs: int
    tell: Tell
    seconds: float | None = None
    relays: bool = False
    codes: dict[str, int] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _asked: int = 0  # the signal that asked to stop
    _over: bool = False  # whether no further run is started

    def run(self) -> int:
        """Train; returns 0, 75, 1 or 130."""
        heard = [number for number in _ASKS if signal.getsignal(number) != signal.SIG_IGN]  # nohup
        before = {number: signal.signal(number, self._ask) for number in heard}
        begun, waiting, later = time.monotonic(), deque(self.members), list[Member]()
        pumps: list[threading.Thread] = []
        try:
            while self._running or (waiting and not self._over):
                while waiting and len(self._running) < self.jobs and not self._over:
                    left = None if self.seconds is None else self.seconds - (time.monotonic() - begun)
                    if left is not None and left < _LEAST:
                        self._over = True
                        break
                    pumps += self._start(waiting.popleft(), left)
                time.sleep(_LOOK)
                for name, code in self._ended():
                    if code == EXIT_RUN_AGAIN and self.relays and not self._over:
                        later += [member for member in self.members if member.name == name]
                    else:
                        waiting.extend(later)  # a place is free
                        later.clear()
                        self._judge(name, code)
        finally:
            for process in self._running.values():
                process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        for pump in pumps:
            pump.join(2.0)
        return self._code()

    def _start(self, member: Member, left: float | None) -> list[threading.Thread]:
        """Start a run. The output of several at a time is passed on line by line, with the name of the run."""
        words = [sys.executable, "-P", "-m", "outlast", *member.words]
        if left is not None:
            words.append(f"--budget={left:.0f}s")
        several = self.jobs > 1
        self.tell(f"{member.name}: {len(self.codes) + len(self._running) + 1} of {counted(len(self.members), 'run')}")
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if several else None,
            stderr=subprocess.STDOUT if several else None,
            process_group=0,  # Ctrl-C is passed on, once
        )
        self._running[member.name] = process
        if self._asked:  # meanwhile
            self._ask(self._asked, None)
        if process.stdout is None:
            return []
        pump = threading.Thread(target=self._pass_on, args=(member.name, process.stdout), daemon=True)
        pump.start()
        return [pump]

    def _pass_on(self, name: str, output: IO[bytes]) -> None:
        with output:
            for line in output:
                if text := line.decode(errors="replace").strip():
                    self.tell(f"{name}: {text}")

    def _ended(self) -> list[tuple[str, int]]:
        found = [(name, code) for name, process in self._running.items() if (code := process.poll()) is not None]
        for name, _ in found:
            del self._running[name]
        return found

    def _judge(self, name: str, code: int) -> None:
        self.codes[name] = code
        if code in (EXIT_RUN_AGAIN, EXIT_INTERRUPTED):
            self._over = True
        elif code != EXIT_FINISHED:
            self.tell(f"{name}: failed with exit code {code}; the other runs go on")

    def _ask(self, number: int, _: object) -> None:
        """Pass a signal on, and start no further run."""
        self._asked, self._over = number, True
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def _code(self) -> int:
        """The exit code of the sweep."""
        codes = [self.codes.get(member.name, EXIT_RUN_AGAIN) for member in self.members]
        if self._asked == signal.SIGINT or EXIT_INTERRUPTED in codes:
            return EXIT_INTERRUPTED
        if EXIT_RUN_AGAIN in codes:
            return EXIT_RUN_AGAIN
        return EXIT_FAILED if any(codes) else EXIT_FINISHED
