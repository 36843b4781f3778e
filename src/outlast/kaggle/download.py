"""Downloads one file from a signed address."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def download(url: str, target: Path, *, most: int = sys.maxsize, heard: Callable[[], None] = lambda: None) -> None:
    """Write what an address gives into a file.

    Args:
        url: the address.
        target: the file; what it had is replaced.
        most: bytes that are written at most, of what may be more.
        heard: is called for each piece that comes.

    Raises:
        OSError: it does not come whole; requests' errors are of this kind.
    """
    import requests

    with (
        requests.get(url, stream=True, timeout=60, headers={"Accept-Encoding": "identity"}) as answer,
        target.open("wb") as file,
    ):
        answer.raise_for_status()
        for piece in answer.iter_content(2**20):
            heard()
            file.write(piece[: most - file.tell()])
            if file.tell() == most:
                return
        expected = answer.headers.get("Content-Length")
        if expected and file.tell() != int(expected):
            raise requests.ConnectionError(f"{file.tell()} of {expected} bytes came")
