"""The interface of a provider, through which `launch`, `relay` and the other verbs start attempts.

A provider runs a bundle for a limited time and keeps the files that the session wrote. The verbs `launch`, `relay`,
`logs`, `fetch`, `cancel`, `down` and `quota` use only this interface. docs/reference/providers.md says how to write a
provider. Each one must pass tests/conformance/test_providers.py.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from outlast.launch.bundle import Bundle

Handle = Mapping[str, Any]
"""A JSON object by which a provider finds one of its sessions again. Only that provider reads it."""

Tell = Callable[[str], None]
"""Receives a message for the user."""


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of a provider.

    Attributes:
        quota: whether it counts accelerator hours, and `quotas` returns how many are left.
        full: whether it may refuse a session for now, because other ones use all slots.
        live_logs: whether `log` yields lines while the session runs.
        secrets: whether it can give keys to a session.
        keys: environment variables that a session may have from this machine, with `secrets` in its terms; None: all.
        folders: whether its sessions can read the folders of this machine.
        accelerators: values of `--accelerator`; empty if there is no choice.
        inputs: the sessions whose outputs can be attached to the next one: those that "completed", all that "ended", or
            "none".
        settles: seconds after which a submission without an answer cannot appear any more.
        ask: recommended seconds between two queries of a session.
        paid: whether a session costs money, so that it is started only with --yes.
        longer: the flag that makes sessions longer, such as "--session"; empty if their length is fixed.
    """

    quota: bool = False
    full: bool = False
    live_logs: bool = False
    secrets: bool = False
    keys: tuple[str, ...] | None = None
    folders: bool = False
    accelerators: tuple[str, ...] = ()
    inputs: Literal["completed", "ended", "none"] = "none"
    settles: float = 0.0
    ask: float = 45.0
    longer: str = ""
    paid: bool = False


@dataclass(frozen=True)
class Terms:
    """The terms of a session.

    Attributes:
        seconds: seconds of training; None: as many as the provider's limit allows.
        options: the provider's own options by name, as JSON. `wheels` is a folder of wheels for the bundle.
    """

    seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """The limits of a session with given terms.

    Attributes:
        session: seconds after which the provider ends it.
        overhead: seconds of the session that are not available for training, for example while outputs are stored.
        least: seconds of quota below which no session is started.
        accelerator: the accelerator.
        metered: the kind of hours that it uses, such as "GPU"; None if it uses none.
        disk: bytes that a session may keep; None if that is not known.
        here: whether a session computes on this very machine.
        gpus: its GPUs, each of which a recipe with several ranks uses; None if their number is not known before.
    """

    session: float
    overhead: float = 0.0
    least: float = 0.0
    accelerator: str = "this machine"
    metered: str | None = None
    disk: int | None = None
    here: bool = False
    gpus: int | None = None

    def ranks(self, *, several: bool) -> int | None:
        """Ranks that train in it; None if their number is not known before. `several`: a recipe with several ranks."""
        return 1 if not several else None if self.gpus is None else max(1, self.gpus)

    def training(self, terms: Terms) -> float:
        """Seconds that a session with these terms trains."""
        return terms.seconds or self.session - self.overhead

    def within(self, terms: Terms, left: float) -> Terms:
        """The terms of a session, shortened to the remaining seconds of the quota.

        They allow at least a minute of training.
        """
        seconds = max(left - self.overhead, 60.0)
        return replace(terms, seconds=seconds) if left - self.overhead < self.training(terms) else terms


@dataclass(frozen=True)
class Quota:
    """Accelerator time of one kind: seconds used, seconds in total, and the time of renewal.

    The time of renewal is in UTC; None if the provider does not report it.
    """

    kind: str
    used: float
    total: float
    refresh: dt.datetime | None = None

    @property
    def left(self) -> float:
        """Seconds left."""
        return max(0.0, self.total - self.used)


Word = Literal[
    "queued", "running", "saving", "completed", "failed", "cancelled", "timed-out", "out-of-memory", "lost"
]  # fmt: skip


@dataclass(frozen=True)
class State:
    """The state of a session.

    Attributes:
        word: queued, running or saving; or how it ended. "lost" means that its machine went down.
        message: the provider's message about a failure, or why the session waits.
        exit: the exit code of the training, if the provider knows it.
        seconds: how long it has run, if the provider knows it.
    """

    word: Word
    message: str = ""
    exit: int | None = None
    seconds: float | None = None

    @property
    def over(self) -> bool:
        """Whether the session has ended, so that its outputs are complete."""
        return self.word not in ("queued", "running", "saving")


