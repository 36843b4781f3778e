"""Addresses of remotes: `s3://bucket/prefix`, a folder's path. One table names the driver of each scheme.

An address is written down: in configurations, in records, on command lines. So it holds no password and no token; each
service's own client finds its credentials where it always does.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from outlast.errors import UnknownName, UsageError
from outlast.remote.base import Remote
from outlast.remote.folder import FolderRemote


@dataclass(frozen=True)
class Driver:
    """The driver of a scheme.

    Attributes:
        module: of `outlast.remote`. Its `open_at(location: SplitResult, options: dict[str, str], *, writes: bool)`
            returns the remote; it is imported when it is used.
        example: an address.
        extra: of the package `outlast`, that installs what the module imports.
        user: whether an address may begin with `NAME@`.
        options: names of what may follow a "?", as `name=value&name=value`.
        login: environment variables with which another machine logs in; empty when none hold all that it needs.
        login_at: where the login is, for messages; by default these variables.
    """

    module: str
    example: str
    extra: str = ""
    user: bool = False
    options: tuple[str, ...] = ()
    login: tuple[str, ...] = ()
    login_at: str = ""


DRIVERS = {
    "file": Driver("folder", "file:///FOLDER"),
    "s3": Driver(
        "s3", "s3://BUCKET/PREFIX", "s3", options=("endpoint", "region", "path_style"),
        login=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ),
    "gs": Driver("gcs", "gs://BUCKET/PREFIX", "gcs", login_at="the file of GOOGLE_APPLICATION_CREDENTIALS"),
    "sftp": Driver("sftp", "sftp://USER@HOST/FOLDER", "sftp", user=True, login_at="the keys of ~/.ssh"),
    "drive": Driver("drive", "drive://FOLDER_ID/PREFIX", login=("GDRIVE_USER_CREDENTIALS",)),
    "hf": Driver("huggingface", "hf://models/OWNER/NAME/PREFIX", "hf", login=("HF_TOKEN",)),
}  # fmt: skip
"""By scheme. A driver's row is here, and its case in tests/conformance/test_remotes.py."""


def open_remote(address: str, *, writes: bool = True) -> Remote:
    """The remote at an address. Nothing is asked of a service yet.

    Args:
        address: a path of a folder, or a URL with a scheme of DRIVERS. Everything but a `file://` URL is taken as it is
            written, without percent-decoding.
        writes: False for a remote that is only read.

    Raises:
        UsageError: it is no address of a remote, it has a password in it, or the driver's library is not installed.
    """
    if "://" not in address:
        folder = FolderRemote(Path(_checked_folder(address)).expanduser(), writes=writes)
        folder.typed = address
        return folder
    location, driver = _parsed(address)
    options = _options(location, driver)
    try:
        module = importlib.import_module(f"outlast.remote.{driver.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "outlast":
            raise
        raise UsageError(
            f"{location.scheme}:// needs {error.name}, which is not installed: pip install 'outlast[{driver.extra}]'"
        ) from error
    remote: Remote = module.open_at(location, options, writes=writes)
    remote.typed = address
    return remote


def open_existing(address: str, *, writes: bool = True) -> Remote:
    """As `open_remote`, for what must be there: a folder that does not exist is an error, and no empty remote.

    Raises:
        UnknownName: there is no such folder.
    """
    remote = open_remote(address, writes=writes)
    if isinstance(remote, FolderRemote) and not remote.root.exists():
        raise UnknownName(f"There is no folder {remote.root}.")
    return remote


def driver_of(address: str) -> Driver:
    """The driver of a URL, without its library.

    Raises:
        UsageError: it is no URL of a remote, or it has a password in it.
    """
    location, driver = _parsed(address)
    _options(location, driver)
    return driver


def _checked_folder(address: str) -> str:
    """The path of a folder, unless it is a URL that lacks something: nobody means a folder of such a name."""
    if not address.strip() or any(ord(char) < 32 for char in address):
        raise UsageError(f"{address[:40]!r} is no address of a remote; expected a folder's path or a URL.")
    first, colon, _ = address.partition("/")[0].partition(":")
    if not colon or (len(first) == 1 and first.isalpha()):  # C:/ of Windows
        return address
    expected = DRIVERS["sftp" if "@" in first or first.lower() not in DRIVERS else first.lower()].example
    raise UsageError(
        f"{address[:80]!r} is no URL, as '://' is missing, and begins like one; expected {expected}. For a folder of "
        f"that name, write ./{address[:80]}"
    )


def _parsed(address: str) -> tuple[SplitResult, Driver]:
    scheme, _, rest = address.partition("://")
    location = SplitResult(scheme.lower(), *urlsplit(f"//{rest}", allow_fragments=False)[1:])
    driver = DRIVERS.get(location.scheme) or _unknown(location.scheme)
    user, at, _ = location.netloc.rpartition("@")
    if at and (":" in user or not driver.user):
        raise UsageError(
            f"An address of {location.scheme}:// has {'a password' if ':' in user else 'something'} before its '@'; it "
            f"is not shown here. Addresses are written down, so none may hold a secret: expected {driver.example}."
        )
    return location, driver


def _options(location: SplitResult, driver: Driver) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in location.query.split("&") if location.query else []:
        name, _, value = each.partition("=")
        if name not in driver.options or name in found or not value:
            expected = ", ".join(f"{known}=VALUE" for known in driver.options) or "no options"
            raise UsageError(
                f"An address of {location.scheme}:// has an option that cannot be used after its '?'; it is not shown "
                f"here. Expected each at most once, and of these: {expected}."
            )
        found[name] = value
    return found


def _unknown(scheme: str) -> Driver:
    import difflib  # for a mistake only

    near = difflib.get_close_matches(scheme, DRIVERS, 1)
    meant = f" Did you mean '{near[0]}://'?" if near else ""
    examples = ", ".join(driver.example for driver in DRIVERS.values())
    raise UsageError(f"{scheme[:40]!r} is no scheme of a remote.{meant} Expected a folder's path or one of {examples}.")
