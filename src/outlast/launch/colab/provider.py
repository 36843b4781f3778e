"""Colab as a provider: a runtime for each session, and a folder on this machine that has what it left so far.

The folder of a session, RUNS/.colab/outlast-RUN-003, holds

    session.json    kind of login, lifetime        submit.json    the process that starts it: pid, began
    started         its cell has begun             runtime        there may be a runtime of this name
    log/, work/     copies (outlast.launch.colab.mirror)           cancel         it was asked to stop
    end.json        how it ended; written when its files are here, or cannot come any more

Files are copied while a session is followed (`outlast relay`, `outlast logs -f`). A runtime that is taken back has left
what was copied until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.config.units import format_bytes, format_seconds
from outlast.errors import AnswerLost, LaunchError, LaunchRefused, UsageError
from outlast.folder import durable, layout, records
from outlast.launch.colab.client import Absent, Colab, Gone
from outlast.launch.colab.machine import PART
from outlast.launch.colab.mirror import Mirror
from outlast.launch.colab.terms import AUTHS, OPTIONS, ColabTerms
from outlast.launch.keeper import write
from outlast.launch.package import packed
from outlast.launch.process import identity, lives
from outlast.launch.provider import Capabilities, Handle, Limits, Line, Quota, Request, State, Tell, Terms
from outlast.launch.schema import MADE
from outlast.launch.sessionfolders import FolderProvider, ended, own_lines, read

__all__ = ["OPTIONS", "ColabProvider", "connect"]

FOLDER = ".colab"
_HANDLE = records.form({"session": MADE})
_ABOUT = records.form({"auth": records.one_of(*AUTHS), "lifetime": records.number})
_PROCESS = records.form({"pid": records.whole(2, 2**31 - 1), "began": records.text(300)})
_EVERY = 15.0
"""Seconds between two looks of a session at its log and files."""


def connect(runs: Path, *, user: str | None = None, patience: float = 600.0) -> ColabProvider:  # noqa: ARG001 - as all
    """The runtimes of the login of `colab`, beside the runs of this folder."""
    return ColabProvider(runs.absolute() / FOLDER, lambda auth: Colab(auth, patience))


class ColabProvider(FolderProvider):
    """Colab (see `outlast.launch.provider.Provider`).

    Args:
        root: the folder of the sessions.
        client: returns Google's command for a kind of login.
        every: seconds between two looks of a session at its log and files.
    """

    name = "colab"
    title = "Colab"
    environment = "colab"
    capabilities = Capabilities(
        quota=True, full=True, live_logs=True, inputs="ended", settles=5.0, ask=30.0, longer="--lifetime"
    )
    looks = (2.0, 30.0)

    def __init__(self, root: Path, client: Callable[[str], Colab], every: float = _EVERY) -> None:
        super().__init__(root, _HANDLE)
        self._client, self._every = client, every

    def account(self) -> str:
        """The balance and the present use of the client's login."""
        balance, rate = self._client("auto").usage()
        return f"login of colab: {balance:.2f} compute units, of which {rate:.2f} are used in an hour now"

    def limits(self, terms: Terms) -> Limits:
        """A session is as long as --lifetime."""
        given = ColabTerms.of(terms)
        kind = self.metered(given.runtime)
        gpus = 1 if kind == "GPU" else 0
        return Limits(given.lifetime, given.saving, accelerator=given.runtime, metered=kind, gpus=gpus)

    def metered(self, accelerator: str) -> str | None:
        """GPU or TPU hours, which Colab does not limit as such; `--max-gpu-hours` does."""
        return None if accelerator == "cpu" else "TPU" if accelerator.startswith("v") else "GPU"

    def quotas(self) -> Sequence[Quota]:
        """How long the compute units last at the rate at which they are used now; empty while none are used."""
        balance, rate = self._client("auto").usage()
        return (Quota(f"at {rate:.2f} compute units an hour", 0.0, balance / rate * 3600.0),) if rate > 0 else ()

    # starting ------------------------------------------------------------------------------------------------------

    def preview(self, request: Request, folder: Path) -> str:
        """Write the cell that the runtime's kernel would run."""
        terms, data = ColabTerms.of(request.terms), self._packed(request)
        place = folder / f"{request.name}.cell.py"
        durable.make_folder(folder)
        durable.write_file(place, [self._cell(request, terms, data).encode()])
        words = " ".join(["colab", "new", "-s", request.name, *terms.flags])
        return (
            f"`{words}` would start a runtime, and {place} would run in its kernel, with "
            f"{len(request.bundle.files)} files of code ({format_bytes(len(data))}), bundle "
            f"{request.bundle.hash[:12]}. It would train {request.run} for {format_seconds(request.training)} at most. "
            "Nothing was started."
        )

    def plan(self, request: Request) -> Handle:
        """The name of the runtime and of the folder."""
        if remote := request.asked["values"].get("remote"):
            raise UsageError(
                f"The remote {remote} needs a login, and a runtime of Colab gets none. Leave it out: its files are "
                "copied to this machine while it is followed. Nothing was started."
            )
        return {"session": request.name}

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:
        """Start a runtime, send code and files, and start the cell, which goes on without this machine."""
        terms = ColabTerms.of(request.terms)
        colab, name = self._client(terms.auth), request.name
        colab.usage()  # a wrong login is said before anything is written
        if name in colab.sessions():
            raise LaunchRefused(
                f"There is a runtime {name} already, of another folder. End it with `colab stop -s {name}`, or "
                "choose another --experiment-name. Nothing was started."
            )
        folder = self._folders.of(handle)
        coming = folder.with_name(f"{layout.TEMPORARY}{name}")
        durable.remove_any(coming)
        durable.make_folder(coming / "work")
        write(coming / "session.json", {"auth": terms.auth, "lifetime": terms.lifetime})
        write(coming / "submit.json", {"pid": os.getpid(), "began": identity(os.getpid())})
        (coming / "runtime").touch()
        begun()
        coming.rename(folder)
        try:
            tell(f"starting a runtime ({terms.runtime})")
            colab.new(name, terms.flags)
            data = self._packed(request)
            tell(f"sending code and files ({format_bytes(len(data))})")
            self._send(colab, request, terms, data)
        except LaunchError as error:
            self._undo(colab, folder, error)
            raise
        (folder / "started").touch()
        return handle

    def _send(self, colab: Colab, request: Request, terms: ColabTerms, data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            place = Path(scratch) / "cell.py"
            for number, begin in enumerate(range(0, len(data), PART)):
                place.write_bytes(data[begin : begin + PART])
                colab.upload(request.name, place, f"content/{request.name}.send-{number:03d}")
            place.write_text(self._cell(request, terms, data))
            try:
                colab.start(request.name, place)
            except LaunchError:
                if Mirror(colab, self._folders.root / request.name).status() is None:
                    raise

    def _packed(self, request: Request) -> bytes:
        """The zip of a session, with the files of the one that it continues: they are on this machine."""
        if not request.after:
            return packed(request)
        work = self._folders.of(request.after) / "work"
        return packed(request, {output.name: work / output.name for output in self.outputs(request.after)})

    def _undo(self, colab: Colab, folder: Path, error: LaunchError) -> None:
        """End a runtime whose cell did not begin."""
        try:
            colab.stop(folder.name)
        except LaunchError as other:
            (folder / "submit.json").unlink()
            raise AnswerLost(f"It is unknown whether {folder.name} has begun: {error} {other}") from other
        shutil.rmtree(folder)

    def _cell(self, request: Request, terms: ColabTerms, data: bytes) -> str:
        """The cell with the facts of a session."""
        about = {
            "name": request.name,
            "parts": -(-len(data) // PART),
            "sha256": hashlib.sha256(data).hexdigest(),
            "packages": list(request.asked["packages"]),
            "seconds": terms.training,
            "lifetime": terms.lifetime,
            "hold": terms.hold,
            "every": self._every,
        }
        text = (Path(__file__).parent / "startup.py").read_text()
        return text.replace('ABOUT = "{}"', f"ABOUT = {json.dumps(json.dumps(about))}", 1)

    # existing sessions ---------------------------------------------------------------------------------------------

    def state(self, handle: Handle) -> State | None:
        """The state of the session, from its folder, otherwise from its runtime."""
        return self._look(handle)[0]

    def _look(self, handle: Handle) -> tuple[State | None, Mapping[str, Any] | None]:
        """The state of a session, and what its runtime says if that must still be copied."""
        folder = self._folders.of(handle)
        if not folder.is_dir():
            return None, None
        if end := ended(folder):
            return end, None
        submit = read(folder / "submit.json", _PROCESS)
        started = (folder / "started").exists()
        if not started and submit and lives(submit["pid"], submit["began"]):
            return State("queued"), None
        colab = self._colab(folder)
        try:
            status = Mirror(colab, folder).status(begun=started)
        except Gone:
            return self._record(folder, State("lost", "its runtime was taken back, or ended")), None
        if status is None:
            colab.stop(folder.name)  # so that it cannot begin later
            why = "its runtime has lost its files" if started else "it was never started"
            return self._record(folder, State("lost", why)), None
        if end := status["end"]:
            return State(end["word"], end["message"], end["exit"], end["seconds"]), status
        return State("saving" if (folder / "cancel").exists() else "running", seconds=status["seconds"]), status

    def log(
        self,
        handle: Handle,
        since: int = 0,
        *,
        live: bool = False,
        pause: float = 5.0,
        seen: Callable[[State | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """What was copied of the session's log. A session that is followed is also copied."""
        folder, told = self._folders.existing(handle), since
        least, most = self.looks
        while True:
            state, status = self._look(handle)
            if status:
                self._copy(folder, status)
            seen(state)
            over = state is None or state.over
            found = list(own_lines(Mirror(self._colab(folder), folder).log(), over=over))
            yield from (Line(0.0, line) for line in found[told:])
            told = max(told, len(found))
            if over or not live:
                return
            time.sleep(min(max(pause, least), most))

    def outputs(self, handle: Handle) -> Iterator[Any]:
        """The files of the session, which are copied to this machine first; then its runtime is ended."""
        folder = self._folders.existing(handle)
        state, status = self._look(handle)
        if state is not None and state.over and status:
            self._copy(folder, status)
        return super().outputs(handle)

    def cancel(self, handle: Handle) -> None:
        """Ask the training to save and stop. A session that has not begun is ended."""
        folder = self._folders.existing(handle)
        state, status = self._look(handle)
        if state is None or state.over or (folder / "cancel").exists():
            return
        if status is None:
            self._end_runtime(folder)
            self._record(folder, State("cancelled", "it was cancelled before it began"))
            return
        Mirror(self._colab(folder), folder).ask_to_stop()
        (folder / "cancel").touch()

    def clear(self, handle: Handle) -> None:
        """Delete the files of a session that has ended, and its runtime. Its log and final record are kept."""
        super().clear(handle)
        if (folder := self._folders.of(handle)).is_dir() and ended(folder):
            self._end_runtime(folder)

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:  # noqa: ARG002 - nothing is shared
        """End the runtime, and delete the session's folder."""
        if (folder := self._folders.of(handle)).is_dir():
            self._end_runtime(folder)
        return self._folders.delete(handle)

    # questions -----------------------------------------------------------------------------------------------------

    def _colab(self, folder: Path) -> Colab:
        about = read(folder / "session.json", _ABOUT)
        return self._client(about["auth"] if about else "auto")

    def _copy(self, folder: Path, status: Mapping[str, Any]) -> None:
        """Copy what is new; at the end of a session, record it and end its runtime."""
        colab = self._colab(folder)
        try:
            Mirror(colab, folder).copy(status)
        except Gone:
            return  # the next look says so
        except Absent:
            if status["end"]:
                raise
            return  # replaced meanwhile; the next look has what is new
        if status["end"]:
            write(folder / "end.json", dict(status["end"]))
            with contextlib.suppress(LaunchError):  # `clear` tries again
                self._end_runtime(folder)

    def _end_runtime(self, folder: Path) -> None:
        if (folder / "runtime").exists():
            self._colab(folder).stop(folder.name)
            (folder / "runtime").unlink(missing_ok=True)

    def _record(self, folder: Path, state: State) -> State:
        """Write how a session ended that could not say so itself."""
        end = {"word": state.word, "message": state.message, "exit": state.exit, "seconds": state.seconds or 0.0}
        write(folder / "end.json", end)
        return state
