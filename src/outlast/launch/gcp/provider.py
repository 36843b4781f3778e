"""Google Cloud as a provider: a machine for each session, and a folder of a bucket for its files.

The folder of a session, BUCKET/outlast-RUN-003, holds session.zip (code, request, files of the run), and from the
machine log.txt, work/ and, last, end.json. `cancel` in it asks the machine to stop. A machine that Google takes back
has left there what it had copied.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.config.units import format_seconds
from outlast.errors import CorruptCheckpoint, LaunchError, LaunchRefused, OutlastError, UnknownName, UsageError
from outlast.folder import durable, plain, reading, records
from outlast.launch.gcp.gcloud import Absent, Gcloud, folder_of
from outlast.launch.gcp.skypilot import write_task
from outlast.launch.gcp.terms import BUCKET, OPTIONS, PROJECT, ZONE, GcpTerms, create_command
from outlast.launch.package import packed
from outlast.launch.provider import Capabilities, Handle, Limits, Line, Output, Quota, Request, State, Tell, Terms
from outlast.launch.schema import MADE
from outlast.launch.sessionfolders import END, own_lines

__all__ = ["OPTIONS", "GcpProvider", "connect"]

_HANDLE = records.form(
    {"session": MADE, "bucket": records.text(400, BUCKET, "a folder of a bucket")},
    {
        "zone": records.or_null(records.text(60, ZONE, "a zone")),
        "project": records.or_null(records.text(100, PROJECT, "a project")),
    },
)
_WAITS = ("PROVISIONING", "STAGING")
_LIVES = (*_WAITS, "RUNNING", "REPAIRING")
_EVERY = 60.0
"""Seconds between two copies of the files to the bucket."""


def connect(runs: Path, *, user: str | None = None, patience: float = 600.0) -> GcpProvider:  # noqa: ARG001 - as all
    """The machines of gcloud's login."""
    return GcpProvider(Gcloud(patience))


