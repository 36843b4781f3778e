"""Downloads one file of a session."""

from __future__ import annotations

from pathlib import Path


def download(url: str, target: Path) -> None:
    """Download an address into a file.

    Raises:
        OSError: the file did not arrive completely. The errors of requests are OSErrors.
    """
    import requests

    with (
        requests.get(url, stream=True, timeout=60, headers={"Accept-Encoding": "identity"}) as answer,
        target.open("wb") as file,
    ):
        answer.raise_for_status()
        for piece in answer.iter_content(2**20):
            file.write(piece)
        expected = answer.headers.get("Content-Length")
        if expected and file.tell() != int(expected):
            raise OSError(f"{file.tell()} of {expected} bytes arrived")
