"""Downloads the files of a public data set, each with its known SHA-256.

Only https is used, or http on this machine (127.0.0.1); a server may lead elsewhere (`outlast_recipes.common.source`).
Proxies and certificates are those of the environment. A file appears under its name when all of it is there and its
hash is the known one; files that are there already with their hash are not fetched again. A download that was broken
off is continued where it stopped (`outlast_recipes.common.partial`), by this command or by the next one.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import outlast
from outlast_recipes.common import source
from outlast_recipes.common.partial import Partial, Reply
from outlast_recipes.common.source import Source

TRIES = 3
"""Tries one after the other that bring nothing, after which it ends."""
MOST = 10**11
"""Bytes at most of a file whose size is not known."""

_PIECE = 64 * 1024
_PASSING = (408, 429, 500, 502, 503, 504)
_CONTINUED, _NOTHING_MORE = 206, 416


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        path: below the data set's address, and below the folder.
        size: bytes; None if it is not known before.
        sha256: of its content, hexadecimal.
        most: bytes at most, if the size is not known.
    """

    path: str
    size: int | None
    sha256: str
    most: int = MOST


def download(
    address: str,
    files: Sequence[File],
    folder: Path,
    tell: Callable[[int, int], None],
    *,
    pause: Callable[[float], None] = time.sleep,
    most: int = MOST,
) -> int:
    """Fetch the files which the folder lacks; returns their number.

    Args:
        address: of the data set; `https://HOST/PATH`, or `http://127.0.0.1:PORT/PATH`.
        files: names, sizes and hashes.
        folder: where they are put, with the folders of their paths. It is made if it does not exist.
        tell: hears how many bytes of how many are there.
        pause: waits so many seconds between tries.
        most: bytes at most of a file whose size is not known.

    Raises:
        outlast.DataError: the address is another one; a file of the folder has another content, which is not
            overwritten; a server does not answer, refuses, or sends another content. What was fetched whole stays,
            and so does a part that can be continued.
    """
    source.check(address)
    total, done, fetched, told = sum(file.size or 0 for file in files), 0, 0, (-1, -1)

    def heard(size: int, whole: int) -> None:
        nonlocal told
        now = (done + size, max(total, done + whole))
        if now != told:
            told = now
            tell(*now)

    for file in files:
        target = folder / _inside(file.path)
        if target.is_symlink() or target.exists():
            size = _check_content(target, file)
        else:
            file = replace(file, most=most)
            size = _fetch(Source(f"{address.rstrip('/')}/{quote(file.path)}"), file, target, pause, heard)
            fetched += 1
        heard(size, size)
        done += size
    return fetched


def _fetch(
    place: Source,
    file: File,
    target: Path,
    pause: Callable[[float], None],
    heard: Callable[[int, int], None],
) -> int:
    """Fetch one file, in as many tries as bring something; returns its size."""
    try:
        with Partial(target, place.url, file.sha256) as part:
            _check_room(part, file)
            _receive(place, file, part, pause, heard)
            return part.finish()
    except OSError as error:
        raise outlast.DataError(
            f"{target} cannot be written: {error.strerror or error}. Free space, or name another folder."
        ) from error


def _receive(
    place: Source,
    file: File,
    part: Partial,
    pause: Callable[[float], None],
    heard: Callable[[int, int], None],
    *,
    anew: bool = False,
) -> None:
    """Receive a file into its part, until its hash is the known one; `anew`: nothing else is tried after this."""
    empty = 0  # tries that brought nothing
    while True:
        before = part.size
        try:
            _once(place, file, part, heard)
            break
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{error.code} {_words(error.reason)}"
            if error.code == _NOTHING_MORE and part.size:
                break  # all of it is there, as the hash will say
            if error.code not in _PASSING:
                raise outlast.DataError(
                    f"{place} was refused: {reason}. Check the address; --from names another one."
                ) from error
        except (OSError, http.client.HTTPException) as error:  # urllib's errors and broken connections
            reason = _words(getattr(error, "reason", "") or error or type(error).__name__)
        empty = 0 if part.size - before >= _PIECE else empty + 1
        if empty == TRIES:
            raise outlast.DataError(
                f"{place} was not received in {TRIES} tries: {reason}. Run the same command again; files that are "
                "there stay, and what came of this one is continued."
            )
        pause(2.0**empty)
    found = part.digest()
    if found == file.sha256:
        return
    pieced, size = part.pieced, part.size
    part.restart()
    if pieced and not anew:  # its pieces may be of different files
        _receive(place, file, part, pause, heard, anew=True)
        return
    expected = "" if file.size is None else f"{file.size} bytes with "
    shown = f"more than {file.size}" if file.size is not None and size > file.size else f"{size}"
    raise outlast.DataError(
        f"{place} has another content: {shown} bytes with SHA-256 {found[:12]}; expected {expected}"
        f"{file.sha256[:12]}. It was not kept. Either the data set has changed, or something between here and the "
        "server changes it."
    )


def _once(place: Source, file: File, part: Partial, heard: Callable[[int, int], None]) -> None:
    """One request: the rest of the file if the server continues it, otherwise all of it."""
    headers = {"Accept-Encoding": "identity", **part.headers()}
    most = file.most if file.size is None else file.size
    with place.open(headers) as answer:
        reply = Reply.of(answer.headers, continued=answer.status == _CONTINUED)
        if "Range" in headers and not reply.continues(part.size):
            part.restart()  # it sends all of it, or something else than was asked for
            if answer.status == _CONTINUED:
                raise ConnectionError("the server sent another range than it was asked for")
        part.note(reply)
        whole = most if file.size is not None else reply.whole
        while part.size <= most and (piece := answer.read(min(_PIECE, most + 1 - part.size))):
            part.write(piece)
            heard(part.size, max(part.size, whole or 0))
    if part.size > most and file.size is None:
        part.restart()
        raise outlast.DataError(
            f"{place} has more than {most:,} bytes, and was not kept. If that is right, raise --most."
        )
    if whole is not None and part.size < whole:
        raise ConnectionError(f"{part.size} of {whole} bytes came")


def _words(reason: object) -> str:
    """What a server or a library said, on one line and not longer than a sentence."""
    return " ".join(str(reason).split())[:200]


def _check_room(part: Partial, file: File) -> None:
    part.open()
    needed = (file.size or 0) - part.size
    free = shutil.disk_usage(part.folder).free
    if needed > free:
        raise outlast.DataError(
            f"{part.target} needs {needed} more bytes, and {part.folder} has {free} free. Free space, or name another "
            "folder."
        )


def _check_content(target: Path, file: File) -> int:
    """Raise DataError if the file that is there is not the one that is expected; returns its size."""
    known = file.size is None or (not target.is_symlink() and target.is_file() and target.stat().st_size == file.size)
    if target.is_symlink() or not target.is_file() or not known:
        found = "is no file of this size"
    elif _digest(target) != file.sha256:
        found = "has another content"
    else:
        return target.stat().st_size
    expected = "a file" if file.size is None else f"{file.size} bytes"
    raise outlast.DataError(
        f"{target} {found}; expected {expected} with SHA-256 {file.sha256[:12]}. It was not overwritten. Remove it, or "
        "name another folder."
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise outlast.DataError(f"The path {path!r} leaves the folder of the data; expected one below it.")
    return Path(*parts.parts)