@dataclass(frozen=True)
class Line:
    """A line that a session printed, and its time in seconds after the start."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Output:
    """A file that a session left.

    Attributes:
        name: its path, such as "runs/digits/run.json".
        save: writes its contents to a path; raises OSError if they do not arrive completely.
    """

    name: str
    save: Callable[[Path], None] = field(repr=False)


@dataclass(frozen=True)
class Request:
    """A request to start one attempt.

    Attributes:
        name: unique name of the attempt, such as "outlast-digits-003".
        run: the run's name.
        bundle: the code.
        asked: the training request for `outlast.launch.inside` (`bundle.request_of`).
        terms: the terms of the session.
        after: the session whose outputs are attached, or None.
        files: files of the run to send: path such as "runs/digits/run.json" -> local file.
        step: the step from which it continues.
    """

    name: str
    run: str
    bundle: Bundle
    asked: Mapping[str, Any]
    terms: Terms
    after: Handle | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    step: int = 0

    @property
    def training(self) -> float:
        """Seconds of training."""
        return float(self.asked["budget"])


class Provider(Protocol):
    """A provider of sessions.

    All methods that take a handle raise UsageError if it belongs to another provider or account. If a session does not
    exist, `log`, `outputs` and `cancel` raise UnknownName, `state` returns None, and `delete` does nothing.

    Attributes:
        name: its name in the table of providers, in records and after `--on`.
        title: its name in messages.
        environment: the environment whose configs/environment/NAME.yaml is packed with the code.
        capabilities: its capabilities.
    """

    name: str
    title: str
    environment: str
    capabilities: Capabilities

    def account(self) -> str:
        """The account and where its login comes from, as text for the user; empty if the provider has no accounts."""
        ...

    def limits(self, terms: Terms) -> Limits:
        """The limits of a session with these terms."""
        ...

    def metered(self, accelerator: str) -> str | None:
        """The kind of hours that a session on this accelerator uses; None if it uses none."""
        ...

    def quotas(self) -> Sequence[Quota]:
        """The quota of each kind of hours; empty without the capability."""
        ...

    def check(self, handle: Handle) -> None:
        """Raise UsageError if a handle does not belong to this provider and account."""
        ...

    def preview(self, request: Request, folder: Path) -> str:
        """Write what would be sent into a folder, without sending it; returns a message."""
        ...

    def plan(self, request: Request) -> Handle:
        """The handle that the session will have. It names everything that `submit` will create. Creates nothing.

        Raises:
            UsageError: the terms require something that does not exist.
        """
        ...

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:
        """Start a session, and return its handle with the facts that are known now.

        Args:
            request: the request.
            handle: the result of `plan`.
            begun: called just before the one request that must not be sent twice. Everything before it may be repeated.
            tell: called with messages about long operations.

        Raises:
            AnswerLost: the session may have started. Call `state` before you start another one.
            LaunchRefused: the provider refused the request. Nothing was started.
            LaunchError: another failure. Nothing was started.
        """
        ...

    def label(self, handle: Handle) -> str:
        """The provider's name of the session."""
        ...

    def address(self, handle: Handle) -> str:
        """The address of the session for the user: a URL or a folder."""
        ...

    def state(self, handle: Handle) -> State | None:
        """The state of the session; None if it does not exist."""
        ...

    def log(
        self,
        handle: Handle,
        since: int = 0,
        *,
        live: bool = False,
        pause: float = 5.0,
        seen: Callable[[State | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """The lines that the session printed, each once.

        Args:
            handle: the session.
            since: number of lines to skip.
            live: continue until the session has ended.
            pause: seconds between two queries.
            seen: called with the session's state after each query.
        """
        ...

    def outputs(self, handle: Handle) -> Iterator[Output]:
        """The files that the session left. Empty while it runs."""
        ...

    def cancel(self, handle: Handle) -> None:
        """End the session and keep its files. A session that has ended is unchanged.

        Raises:
            UsageError: it cannot be ended now.
            LaunchRefused: the provider refused.
        """
        ...

    def clear(self, handle: Handle) -> None:
        """Release the files of a session that was fetched and that no session continues.

        Files on this machine are deleted; a service may keep its files. The session's state and log are kept. A session
        that has not ended, or does not exist, is unchanged.
        """
        ...

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:
        """Delete the session and its files. A running session is ended first.

        Inputs that were created for it are also deleted, unless one of `others` uses them.

        Returns:
            The names of the deleted things; empty if nothing existed.
        """
        ...
