"""Finds a Kaggle login on this machine, in the same order as the official client.

It stores nothing.

Source: kagglesdk 0.1.37 (kaggle_env.py, kaggle_creds.py) and kaggle 2.2.4, `KaggleApi.authenticate`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outlast.errors import UsageError

HOW = (
    "Log in with `kaggle auth login`, or create a token on kaggle.com/settings and save it as ~/.kaggle/access_token "
    "(or ~/.kaggle/kaggle.json) with mode 600."
)


@dataclass(frozen=True)
class Credential:
    """A login that was found.

    Attributes:
        kind: "token", "key" (the legacy pair of user name and key) or "oauth".
        source: where it was found, for messages: a path or the name of a variable.
        user: the account, if the source contains it.
        secret: the token or key; never shown.
    """

    kind: str
    source: str
    user: str = ""
    secret: str = field(default="", repr=False)


def find_credential(variables: Mapping[str, str] | None = None, home: Path | None = None) -> Credential:
    """The login that the official client would use.

    Args:
        variables: environment variables; by default those of this process.
        home: the user's home folder.

    Raises:
        UsageError: there is no login, or its file is malformed.
    """
    variables = os.environ if variables is None else variables
    home = home or Path.home()
    for found in (_token(variables, home), _key(variables, home), _oauth(home)):
        if found:
            return found
    raise UsageError(f"There is no Kaggle login on this machine. {HOW}")


def _token(variables: Mapping[str, str], home: Path) -> Credential | None:
    if "KAGGLE_KERNEL_RUN_TYPE" in variables and "KAGGLE_DATA_PROXY_URL" in variables:
        place = variables.get("KAGGLE_API_V1_TOKEN", "")
        if place and (text := _text(Path(place))):
            return Credential("token", "KAGGLE_API_V1_TOKEN", secret=text)
    given = variables.get("KAGGLE_API_TOKEN", "")
    if given:
        return Credential(
            "token", "KAGGLE_API_TOKEN", secret=_text(Path(given)) or given
        )  # a value, or the path of one
    for name in ("access_token", "access_token.txt"):
        place_of = home / ".kaggle" / name
        if text := _text(place_of):
            return Credential("token", str(place_of), secret=text)
    return None


def _key(variables: Mapping[str, str], home: Path) -> Credential | None:
    if variables.get("KAGGLE_USERNAME") and variables.get("KAGGLE_KEY"):
        return Credential(
            "key", "KAGGLE_USERNAME and KAGGLE_KEY", variables["KAGGLE_USERNAME"], variables["KAGGLE_KEY"]
        )
    for folder in _folders(variables, home):
        place = folder / "kaggle.json"
        if text := _text(place):
            try:
                pair = json.loads(text)
                return Credential("key", str(place), pair["username"], pair["key"])
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"{place} is not a login file of Kaggle; expected a JSON object with username and key. Download "
                    "it again from kaggle.com/settings."
                ) from error
    return None


def _folders(variables: Mapping[str, str], home: Path) -> Iterator[Path]:
    if variables.get("KAGGLE_CONFIG_DIR"):
        yield Path(variables["KAGGLE_CONFIG_DIR"])
    yield home / ".kaggle"
    yield Path(variables.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"


def _oauth(home: Path) -> Credential | None:
    place = home / ".kaggle/credentials.json"
    try:
        found = json.loads(_text(place) or "{}")
    except ValueError:
        return None
    return Credential("oauth", str(place), str(found.get("username", ""))) if found.get("refresh_token") else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
