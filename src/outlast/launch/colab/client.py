"""Google's command `colab` (package google-colab-cli): what is asked of it, and what its answers mean.

Its login is its own; none is read here. It ends with 0 in cases that are failures (no such session, code that raised),
and says why in words, so the words are read. Its errors may hold the token of a runtime, which is taken out. docs:
https://github.com/googlecolab/google-colab-cli, and what was found by running 0.7.5: docs/log.md.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from outlast.errors import LaunchError, LaunchRefused, UsageError
from outlast.terminal import shortened

BEGUN = ("::outlast begun", "::outlast again")
"""What the cell of a session prints first; the second when it was sent twice."""

_TIMEOUT = 300.0  # seconds for one answer; a runtime takes up to a minute
_STARTING = 180.0  # seconds for a kernel to start and to begin with a cell
_STARTS = 3  # the client loses a cell whose kernel needs more than 10 s to connect, and does not end then
_PAUSE = 5.0
_LISTED = re.compile(r"\[(?P<name>[^\]]+)\] (?P<endpoint>\S+) \| Hardware: ")
_BALANCE = re.compile(r"Current balance: (?P<balance>[\d.]+) compute units\nUsage rate: (?P<rate>[\d.]+)/hr", re.ASCII)
_NO_LOGIN = ("To authorize colab-cli", "No valid default credentials", "Unauthorized", "Forbidden")
_SECRET = re.compile(r"(colab-runtime-proxy-token=|token=|code=|state=|Bearer )[^&\s'\")]+")


class Absent(LaunchError):
    """The file that was asked for does not exist in the runtime."""


class Gone(LaunchError):
    """The runtime does not exist."""


class Colab:
    """The `colab` on this machine.

    Args:
        auth: its kind of login, "oauth2" or "adc"; "auto": its own if there is one, otherwise that of gcloud.
        patience: seconds for which a question is repeated while there is no answer.
        sleep: waits for seconds.
    """

    def __init__(self, auth: str, patience: float = 600.0, sleep: Callable[[float], None] = time.sleep) -> None:
        self._auth, self._patience, self._sleep = auth, patience, sleep

    # the account ---------------------------------------------------------------------------------------------------

    def usage(self) -> tuple[float, float]:
        """The balance in compute units, and how many are used in an hour now.

        Raises:
            UsageError: there is no client, or it is not logged in.
            LaunchError: Colab does not answer.
        """
        found = _BALANCE.search(self._ask("usage"))
        if found is None:
            raise LaunchError("`colab usage` printed no balance. Is `colab` Google's client (google-colab-cli)?")
        return float(found["balance"]), float(found["rate"])

    def sessions(self) -> set[str]:
        """The names of the runtimes that this machine has started and that exist; raises as `usage`."""
        found = _LISTED.finditer(self._ask("sessions"))
        return {each["name"] for each in found if each["name"] != "?"}

    # runtimes ------------------------------------------------------------------------------------------------------

    def new(self, name: str, flags: Sequence[str]) -> None:
        """Start a runtime.

        Raises:
            LaunchRefused: it was refused, and nothing was started.
        """
        done = self._run(["new", "-s", name, *flags], _TIMEOUT)
        if done is not None and done.returncode == 0 and "Session READY" in done.stdout:
            return
        why = _error_of(done)
        if "Allocation refused" in why:
            raise LaunchRefused(
                "Colab gives no runtime now: too many are in use (`colab sessions` lists them, `colab stop` ends one), "
                "or this kind is taken or used up for your account. Nothing was started.",
                again="full",
            )
        if "rejected accelerator" in why:
            raise LaunchRefused(
                f"Colab refuses this kind of runtime to your account ({' '.join(flags)}). Try --runtime t4 or "
                "--runtime cpu. Nothing was started."
            )
        if name in self.sessions():
            return  # the answer was lost, and the runtime is there
        raise LaunchRefused(
            f"Colab started no runtime: {why} If `colab sessions` shows one as [?], its answer was lost; it ends by "
            "itself when it is idle. Nothing was started."
        )

    def start(self, name: str, cell: Path) -> None:
        """Run a cell in the runtime's kernel until it has begun; it goes on without this machine.

        The cell is sent again when it may have been lost, so it must do its work once only.

        Raises:
            LaunchError: it did not say that it has begun.
        """
        for _ in range(_STARTS):
            begun, said = self._begin(name, cell)
            if begun:
                return
        raise LaunchError(f"The runtime {name} did not begin: {_plain(said) or 'it said nothing.'}")

    def _begin(self, name: str, cell: Path) -> tuple[bool, str]:
        """Send a cell; whether it has begun, and what the client said."""
        words = [*self._command(), "exec", "-s", name, "-f", str(cell), "--timeout", "86400"]
        said: list[str] = []
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            errors="replace", umask=0o077,
        ) as process:  # fmt: skip
            late = threading.Timer(_STARTING, process.kill)
            late.start()
            try:
                for line in process.stdout or ():
                    said.append(line)
                    if line.strip() in BEGUN:
                        return True, ""
                    if "Connection was lost" in line:
                        break
            finally:
                late.cancel()
                process.terminate()  # the kernel goes on
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()
        return False, "".join(said)

    def stop(self, name: str) -> None:
        """End a runtime, with all that is in it; nothing if there is none.

        Raises:
            LaunchError: it is still there.
        """
        done = self._run(["stop", "-s", name], _TIMEOUT)
        if name in self.sessions():
            raise LaunchError(
                f"The runtime {name} was not ended: {_error_of(done)} End it with `colab stop -s {name}`."
            )

    # files ---------------------------------------------------------------------------------------------------------

    def upload(self, name: str, source: Path, target: str) -> None:
        """Send a file; raises as `download`."""
        self._transfer(name, ["upload", "-s", name, str(source), target], "Uploaded")

    def download(self, name: str, source: str, target: Path, *, there: bool = False) -> None:
        """Fetch a file.

        Args:
            name: of the runtime.
            source: the file in it.
            target: where to.
            there: whether the file must be there. Then it is asked for again, as a runtime that is not reached may
                also answer that it has no such file.

        Raises:
            Gone: the runtime does not exist.
            Absent: the file does not exist.
            LaunchError: there is no answer.
        """
        self._transfer(name, ["download", "-s", name, source, str(target)], "Downloaded", there=there)

    def _transfer(self, name: str, words: list[str], good: str, *, there: bool = False) -> None:
        until = time.monotonic() + self._patience
        while True:
            done = self._run(words, _TIMEOUT)
            if done is not None and done.returncode == 0 and good in done.stdout:
                return
            why = _error_of(done)
            # A runtime that is gone may answer as one that lacks the file does.
            if name not in self.sessions():
                self.usage()  # without a login, no session is listed either
                raise Gone(f"There is no runtime {name}.")
            late = time.monotonic() + _PAUSE > until
            if "File or directory not found" in why and (late or not there):
                raise Absent(f"{words[3]} is not in the runtime {name}.")
            if late:
                raise LaunchError(f"`colab {words[0]}` had no answer for {self._patience:.0f} s: {why}")
            self._sleep(_PAUSE)

    # the command ---------------------------------------------------------------------------------------------------

    def _ask(self, *words: str) -> str:
        """The output of a command that may be repeated."""
        until = time.monotonic() + self._patience
        while True:
            done = self._run(words, _TIMEOUT)
            if done is not None and done.returncode == 0:
                return done.stdout
            if time.monotonic() + _PAUSE > until:
                raise LaunchError(f"`colab {words[0]}` had no answer for {self._patience:.0f} s: {_error_of(done)}")
            self._sleep(_PAUSE)

    def _command(self) -> list[str]:
        program = shutil.which("colab") or shutil.which("colab", path=str(Path("~/.local/bin").expanduser()))
        if program is None:
            raise UsageError(
                "There is no `colab` on this machine; expected Google's client. Install it in an environment of its "
                "own, with Python 3.12: `uv tool install google-colab-cli` or `pipx install google-colab-cli`; then "
                "log in with `colab sessions`. Nothing was started."
            )
        return [program, "--auth", _found_login() if self._auth == "auto" else self._auth]

    def _run(self, words: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str] | None:
        """The finished command; None if it had no answer in time. The client's files are for the user alone."""
        try:
            done = subprocess.run(
                [*self._command(), *words], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
                errors="replace", timeout=timeout, check=False, umask=0o077,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        if any(mark in done.stderr for mark in _NO_LOGIN):
            raise UsageError(
                "`colab` is not logged in. Run `colab sessions` once and follow it, or use the login of gcloud with "
                "--auth adc (docs/how-to/colab.md). Nothing was started."
            )
        return done


def _found_login() -> str:
    """The kind of login that there is. Files are looked for, and not read."""
    configured = Path("~/.config").expanduser()
    if (configured / "colab-cli/token.json").exists():
        return "oauth2"
    gcloud = configured / "gcloud/application_default_credentials.json"
    return "adc" if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or gcloud.exists() else "oauth2"


def _plain(text: str) -> str:
    """The end of an output as one line without colours and tokens, with a full stop."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    said = _SECRET.sub(r"\1…", " ".join(lines[-3:]).replace("[colab] ", ""))
    return f"{shortened(said, 400).rstrip('.')}." if said else ""


def _error_of(done: subprocess.CompletedProcess[str] | None) -> str:
    """Why a command failed."""
    if done is None:
        return "timed out."
    return _plain(f"{done.stdout}\n{done.stderr}") or f"exit code {done.returncode}."
