"""The client of botocore for the s3:// driver: made quickly, and without reading a file more often than it must."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, BinaryIO

import botocore.config
import botocore.session
from botocore import auth


def connect(given: Mapping[str, Any]) -> Any:
    """A client of S3.

    Args:
        given: `endpoint_url`, `region_name` and `config`, as `Session.create_client` takes them.
    """
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    settings = dict(given)
    if not (settings["region_name"] or session.get_config_variable("region")):
        settings["region_name"] = "us-east-1"  # Amazon redirects from this one, others do not mind
    client = session.create_client("s3", **settings)
    # Otherwise botocore reads each file once more to sign its bytes. The checksum in the header is signed.
    if not client.meta.endpoint_url.startswith("https://"):
        client.meta.events.register("choose-signer.s3.PutObject", _choose_signer)
        return client
    style = {**settings["config"].s3, "payload_signing_enabled": False}
    config = settings["config"].merge(botocore.config.Config(s3=style))
    return session.create_client("s3", **{**settings, "config": config})


@cache
def _loader() -> Any:
    """The descriptions of the service, which take 0.1 s to read."""
    return botocore.session.get_session().get_component("data_loader")


class Slice(io.RawIOBase):
    """Bytes [start, end) of a file, as a file; `read_some` is called before each read."""

    def __init__(self, file: BinaryIO, start: int, end: int, read_some: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._file, self._start, self._length, self._position = file, start, end - start, 0
        self._read_some = read_some

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or all that are left."""
        self._read_some()
        left = self._length - self._position
        data = os.pread(self._file.fileno(), left if size < 0 else min(size, left), self._start + self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, as `io.IOBase.seek` does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = min(max(base + offset, 0), self._length)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def seekable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True


class _KnownPayload(auth.S3SigV4Auth):  # type: ignore[misc]
    """Signs an object by the SHA-256 in its checksum header, which the service compares with the bytes."""

    def payload(self, request: Any) -> str:
        """The hash of the body, in hex."""
        known = request.headers.get("x-amz-checksum-sha256")
        return base64.b64decode(known).hex() if known else str(super().payload(request))


_SIGNER = "outlast-s3v4"
auth.AUTH_TYPE_MAPS[_SIGNER] = _KnownPayload


def _choose_signer(signature_version: Any = None, signing_name: str = "", **_: Any) -> str | None:
    """The signer of a request; None: botocore's own."""
    return _SIGNER if signature_version in ("v4", "s3v4") and signing_name == "s3" else None
