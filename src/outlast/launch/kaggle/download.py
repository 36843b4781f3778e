"""Downloads one file of a session."""

from __future__ import annotations

from pathlib import Path


def download(url: str, target: Path) -> None:
    """Write what an address gives into a file.

    Raises OSError, of which requests' errors are a kind, when it does not come whole.
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
            raise OSError(f"{file.tell()} of {expected} bytes came")
