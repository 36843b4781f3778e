"""Kaggle as a provider: a private kernel for each attempt, and private datasets for large data."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from outlast.config.units import format_bytes, format_seconds
from outlast.environment.keys import FIELDS
from outlast.errors import CorruptCheckpoint, UnknownName, UsageError
from outlast.folder import hashing, records
from outlast.folder.layout import MANIFEST
from outlast.kaggle import datasets
from outlast.kaggle.credentials import find_credential
from outlast.kaggle.download import download
from outlast.launch.kaggle.answers import PushRequest, Status
from outlast.launch.kaggle.client import Kaggle
from outlast.launch.kaggle.script import script
from outlast.launch.kaggle.secrets import DATASET
from outlast.launch.kaggle.setup import check_user
from outlast.launch.kaggle.terms import METERED, OPTIONS, REMARKS, KaggleTerms
from outlast.launch.provider import (
    Capabilities,
    Handle,
    Limits,
    Line,
    Output,
    Quota,
    Request,
    State,
    Tell,
    Terms,
    Word,
)
from outlast.launch.records import short
from outlast.launch.schema import MADE
from outlast.launch.watch import mark_in

__all__ = ["OPTIONS", "REMARKS", "KaggleProvider", "connect"]

# The things that a handle names are deleted in the user's account, so only names that outlast creates are valid.
_HANDLE = records.form(
    {"slug": MADE},
    {"user": records.or_null(records.text(300)), "datasets": records.many(MADE, 1000)},
)
_ENDS: Mapping[str, Word] = {"complete": "completed", "error": "failed", "stopped": "cancelled"}
_LIVES: Mapping[str, Word] = {"queued": "queued", "running": "running", "saving": "saving"}


def connect(runs: Path, *, user: str | None = None, patience: float = 600.0) -> KaggleProvider:  # noqa: ARG001 - as all
    """The account of the login on this machine. The login is searched at the first call."""

    def login() -> Kaggle:
        kaggle = Kaggle(find_credential(), patience=patience)
        check_user(kaggle, user)
        return kaggle

    return KaggleProvider(login)


class KaggleProvider:
    """Kaggle (see `outlast.launch.provider.Provider`).

    Args:
        login: returns the account.
    """

    name = "kaggle"
    title = "Kaggle"
    environment = "kaggle"
    capabilities = Capabilities(
        quota=True,
        full=True,
        live_logs=True,
        secrets=True,
        keys=FIELDS,
        accelerators=("t4x2", "tpu", "cpu"),
        inputs="completed",
        settles=60.0,
    )

    def __init__(self, login: Callable[[], Kaggle]) -> None:
        self._login = login
        self._sessions: dict[str, str] = {}  # slug -> the session id that its kernel printed

    @functools.cached_property
    def kaggle(self) -> Kaggle:
        """The account."""
        return self._login()

    def account(self) -> str:
        """The source of the login."""
        return f"login from {self.kaggle.credential.source}"

    # limits --------------------------------------------------------------------------------------------------------

    def limits(self, terms: Terms) -> Limits:
        """Kaggle's limits; see docs/how-to/kaggle.md."""
        return KaggleTerms.of(terms).limits

    def metered(self, accelerator: str) -> str | None:
        """GPU or TPU hours; CPU sessions use none."""
        return METERED.get(accelerator)

    def quotas(self) -> Sequence[Quota]:
        """This week's GPU and TPU hours."""
        quota = self.kaggle.quota()
        return (
            Quota("GPU", quota.gpu_used, quota.gpu_total, quota.refresh),
            Quota("TPU", quota.tpu_used, quota.tpu_total, quota.refresh),
        )

    # starting ------------------------------------------------------------------------------------------------------

    def preview(self, request: Request, folder: Path) -> str:
        """Write the file that would be pushed."""
        terms = KaggleTerms.of(request.terms)
        made = script(request, terms.accelerator)
        place = folder / f"{request.run}-launch.py"
        folder.mkdir(parents=True, exist_ok=True)
        place.write_text(made.text)
        beside = (
            f", and the private dataset {made.dataset} with {format_bytes(len(made.bundle.compressed))}"
            if made.dataset
            else ""
        )
        return (
            f"{place} would be pushed: {len(made.bundle.files)} files, {format_bytes(len(made.text))}, bundle "
            f"{made.bundle.hash[:12]}{beside}. It would train {request.run} for {format_seconds(request.training)} at "
            f"most, on {terms.accelerator}. Nothing was sent."
        )

    def plan(self, request: Request) -> Handle:
        """The kernel's name and those of its datasets."""
        terms = KaggleTerms.of(request.terms)
        if terms.secrets and datasets.state(self.kaggle, DATASET) != "READY":
            raise UsageError(
                f"The dataset {self.kaggle.user}/{DATASET} does not exist or is not ready. Create it with: outlast "
                "kaggle secrets push secrets.json"
            )
        carried = (script(request, terms.accelerator).dataset, _dataset_of(request))
        return {"user": self.kaggle.user, "slug": request.name, "datasets": [name for name in carried if name]}

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:
        """Create the datasets that do not exist yet, then push the kernel."""
        terms, kaggle = KaggleTerms.of(request.terms), self.kaggle
        made = script(request, terms.accelerator)
        if made.dataset:
            tell(f"sending the code as the private dataset {made.dataset}")
            datasets.create(kaggle, made.dataset, {made.file: made.bundle.compressed})
        if request.files:
            tell(f"sending step {request.step} as the private dataset {_dataset_of(request)}")
            datasets.create(kaggle, _dataset_of(request), request.files)
        begun()
        attached = [*handle["datasets"], *([DATASET] if terms.secrets else [])]
        kaggle.push(
            PushRequest(
                handle["slug"],
                made.text,
                terms.accelerator,
                internet=terms.internet,
                seconds=terms.backstop(request.training),
                kernels=[f"{kaggle.user}/{self._slug(request.after)}"] if request.after else [],
                datasets=[*(f"{kaggle.user}/{name}" for name in attached), *terms.datasets],
            )
        )
        return handle

    # existing sessions ---------------------------------------------------------------------------------------------

    def check(self, handle: Handle) -> None:
        """Refuse a handle of another provider or account."""
        self._slug(handle)

    def label(self, handle: Handle) -> str:
        """The kernel's full name."""
        return f"{self.kaggle.user}/{self._slug(handle)}"

    def address(self, handle: Handle) -> str:
        """The kernel's page."""
        return f"https://www.kaggle.com/code/{self.label(handle)}"

    def state(self, handle: Handle) -> State | None:
        """Kaggle's state of the kernel's session."""
        status = self.kaggle.status(self._slug(handle))
        return _state(status) if status else None

    def log(
        self,
        handle: Handle,
        since: int = 0,
        *,
        live: bool = False,
        pause: float = 5.0,
        seen: Callable[[State | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """The kernel's log."""
        slug = self._existing_slug(handle)
        lines = self.kaggle.log(
            slug, until_over=live, pause=pause, seen=lambda status: seen(_state(status) if status else None)
        )
        for number, line in enumerate(lines):
            if session := mark_in(line.text, "session"):
                self._sessions[slug] = session
            if number >= since:
                yield line

    def outputs(self, handle: Handle) -> Iterator[Output]:
        """The kernel's files."""
        for output in self.kaggle.outputs(self._existing_slug(handle)):
            yield Output(output.name, functools.partial(download, output.url))

    def cancel(self, handle: Handle) -> None:
        """Stop a session by the id that its kernel printed.

        Kaggle saves its files, which takes about two minutes per gigabyte.
        """
        slug = self._existing_slug(handle)
        state = self.state(handle)
        if state is None or state.over or state.word == "saving":
            return
        lines = self.log(handle) if slug not in self._sessions else iter(())
        while slug not in self._sessions and next(lines, None) is not None:
            pass
        session = self._sessions.get(slug, "")
        if not session.isdigit():
            raise UsageError(
                f"{slug} is {state.word} and has not printed its session id yet, which Kaggle needs to stop it. Try "
                "again when it runs, or delete it on kaggle.com, which also deletes its files."
            )
        self.kaggle.cancel(int(session))

    def clear(self, handle: Handle) -> None:
        """Do nothing: the files stay at Kaggle until `outlast down` or `--keep` deletes them."""
        self.check(handle)

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:
        """Delete the kernel with its versions and files, and its datasets."""
        gone, slug = [], self._slug(handle)
        if self.kaggle.status(slug) is not None:
            self.kaggle.delete(slug)
            gone.append(slug)
        lists = [
            names for other in others if isinstance(names := other.get("datasets"), list)
        ]  # records are not trusted
        used = [name for names in lists for name in names]
        for name in handle.get("datasets", ()):
            if name not in used and _is_of(slug, name) and datasets.state(self.kaggle, name) is not None:
                datasets.delete(self.kaggle, name)
                gone.append(name)
        return gone

    def _slug(self, handle: Handle) -> str:
        """The kernel's name in a handle."""
        try:
            records.check(handle, _HANDLE, "The handle")
        except CorruptCheckpoint as error:
            raise UsageError(f"This is not a session on Kaggle. {error}") from error
        check_user(self.kaggle, handle.get("user"))
        return str(handle["slug"])

    def _existing_slug(self, handle: Handle) -> str:
        """The name of a kernel that exists."""
        slug = self._slug(handle)
        if self.kaggle.status(slug) is None:
            raise UnknownName(f"There is no session {slug} on Kaggle.")
        return slug


def _state(status: Status) -> State:
    if not status.over:
        return State(_LIVES[status.state])
    if "exceeded the max" in status.message:
        return State("timed-out", status.message)
    if "memory" in status.message:
        return State("out-of-memory", status.message)
    return State(_ENDS[status.state], status.message)


def _dataset_of(request: Request) -> str:
    """The dataset for the files of a request; empty without files.

    Its name contains their hash, so that the same files are sent once.
    """
    if not request.files:
        return ""
    manifests = [path.read_bytes() for name, path in sorted(request.files.items()) if name.endswith(f"/{MANIFEST}")]
    return f"outlast-{short(request.run, 16)}-step-{request.step}-{hashing.digest(b''.join(manifests))[:8]}"


def _is_of(slug: str, dataset: str) -> bool:
    """Whether a dataset was created for the run of this session. A dataset with code belongs to no run."""
    sent = re.fullmatch(r"outlast-(.*)-step-\d+-[0-9a-f]{8}", dataset)
    return sent is None or slug.startswith(f"outlast-{sent[1]}")
