"""Requests to Google Drive: where the service is, who asks, and what its errors mean."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from outlast.errors import RemoteError, RemoteRefused, UsageError
from outlast.remote.answers import refusal, scrubbed, unreachable
from outlast.remote.base import PIECE
from outlast.remote.driveaccess import Access, request
from outlast.remote.network import NetworkRemote

SERVICE = "https://www.googleapis.com"

_BUSY = {"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded"}
"""Reasons of a status 403 after which Google asks to try again."""


class DriveService(NetworkRemote):
    """What the driver of Drive asks the service with.

    Args:
        root: as NetworkRemote has it; so are prefix, writes and timeout.
        endpoint: URL of the service; None: as OUTLAST_DRIVE_ENDPOINT has it, or Google's.
    """

    def __init__(self, root: str, prefix: str, *, writes: bool, endpoint: str | None, timeout: float) -> None:
        super().__init__(root, prefix, writes=writes, timeout=timeout)
        endpoint = endpoint or os.environ.get("OUTLAST_DRIVE_ENDPOINT")
        if endpoint and urlsplit(endpoint).scheme != "https" and urlsplit(endpoint).hostname != "127.0.0.1":
            raise UsageError("OUTLAST_DRIVE_ENDPOINT is no https:// URL; tokens are sent there.")
        self._endpoint = (endpoint or SERVICE).rstrip("/")
        self._access = Access(f"{self._endpoint}/token" if endpoint else None)

    def _json(self, name: str, method: str, path: str, asked: dict[str, str], **arguments: Any) -> Any:
        with self._call(name, method, path, asked, **arguments) as reply:
            return self._content(name, reply)

    def _content(self, name: str, reply: HTTPResponse) -> Any:
        with self._explained(name):
            return json.loads(reply.read())

    def _call(
        self,
        name: str,
        method: str,
        path: str,
        asked: dict[str, str] | None = None,
        *,
        accept: tuple[int, ...] = (),
        headers: dict[str, str] | None = None,
        data: bytes | Iterable[bytes] | None = None,
    ) -> HTTPResponse:
        """One request; any status that is neither a success nor accepted is an error."""
        url = path if path.startswith(f"{self._endpoint}/") else self._endpoint + path
        url += f"?{urlencode(asked, quote_via=quote)}" if asked else ""
        for last in (False, True):
            with self._explained(name):
                token = self._access.token(self.address(name), self._timeout, anew=last)
                reply = request(
                    method, url, {**(headers or {}), "Authorization": f"Bearer {token}"}, data, self._timeout
                )
            if reply.status != 401 or last or not isinstance(data, bytes | None):
                break
            reply.close()
        if 200 <= reply.status < 300 or reply.status in accept:
            return reply
        with reply:
            raise self._error(name, reply)

    def _error(self, name: str, reply: HTTPResponse) -> RemoteError:
        said, reason, status = reply.reason or "", "", reply.status
        with contextlib.suppress(OSError, HTTPException, ValueError, LookupError, TypeError):
            about = json.loads(reply.read(PIECE))["error"]
            said = str(about["message"])
            reason = str(about["errors"][0]["reason"])
        if status == 404 and "files/" in reply.url and "upload" not in reply.url:
            return self._missing(name, scrubbed(said))
        if status == 403 and reason in _BUSY:
            status = 429
        found = refusal(self.address(name), status, said, reply.headers.get("Retry-After"))
        advice = {
            404: " With the scope drive.file only folders that this OAuth client made, or drive://root, are seen.",
            403: " The quota of this account is used up." if reason == "storageQuotaExceeded" else "",
        }.get(status, "")
        return RemoteRefused(f"{found}{advice}", found.reason) if advice else found

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Errors of the connection as those of a remote."""
        try:
            yield
        except (OSError, HTTPException, ValueError) as error:  # a reply that is no JSON was cut
            raise unreachable(self.address(name), getattr(error, "reason", None) or error) from None
