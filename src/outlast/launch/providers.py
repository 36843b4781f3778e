"""Looks up a provider by its name in the table."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from outlast.config.words import nearest
from outlast.errors import UnknownName
from outlast.launch.table import PROVIDERS, VERBS
from outlast.terminal import shortened

if TYPE_CHECKING:
    from outlast.launch.options import Option
    from outlast.launch.provider import Provider
    from outlast.launch.records import LaunchRecord
    from outlast.launch.verbs import Verb


NAMES = tuple(PROVIDERS)

PATIENCE = 600.0
"""Seconds for which a query is repeated while the provider does not answer."""


class Module(Protocol):
    """The attributes of a provider's module."""

    OPTIONS: Sequence[Option]

    def connect(self, runs: Path, *, user: str | None = None, patience: float = PATIENCE) -> Provider:
        """The provider for the runs in a folder. It is not queried before its first use.

        Args:
            runs: the folder of the run folders.
            user: the expected account. A login of another account is refused.
            patience: seconds for which a query is repeated.
        """
        ...


def module(name: str) -> Module:
    """The module of a provider.

    Raises:
        UnknownName: the table has no provider with this name.
    """
    if name not in PROVIDERS:
        raise UnknownName(
            f"There is no provider {shortened(repr(name))}; expected one of "
            f"{', '.join(PROVIDERS)}.{nearest(name, PROVIDERS)}"
        )
    return cast("Module", importlib.import_module(f"{PROVIDERS[name]}.provider"))


def connect(name: str, runs: Path, *, user: str | None = None, patience: float = PATIENCE) -> Provider:
    """A provider by its name; see `Module.connect`."""
    return module(name).connect(runs, user=user, patience=patience)


def of(record: LaunchRecord, patience: float = PATIENCE) -> Provider:
    """The provider of a launch.

    Raises:
        UsageError: the launch belongs to another run or account, or its handle to another provider.
    """
    provider = connect(record.provider, record.folder.path.parent, patience=patience)
    record.check_own(provider)
    return provider


def verbs(name: str) -> Sequence[Verb]:
    """The verbs that only this provider has."""
    if name not in VERBS:
        return ()
    found: Sequence[Verb] = importlib.import_module(f"{PROVIDERS[name]}.verbs").VERBS
    return found
