"""Processes for tests that start in some milliseconds: forked from one that has imported the frameworks already.

`run` and `start` take the same words as `subprocess` with `sys.executable` first, and give the same back. A test about
imports, about what starts a program, or about Ctrl-C starts a process of its own with `subprocess` instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CORE = (
    "numpy pydantic yaml rich.console rich.live rich.progress "
    "outlast.cli outlast.run.run outlast.recipe.prepare outlast.report "
    "outlast.cli.train outlast.cli.launch outlast.launch.records outlast.launch.provider"
)
PRELOADED = {
    "torch": f"{CORE} torch torch._dynamo sklearn.datasets",
    "jax": f"{CORE} jax optax",
    "launch": f"{CORE} numpy.random outlast.launch.kaggle kagglesdk.kaggle_client",
}
"""Name of a template -> what it has imported. That is state (random generators): take what the program would have."""

_WITHOUT = set(os.environ.get("OUTLAST_TESTS_WITHOUT", "").split(","))
"""Packages that `make test-new` leaves out: a template does without them, as without what is not installed."""

_WORKER = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
_RUN_OF_TESTS = _WORKER or uuid.uuid4().hex

_templates: dict[str, Template] = {}


def run(
    words: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    check: bool = False,
    template: str = "torch",
) -> subprocess.CompletedProcess[str]:
    """Run `[sys.executable, "-m" module | "-c" code | script, ...]` to its end, with its output as text."""
    process = start(words, cwd=cwd, env=env, template=template)
    out, err = process.communicate(timeout)
    done = subprocess.CompletedProcess(list(words), process.returncode or 0, out, err)
    if check:
        done.check_returncode()
    return done


def start(
    words: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    start_new_session: bool = False,
    template: str = "torch",
) -> Process:
    """Start it, and go on meanwhile."""
    assert words[0] == sys.executable
    if template not in _templates:
        packages = {name: name.partition(".")[0] for name in PRELOADED[template].split()}
        modules = [name for name, each in packages.items() if each not in _WITHOUT and importlib.util.find_spec(each)]
        _templates[template] = Template(template, modules)
    return _templates[template].fork(list(words[1:]), cwd or Path.cwd(), {**(env or os.environ)}, start_new_session)


def run_into(
    words: Sequence[str], folder: Path, variables: Mapping[str, str], output: Path, template: str = "launch"
) -> int:
    """As `outlast.integrations.prove.run_process`, for Python without torch: its output in a file, its exit status."""
    done = run(words, cwd=folder, env=variables, template=template)
    output.write_text(done.stdout + done.stderr)
    return done.returncode


def start_ranks(words: Sequence[str], count: int) -> list[Process]:
    """Start it as so many ranks of one training, with what torchrun tells each of them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        start(words, env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)
    ]


def no_fsync(descriptor: int) -> None:
    """In place of `os.fsync`: refuses what it refuses, and does not wait for the disk."""
    os.fstat(descriptor)


class Process:
    """A forked process, as much of `subprocess.Popen` as tests use; stdout and stderr are pipes of text."""

    def __init__(self, connection: socket.socket, pipes: Sequence[int], words: list[str]) -> None:
        self._connection, self._words = connection, words
        self._answers = connection.makefile()
        self.stdout, self.stderr = (os.fdopen(pipe, encoding="utf-8", errors="replace") for pipe in pipes)
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._words, timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait, and return what it wrote to stdout and to stderr."""
        with ThreadPoolExecutor(2) as readers:
            texts = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self.stdout.close()
        self.stderr.close()
        return texts[0].result(), texts[1].result()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class Template:
    """A process that has imported much and forks for everyone who asks.

    All workers of one run of the tests share it: the first that asks starts it, and it ends soon after pytest, the
    parent of them all.
    """

    def __init__(self, name: str, modules: Sequence[str]) -> None:
        folder = Path(tempfile.gettempdir()) / f"outlast-template-{_RUN_OF_TESTS}"
        folder.mkdir(exist_ok=True, mode=0o700)
        self._place = str(folder / f"{name}.socket")
        self._process: subprocess.Popen[bytes] | None = None
        with (folder / f"{name}.started").open("a+") as started:
            fcntl.flock(started, fcntl.LOCK_EX)
            started.seek(0)
            if started.read():
                return
            clean = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
            script, owner = str(Path(__file__).with_name("template.py")), os.getppid() if _WORKER else os.getpid()
            command = [sys.executable, script, self._place, str(owner), *modules]
            self._process = subprocess.Popen(command, env=clean, cwd=folder)
            started.write(str(self._process.pid))

    def fork(self, words: list[str], cwd: Path | str, env: dict[str, str], session: bool) -> Process:
        """Another process of it."""
        request: dict[str, Any] = {"words": words, "cwd": str(cwd), "env": env, "session": session}
        request["fsync"] = os.fsync is not no_fsync
        connection = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 60
        while True:
            try:
                connection.connect(self._place)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if (self._process and self._process.poll() is not None) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        out, err = os.pipe(), os.pipe()
        socket.send_fds(connection, [b"!"], [out[1], err[1]])
        connection.sendall(json.dumps(request).encode() + b"\n")
        os.close(out[1])
        os.close(err[1])
        return Process(connection, [out[0], err[0]], words)
