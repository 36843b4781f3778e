"""Access to Google Drive: an OAuth client and its refresh token, which are exchanged for access tokens of an hour.

    OUTLAST_DRIVE_CLIENT_ID, OUTLAST_DRIVE_CLIENT_SECRET, OUTLAST_DRIVE_REFRESH_TOKEN
    GDRIVE_USER_CREDENTIALS, JSON as the file, as sessions on Kaggle get it
    OUTLAST_DRIVE_CREDENTIALS=FILE, or ~/.config/outlast/drive.json

The file is JSON with `client_id`, `client_secret` and `refresh_token`, as `gcloud` writes it, and only its owner may
read it.
"""

from __future__ import annotations

import json
import os
import ssl
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from functools import cache
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlencode

from outlast.errors import RemoteRefused
from outlast.folder import plain
from outlast.remote.answers import refusal

TOKENS = "https://oauth2.googleapis.com/token"

_NAMES = ("client_id", "client_secret", "refresh_token")
_VARIABLE = "GDRIVE_USER_CREDENTIALS"
_EARLY = 60.0
_LARGEST = 64 * 1024


class Access:
    """Access tokens of one OAuth client, of which each is used until shortly before its end.

    Args:
        url: where tokens are asked for; None: at Google.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url, self._lock = url or TOKENS, threading.Lock()
        self._token, self._until = "", 0.0

    def token(self, address: str, timeout: float, *, anew: bool = False) -> str:
        """A token that is valid now.

        Args:
            address: of what it is for, for messages.
            timeout: seconds in which something of the reply has to arrive.
            anew: whether the last one was refused.

        Raises:
            RemoteRefused: there are no credentials, they cannot be used, or Google refused them.
            RemoteUnavailable: Google cannot answer now.
            OSError, http.client.HTTPException: it was not reached.
        """
        with self._lock:
            if anew or time.monotonic() >= self._until:
                self._token, seconds = self._exchange(address, timeout)
                self._until = time.monotonic() + seconds - _EARLY
            return self._token

    def _exchange(self, address: str, timeout: float) -> tuple[str, float]:
        asked = {"grant_type": "refresh_token", **credentials(address)}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with request("POST", self._url, headers, urlencode(asked).encode(), timeout) as reply:
            body = reply.read(_LARGEST)
            try:
                about = json.loads(body)
                if reply.status == 200:
                    return str(about["access_token"]), float(about["expires_in"])
                said = f"{about['error']}: {about.get('error_description', '')}"
            except (ValueError, LookupError, TypeError):
                said = reply.reason or ""
            if reply.status in (400, 401):
                raise RemoteRefused(
                    f"{address}: Google refused the refresh token or its client: {said} (status {reply.status}). A "
                    "client whose consent screen is in testing loses its tokens after 7 days: publish it, and log in "
                    "again. Nothing was changed there.",
                    said,
                )
            raise refusal(address, reply.status, said, reply.headers.get("Retry-After"))


def credentials(address: str) -> dict[str, str]:
    """The OAuth client and its refresh token, from the environment or a file.

    Raises:
        RemoteRefused: there are none, or the file is none that only its owner can read.
    """
    found = {name: os.environ.get(f"OUTLAST_DRIVE_{name.upper()}", "") for name in _NAMES}
    if all(found.values()):
        return found
    if text := os.environ.get(_VARIABLE):
        return _read(text, f"{_VARIABLE} has")
    named = os.environ.get("OUTLAST_DRIVE_CREDENTIALS")
    path = Path(named).expanduser() if named else Path.home() / ".config/outlast/drive.json"
    try:
        with os.fdopen(plain.open_plain(path), "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise RemoteRefused(f"{path} can be read by others: chmod 600 {path}. It was not used.")
            return _read(opened.read(_LARGEST), f"{path} has")
    except FileNotFoundError:
        raise RemoteRefused(
            f"{address}: there are no credentials of Google Drive. Set OUTLAST_DRIVE_CLIENT_ID, "
            f"OUTLAST_DRIVE_CLIENT_SECRET and OUTLAST_DRIVE_REFRESH_TOKEN, or write them into {path}."
        ) from None
    except OSError as error:
        raise RemoteRefused(f"{path} cannot be read: {error.strerror}.") from None


def _read(text: str | bytes, where: str) -> dict[str, str]:
    try:
        about = json.loads(text)
        return {name: str(about[name]) for name in _NAMES}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RemoteRefused(
            f"{where} no credentials: {type(error).__name__}. Expected JSON with {', '.join(_NAMES)}."
        ) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token with it."""

    def redirect_request(self, *_: object) -> None:
        return None


class _Statuses(urllib.request.HTTPErrorProcessor):
    """Every status is a reply."""

    def http_response(self, request: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:  # noqa: ARG002
        return response

    https_response = http_response


def request(
    method: str, url: str, headers: dict[str, str], data: bytes | Iterable[bytes] | None, timeout: float
) -> HTTPResponse:
    """One request, whose reply may have any status. Proxies are those of the environment.

    Raises:
        OSError, http.client.HTTPException: there is no reply.
    """
    asked = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - https, or 127.0.0.1
    reply: HTTPResponse = _opener().open(asked, timeout=timeout)
    return reply


@cache
def _opener() -> urllib.request.OpenerDirector:
    """With the certificates of the system, which take some hundredths of a second to read."""
    https = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    return urllib.request.build_opener(_NoRedirects, _Statuses, https)
