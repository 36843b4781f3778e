"""Requests to the Hugging Face Hub: who asks, for how long, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx2
from huggingface_hub import HfApi, errors
from huggingface_hub.utils import build_hf_headers, get_session, parse_ratelimit_headers

from outlast.errors import RemoteError, RemoteRefused
from outlast.remote import retry
from outlast.remote.answers import refusal, scrubbed, unreachable
from outlast.remote.network import NetworkRemote

_REPEATS = 5
"""How often the client itself sends a part of a file again."""


class HubService(NetworkRemote):
    """What the driver of the Hub asks the service with.

    Args:
        kind: "model" or "dataset".
        repository: `OWNER/NAME`.
        prefix: as NetworkRemote has it; so are writes and timeout.
        endpoint: URL of the Hub; None: HF_ENDPOINT, or huggingface.co.
    """

    def __init__(
        self, kind: str, repository: str, prefix: str, *, writes: bool, endpoint: str | None, timeout: float
    ) -> None:
        longest = retry.longest(timeout) + _REPEATS * timeout
        super().__init__(f"hf://{kind}s/{repository}/", prefix, writes=writes, timeout=timeout, longest=longest)
        self._kind, self._repository = kind, repository
        self._api = HfApi(endpoint=endpoint, library_name="outlast")
        self._bounds = httpx2.Timeout(timeout, connect=min(timeout, 10.0))

    def _json(self, name: str, method: str, path: str, **arguments: Any) -> Any:
        return content(self._call(name, method, path, **arguments))

    def _call(self, name: str, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """One request; the client would repeat it by rules of its own."""
        with self._explained(name):
            reply: httpx2.Response = get_session().request(
                method, self._api.endpoint + path, headers=self._headers(), **self._sent(), **arguments
            )
        if reply.status_code == 200:
            return reply
        raise self._error(name, reply)

    def _sent(self) -> dict[str, Any]:
        return {"timeout": self._bounds, "follow_redirects": True}

    def _headers(self, more: dict[str, str] | None = None) -> dict[str, str]:
        return {**build_hf_headers(library_name="outlast"), **(more or {})}

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Errors of the client as those of a remote."""
        try:
            yield
        except errors.HfHubHTTPError as error:
            raise self._error(name, error.response) from None
        except httpx2.RequestError as error:
            raise unreachable(self.address(name), error) from None
        except (ValueError, RuntimeError, OSError, httpx2.HTTPError) as error:
            cause = error.__cause__
            if isinstance(cause, errors.HfHubHTTPError):
                raise self._error(name, cause.response) from None
            if isinstance(cause, httpx2.RequestError):
                raise unreachable(self.address(name), cause) from None
            reason = scrubbed(f"{error} {cause or ''}")
            raise RemoteRefused(f"{self.address(name)}: {reason}. Nothing was changed there.", reason) from None

    def _error(self, name: str, reply: httpx2.Response) -> RemoteError:
        code, said = reply.headers.get("X-Error-Code", ""), reply.headers.get("X-Error-Message", "")
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, httpx2.StreamError):
            found = reply.json()["error"]
            said = str(found["message"] if isinstance(found, dict) else found)
        if reply.status_code == 404 and code == "EntryNotFound":
            return self._missing(name, scrubbed(said))
        if code == "RepoNotFound":
            reason = scrubbed(said)
            return RemoteRefused(
                f"There is no repository {self._root}, or the token may not see it: {reason} (status "
                f"{reply.status_code}). Make it with `hf repos create {self._repository} --type {self._kind} "
                "--private`, or log in with `hf auth login` or HF_TOKEN.",
                reason,
            )
        after = reply.headers.get("Retry-After")
        limit = parse_ratelimit_headers(reply.headers)
        if after is None and reply.status_code == 429 and limit is not None and limit.remaining == 0:
            after = str(limit.reset_in_seconds)
        return refusal(self.address(name), reply.status_code, said or reply.reason_phrase, after)


def content(reply: httpx2.Response) -> Any:
    """The JSON of a reply. Raises RemoteUnavailable when it is none."""
    try:
        return reply.json()
    except ValueError as error:
        raise unreachable(str(reply.url.path), error) from None
