"""Uploads of files for datasets: resumable ones of Google, which continue after an interruption (kagglesdk: blobs)."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

from outlast.kaggle.wire import Wire
from outlast.waiting import SentFile

Content = Path | bytes


def size_of(content: Content) -> int:
    """Bytes of a content."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


def upload(kaggle: Wire, name: str, content: Content) -> str:
    """Send a file; returns the token by which a dataset takes it.

    Raises:
        KaggleRefused: Kaggle does not take it.
        LaunchError: Kaggle does not answer.
    """
    from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest

    size = size_of(content)
    request = ApiStartBlobUploadRequest()
    request.type, request.name, request.content_length = ApiBlobType.DATASET, name, size
    request.last_modified_epoch_seconds = int(time.time())
    begun = kaggle.repeated(
        f"the upload of {name}", lambda: kaggle.sdk.blobs.blob_api_client.start_blob_upload(request)
    )
    first = True

    def send() -> None:
        nonlocal first
        start, first = (0 if first else _arrived(begun.create_url, size)), False
        if start is not None:
            _put(kaggle, begun.create_url, content, start, size)

    kaggle.repeated(f"the upload of {name}", send)
    return str(begun.token)


def _put(kaggle: Wire, url: str, content: Content, start: int, size: int) -> None:
    """Send the bytes that have not arrived yet."""
    import requests

    headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
    with _opened(kaggle, content) as file:
        file.seek(start)
        # requests would send an empty stream chunked, which these uploads refuse.
        answer = requests.put(url, data=file if size > start else b"", headers=headers, timeout=120)
    answer.raise_for_status()
    if answer.status_code == 308:  # "resume incomplete": some bytes have not arrived
        raise requests.ConnectionError("the upload ended early")


def _opened(kaggle: Wire, content: Content) -> Any:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    return SentFile(os.open(content, os.O_RDONLY | getattr(os, "O_BINARY", 0)), kaggle.silence.heard)


def _arrived(url: str, size: int) -> int | None:
    """The number of bytes that have arrived; None for all."""
    import requests

    answer = requests.put(url, headers={"Content-Range": f"bytes */{size}"}, data=b"", timeout=60)
    if answer.status_code in (200, 201):
        return None
    if answer.status_code != 308:
        answer.raise_for_status()
    return int(answer.headers["Range"].rpartition("-")[2]) + 1 if "Range" in answer.headers else 0