class GcpProvider:
    """Google Cloud (see `outlast.launch.provider.Provider`).

    Args:
        gcloud: Google's command.
        every: seconds between two copies of the files to the bucket.
    """

    name = "gcp"
    title = "Google Cloud"
    environment = "gcp"
    capabilities = Capabilities(live_logs=True, inputs="ended", settles=60.0, ask=30.0, longer="--duration", paid=True)

    def __init__(self, gcloud: Gcloud, every: float = _EVERY) -> None:
        self.gcloud, self._every = gcloud, every

    def account(self) -> str:
        """The login of gcloud."""
        return f"login of gcloud: {self.gcloud.ask('config', 'get-value', 'account').strip() or 'none'}"

    def limits(self, terms: Terms) -> Limits:
        """A session is as long as --duration."""
        return GcpTerms.of(terms).limits

    def metered(self, accelerator: str) -> str | None:  # noqa: ARG002 - as all
        """None: no hours are counted."""
        return None

    def quotas(self) -> Sequence[Quota]:
        """Empty: Google's quotas are of machines, not of hours."""
        return ()

    # starting ------------------------------------------------------------------------------------------------------

    def preview(self, request: Request, folder: Path) -> str:
        """Write startup script and SkyPilot task into a folder; returns the command that would be run."""
        terms = _terms(request)
        durable.make_folder(folder)
        script = folder / f"{request.name}.startup.py"
        durable.write_file(script, [self._startup(request, terms, packed(request)).encode()])
        task = write_task(request, terms, folder)
        words = shlex.join(["gcloud", *create_command(request.name, terms, script)])
        return (
            f"{words}\nThis command would start a machine that trains {request.run} for "
            f"{format_seconds(request.training)} at most, with {len(request.bundle.files)} files of code, bundle "
            f"{request.bundle.hash[:12]}. {task} is the same as a task of SkyPilot. Nothing was started."
        )

    def plan(self, request: Request) -> Handle:
        """The names of the machine and of the folder in the bucket."""
        terms = _terms(request)
        remote = request.asked["values"].get("remote")
        if isinstance(remote, str) and not remote.startswith("gs://"):
            raise UsageError(
                f"--remote is {remote}, and a machine on Google Cloud has a login for gs:// alone. Give a bucket, or "
                "no remote: the session's files are in its bucket in any case. Nothing was started."
            )
        return {"session": request.name, "bucket": terms.bucket, "zone": terms.zone, "project": terms.project}

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:
        """Send code and files to the bucket, then create the machine."""
        terms, at = _terms(request), self._at(handle)
        data = packed(request)
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            place = Path(scratch)
            (place / "session.zip").write_bytes(data)
            tell(f"sending code and files to {at}")
            self.gcloud.copy(str(place / "session.zip"), f"{at}/session.zip")
            script = place / "startup.py"
            script.write_text(self._startup(request, terms, data))
            begun()
            try:
                self.gcloud.create(create_command(request.name, terms, script))
            except LaunchRefused:
                self._remove(at)
                raise
        return handle

    def _startup(self, request: Request, terms: GcpTerms, data: bytes) -> str:
        """The startup script with the facts of a session."""
        about = {
            "name": request.name,
            "at": folder_of(terms.bucket or "", request.name),
            "sha256": hashlib.sha256(data).hexdigest(),
            "after": self._at(request.after) if request.after else "",
            "install": list(terms.install),
            "packages": list(request.asked["packages"]),
            "seconds": terms.duration - terms.saving,
            "grace": min(30.0, max(0.5, terms.duration / 10)),
            "every": self._every,
            "shutdown": terms.shutdown,
        }
        text = (Path(__file__).parent / "startup.py").read_text()
        return "#!/usr/bin/env python3\n" + text.replace('ABOUT = "{}"', f"ABOUT = {json.dumps(json.dumps(about))}", 1)

    # existing sessions ---------------------------------------------------------------------------------------------

    def check(self, handle: Handle) -> None:
        """Refuse a handle of another provider."""
        self._at(handle)

    def label(self, handle: Handle) -> str:
        """The machine's name."""
        self.check(handle)
        return str(handle["session"])

    def address(self, handle: Handle) -> str:
        """The session's folder in the bucket."""
        return self._at(handle)

    def state(self, handle: Handle) -> State | None:
        """The state of the session: from its record in the bucket, otherwise from its machine."""
        at = self._at(handle)
        there = self._names(at)
        if "end.json" in there:
            return self._end(at)
        status = self._status(handle)
        if status is None and "log.txt" not in there:
            return None  # the code may be in the bucket; no machine has begun with it
        if status in _WAITS:
            return State("queued")
        if status in _LIVES:
            return State("saving" if "cancel" in there else "running")
        if "end.json" in self._names(at):  # it may have ended between the two looks
            return self._end(at)
        why = "its machine was taken back or deleted" if status is None else f"its machine is {status}"
        return State("lost", f"{why} before it had recorded an end")

    def log(
        self,
        handle: Handle,
        since: int = 0,
        *,
        live: bool = False,
        pause: float = 5.0,
        seen: Callable[[State | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """What the machine has copied of the session's log."""
        at = self._existing(handle)
        told = since
        while True:
            seen(state := self.state(handle))
            over = state is None or state.over
            found = list(own_lines(self._read(f"{at}/log.txt"), over=over))
            yield from (Line(0.0, line) for line in found[told:])
            told = max(told, len(found))
            if over or not live:
                return
            time.sleep(max(pause, min(10.0, self._every)))

    def outputs(self, handle: Handle) -> Iterator[Output]:
        """The files that the machine has copied to the bucket; all of them are fetched with one command."""
        at = self._existing(handle)
        if (state := self.state(handle)) is None or not state.over:
            return
        beginning = f"{at}/work/"
        try:
            listed = self.gcloud.ask("storage", "ls", f"{beginning}**")
        except Absent:
            return
        fetched = _Fetched(self.gcloud, f"{at}/work")
        for line in listed.splitlines():
            name = line.strip().removeprefix(beginning)
            if line.startswith(beginning) and name and not name.endswith("/"):
                yield Output(name, functools.partial(fetched.save, name))

    def cancel(self, handle: Handle) -> None:
        """Ask the training to save and stop; the machine sees it within a minute."""
        at, state = self._existing(handle), self.state(handle)
        if state is not None and not state.over and "cancel" not in self._names(at):
            with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
                (Path(scratch) / "cancel").write_text("")
                self.gcloud.copy(str(Path(scratch) / "cancel"), f"{at}/cancel")

    def clear(self, handle: Handle) -> None:
        """Delete the machine and the files of a session that has ended. Its log and its final record are kept."""
        at, state = self._at(handle), self.state(handle)
        if state is None or not state.over:
            return
        if "end.json" not in self._names(at):
            self._record(at, state)
        self._delete_machine(handle)
        for name in ("session.zip", "work"):
            self._remove(f"{at}/{name}")

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:  # noqa: ARG002 - nothing is shared
        """Delete the machine, which ends it, and the session's folder in the bucket."""
        at = self._at(handle)
        machine = self._delete_machine(handle)
        return [str(handle["session"])] if self._remove(at) or machine else []

    # questions -----------------------------------------------------------------------------------------------------

    def _at(self, handle: Handle) -> str:
        try:
            records.check(handle, _HANDLE, "The handle")
        except CorruptCheckpoint as error:
            raise UsageError(f"This is not a session on {self.title}. {error}") from error
        return folder_of(str(handle["bucket"]), str(handle["session"]))

    def _existing(self, handle: Handle) -> str:
        at = self._at(handle)
        if self.state(handle) is None:
            raise UnknownName(f"There is no session {handle['session']} in {handle['bucket']}.")
        return at

    def _names(self, at: str) -> set[str]:
        """The names in a session's folder."""
        try:
            listed = self.gcloud.ask("storage", "ls", f"{at}/")
        except Absent:
            return set()
        return {line.strip().rstrip("/").rpartition("/")[2] for line in listed.splitlines() if line.startswith("gs://")}

    def _status(self, handle: Handle) -> str | None:
        """The status of the machine, such as RUNNING; None if there is none."""
        where = _where(handle)
        try:
            return self.gcloud.ask(
                "compute", "instances", "describe", str(handle["session"]), *where, "--format=value(status)"
            ).strip()
        except Absent:
            return None

    def _read(self, address: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            place = Path(scratch) / "read"
            try:
                self.gcloud.copy(address, str(place))
            except Absent:
                return b""
            return place.read_bytes()

    def _end(self, at: str) -> State:
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            place = Path(scratch) / "end.json"
            self.gcloud.copy(f"{at}/end.json", str(place))
            try:
                end: Mapping[str, Any] = reading.read_record(place, END)
            except (OSError, OutlastError):
                return State("lost", "its last record cannot be read")
        return State(end["word"], end["message"], end["exit"], end["seconds"])

    def _record(self, at: str, state: State) -> None:
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            place = Path(scratch) / "end.json"
            end = {"word": state.word, "message": state.message, "exit": state.exit, "seconds": state.seconds or 0.0}
            place.write_text(json.dumps(end))
            self.gcloud.copy(str(place), f"{at}/end.json")

    def _delete_machine(self, handle: Handle) -> bool:
        try:
            self.gcloud.ask("compute", "instances", "delete", str(handle["session"]), *_where(handle))
        except Absent:
            return False
        return True

    def _remove(self, address: str) -> bool:
        try:
            self.gcloud.ask("storage", "rm", "--recursive", address)
        except Absent:
            return False
        except LaunchError:
            if not self._names(address):
                return False
            raise
        return True


class _Fetched:
    """Files of a session, which come with one command when the first of them is wanted, and go with this object.

    Args:
        gcloud: Google's command.
        at: address of the folder.
    """

    def __init__(self, gcloud: Gcloud, at: str) -> None:
        self._gcloud, self._at = gcloud, at
        self._folder: Path | None = None

    def save(self, name: str, target: Path) -> None:
        """Copy one file; raises OSError if it has not arrived, or is no plain file."""
        if self._folder is None:
            folder = Path(tempfile.mkdtemp(prefix="outlast-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            try:
                self._gcloud.copy("--recursive", self._at, str(folder))
            except LaunchError as error:
                raise OSError(str(error)) from error
            self._folder = folder / self._at.rpartition("/")[2]
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()) or plain.kind_of(path) != "file":
            raise OSError(f"{self._at}/{name} has not arrived")
        shutil.copyfile(path, target)


def _terms(request: Request) -> GcpTerms:
    """The terms of a request; they name a bucket."""
    terms = GcpTerms.of(request.terms)
    if terms.bucket is None:
        raise UsageError(
            "--bucket is missing; expected a folder of a bucket for code, log and files, such as --bucket "
            "gs://my-bucket/outlast. Nothing was started."
        )
    return terms


def _where(handle: Handle) -> list[str]:
    return [f"--{name}={handle[name]}" for name in ("zone", "project") if handle.get(name)]
