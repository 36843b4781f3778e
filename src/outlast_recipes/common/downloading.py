"""Downloads the files of a public data set, each with its known SHA-256.

Only https is used, or http on this machine (127.0.0.1). Redirects are refused: the file is where its address says.
Proxies and certificates are those of the environment. A file appears under its name when all of it is there and its
hash is the known one; files that are there already with their hash are not fetched again.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

import outlast

TIMEOUT = 30.0
"""Seconds in which something of a reply has to arrive."""
TRIES = 3

_PIECE = 64 * 1024
_PASSING = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        path: below the data set's address, and below the folder.
        size: bytes.
        sha256: of its content, hexadecimal.
    """

    path: str
    size: int
    sha256: str


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def download(
    address: str,
    files: Sequence[File],
    folder: Path,
    tell: Callable[[int, int], None],
    *,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Fetch the files which the folder lacks; returns their number.

    Args:
        address: of the data set; `https://HOST/PATH`, or `http://127.0.0.1:PORT/PATH`.
        files: names, sizes and hashes.
        folder: where they are put, with the folders of their paths. It is made if it does not exist.
        tell: hears how many bytes of how many are there.
        pause: waits so many seconds between tries.

    Raises:
        outlast.DataError: the address is another one; a file of the folder has another content, which is not
            overwritten; a server does not answer, refuses, or sends another content. What was fetched whole stays.
    """
    opener = _opener(local=_is_local(address))
    total, done, fetched = sum(file.size for file in files), 0, 0
    for file in files:
        target = folder / _inside(file.path)
        if target.is_symlink() or target.exists():
            _check_content(target, file)
        else:
            _fetch(opener, f"{address.rstrip('/')}/{quote(file.path)}", file, target, pause)
            fetched += 1
        done += file.size
        tell(done, total)
    return fetched


def _opener(*, local: bool) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [
        _NoRedirects(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    ]
    if local:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _fetch(
    opener: urllib.request.OpenerDirector, url: str, file: File, target: Path, pause: Callable[[float], None]
) -> None:
    content = _content(opener, url, file, pause)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as place:
            whole = Path(place) / "file"
            whole.write_bytes(content)
            whole.replace(target)
    except OSError as error:
        raise outlast.DataError(
            f"{target} cannot be written: {error.strerror or error}. Free space, or name another folder."
        ) from error


def _content(opener: urllib.request.OpenerDirector, url: str, file: File, pause: Callable[[float], None]) -> bytearray:
    """The bytes of a file, with its hash; of several tries."""
    for number in range(1, TRIES + 1):
        try:
            return _once(opener, url, file)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{error.code} {error.reason}"
            if error.code not in _PASSING:
                raise outlast.DataError(
                    f"{url} was refused: {reason}. Check the address; --from names another one."
                ) from error
        except (OSError, http.client.HTTPException) as error:  # urllib's errors and broken connections
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        if number < TRIES:
            pause(2.0**number)
    raise outlast.DataError(
        f"{url} was not received in {TRIES} tries: {reason}. Run the same command again; files that are there stay."
    )


def _once(opener: urllib.request.OpenerDirector, url: str, file: File) -> bytearray:
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})  # noqa: S310 - https, or 127.0.0.1
    content = bytearray()
    with opener.open(request, timeout=TIMEOUT) as reply:
        while len(content) <= file.size and (piece := reply.read(min(_PIECE, file.size + 1 - len(content)))):
            content += piece
    if len(content) < file.size:
        raise ConnectionError(f"{len(content)} of {file.size} bytes came")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        size = f"more than {file.size}" if len(content) > file.size else f"{len(content)}"
        raise outlast.DataError(
            f"{url} has another content: {size} bytes with SHA-256 {found[:12]}; expected {file.size} bytes with "
            f"{file.sha256[:12]}. It was not kept. Either the data set has changed, or something between here and the "
            "server changes it."
        )
    return content


def _check_content(target: Path, file: File) -> None:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != file.size:
        found = "is no file of this size"
    elif hashlib.sha256(target.read_bytes()).hexdigest() != file.sha256:
        found = "has another content"
    else:
        return
    raise outlast.DataError(
        f"{target} {found}; expected {file.size} bytes with SHA-256 {file.sha256[:12]}. It was not overwritten. Remove "
        "it, or name another folder."
    )


def _is_local(address: str) -> bool:
    """Whether an address is on this machine; raises DataError if it is none that is used."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    else:
        local = parts.scheme == "http" and host == "127.0.0.1"
        if host and (parts.scheme == "https" or local) and "@" not in parts.netloc and not parts.query + parts.fragment:
            return local
    raise outlast.DataError(
        f"The address of the data is {address.rpartition('@')[2]!r}; expected https://HOST/PATH without a name or "
        "password, or http://127.0.0.1:PORT/PATH."
    )


def _inside(path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise outlast.DataError(f"The path {path!r} leaves the folder of the data; expected one below it.")
    return Path(*parts.parts)
