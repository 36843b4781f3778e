"""Where a file is downloaded from: its address, and those to which a server leads.

GitHub, Zenodo and Hugging Face lead to other hosts. Each of these addresses has to be as good as the first one: https
stays https, and a server elsewhere never leads to this machine. Each is sent the request for the file and nothing else,
so that no host learns what was meant for another.
"""

from __future__ import annotations

import http.client
import ssl
import string
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit

import outlast

TIMEOUT = 30.0
"""Seconds in which something of a reply has to arrive."""
REDIRECTS = 5
"""Times that servers may lead elsewhere."""

_ELSEWHERE = (301, 302, 303, 307, 308)
_LONGEST = 200  # characters of an address in a message


class Source:
    """One file at an address.

    Args:
        url: the address, which `check` accepts.

    Attributes:
        url: the address.
    """

    def __init__(self, url: str) -> None:
        self.url, self._at = url, url
        handlers = (_NoRedirects(), urllib.request.HTTPSHandler(context=ssl.create_default_context()))
        self._openers = {
            "https": urllib.request.build_opener(*handlers),
            "here": urllib.request.build_opener(*handlers, urllib.request.ProxyHandler({})),
        }

    def __str__(self) -> str:
        """The address, and where it led the last time, for a message; without a query, which may be a key."""
        return self.url if self._at == self.url else f"{self.url}, which leads to {_shown(self._at)},"

    def open(self, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Ask for the file, wherever it leads.

        Raises:
            outlast.DataError: it leads to an address that is not used, or too often elsewhere.
            urllib.error.HTTPError: the server at the end refuses.
            OSError, http.client.HTTPException: there is no reply.
        """
        self._at = self.url
        for _ in range(REDIRECTS + 1):
            request = urllib.request.Request(self._at, headers=dict(headers))  # noqa: S310 - https, or 127.0.0.1
            opener = self._openers[kind(self._at) or "https"]
            try:
                answer: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT)
            except urllib.error.HTTPError as error:
                place = error.headers.get("Location")
                if error.code not in _ELSEWHERE or not place:
                    raise
                error.close()
                self._follow(place)
            else:
                return answer
        raise outlast.DataError(
            f"{self.url} leads elsewhere more than {REDIRECTS} times, at last to {_shown(self._at)}. Nothing was kept. "
            "Give the address that the file has in the end."
        )

    def _follow(self, place: str) -> None:
        # Some servers send spaces and other characters as they are, as Latin-1.
        to = quote(place, encoding="iso-8859-1", safe=string.punctuation)
        try:
            to = urljoin(self._at, to)
            found = kind(to)
        except ValueError:
            found = None
        if found == "https" or (found == "here" and kind(self.url) == "here"):
            self._at = to
            return
        raise outlast.DataError(
            f"{self} leads to {_shown(to)!r}; expected another https address, without a name or password. It was not "
            "followed. Give the address that the file has in the end."
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would follow to http, carry along what is meant for one host, and raise for a place that is none."""

    def http_error_302(self, *_: object) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]


def kind(address: str) -> Literal["https", "here"] | None:
    """Whether an address is https, or http on this machine; None for any other one."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
        if not host or "@" in parts.netloc:
            return None
        host.encode("idna")  # as the socket does it, which raises no OSError
    except ValueError:
        return None
    if parts.scheme == "https":
        return "https"
    return "here" if parts.scheme == "http" and host == "127.0.0.1" else None


def check(address: str) -> None:
    """Raise outlast.DataError if an address is none that is used."""
    if kind(address) is None or urlsplit(address).query or urlsplit(address).fragment:
        raise outlast.DataError(
            f"The address of the data is {address.rpartition('@')[2]!r}; expected https://HOST/PATH without a name, a "
            "password or a query (?...), or http://127.0.0.1:PORT/PATH."
        )


def _shown(address: str) -> str:
    """An address without what may be a secret: name, password and query."""
    found = address.partition("?")[0].partition("#")[0]
    scheme, _, rest = found.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"[:_LONGEST]
