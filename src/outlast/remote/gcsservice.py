"""Requests to Google Cloud Storage: where the service is, who asks, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any
from urllib.parse import quote

import google.auth
import google.auth.exceptions
import requests
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter

from outlast.errors import RemoteRefused
from outlast.remote.answers import refusal, scrubbed, unreachable
from outlast.remote.base import PIECE
from outlast.remote.network import NetworkRemote

SERVICE = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


class GcsService(NetworkRemote):
    """What the driver of Cloud Storage asks the service with.

    Args:
        bucket: its name.
        prefix: as NetworkRemote has it; so are writes and timeout.
        endpoint: URL of the service.
        anonymous: without credentials.
    """

    def __init__(
        self, bucket: str, prefix: str, *, writes: bool, endpoint: str, anonymous: bool, timeout: float
    ) -> None:
        super().__init__(f"gs://{bucket}/", prefix, writes=writes, timeout=timeout)
        self._endpoint, self._anonymous = endpoint, anonymous
        self._objects = f"/storage/v1/b/{quote(bucket, safe='')}/o"

    @cached_property
    def _session(self) -> requests.Session:
        session = requests.Session()
        if not self._anonymous:
            with self._explained(""):
                credentials, _ = google.auth.default(scopes=[SCOPE])
            session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        session.mount(self._endpoint, _LargeBlocks())
        return session

    def close(self) -> None:
        """Close the connections."""
        session = self.__dict__.pop("_session", None)
        if session is not None:
            session.close()

    def _call(
        self,
        name: str,
        method: str,
        path: str,
        asked: dict[str, str] | None = None,
        *,
        accept: tuple[int, ...] = (),
        headers: dict[str, str] | None = None,
        data: Any = None,
        stream: bool = False,
    ) -> requests.Response:
        """One request about one object; any status that is neither a success nor accepted is an error."""
        url = path if path.startswith(f"{self._endpoint}/") else self._endpoint + path
        with self._explained(name):
            reply: requests.Response = self._session.request(
                method,
                url,
                params=asked,
                data=data,
                headers=headers,
                timeout=(min(self._timeout, 10.0), self._timeout),
                stream=stream,
                allow_redirects=False,
            )
        if 200 <= reply.status_code < 300 or reply.status_code in accept:
            return reply
        try:
            said = str(reply.json()["error"]["message"])
        except (requests.RequestException, ValueError, KeyError, TypeError):
            said = reply.reason or ""
        reply.close()
        if reply.status_code == 412:
            raise self._changed(name)
        if reply.status_code == 404 and path.startswith(f"{self._objects}/"):
            raise self._missing(name, scrubbed(said))
        raise refusal(self.address(name), reply.status_code, said, reply.headers.get("Retry-After"))

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Errors of the client as those of a remote."""
        try:
            yield
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise RemoteRefused(
                f"{self.address(name)}: no credentials of Google were found. Run `gcloud auth application-default "
                "login`, or set GOOGLE_APPLICATION_CREDENTIALS to a file that has them.",
                scrubbed(str(error)),
            ) from None
        except (requests.RequestException, google.auth.exceptions.TransportError) as error:
            raise unreachable(self.address(name), error) from None
        except google.auth.exceptions.GoogleAuthError as error:
            if getattr(error, "retryable", False):
                raise unreachable(self.address(name), error) from None
            reason = scrubbed(str(error.args[0] if error.args else error)) or type(error).__name__
            raise RemoteRefused(f"{self.address(name)}: Google refused the credentials: {reason}.", reason) from None


class _LargeBlocks(HTTPAdapter):
    """Sends a file in larger pieces than the 16 KiB of urllib3, between each two of which Python takes its lock."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, blocksize=PIECE, **options)
