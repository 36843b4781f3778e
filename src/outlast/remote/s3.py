"""Buckets that speak S3: Amazon's, MinIO, R2, Ceph. docs/reference/remotes.md says which of them can do what.

Each object carries its SHA-256 as metadata, which stays with it when it is copied. The service compares a checksum with
the bytes when it takes them.
"""

from __future__ import annotations

import base64
import contextlib
import math
import os
import re
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from outlast.errors import ObjectConflict, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote import s3client
from outlast.remote.base import PIECE, Capabilities, Entry, Stat
from outlast.remote.network import TIMEOUT, Opened
from outlast.remote.parallel import in_parallel
from outlast.remote.s3service import BeyondTheEnd, S3Service

SHA256 = "outlast-sha256"
"""Name of the metadata that has an object's digest."""

PART = 64 * 2**20
"""Bytes of a part. Larger objects are sent in parts; a part that fails is sent again alone."""

_MOST_PARTS, _MOST_COPIED = 10_000, 5 * 2**30  # of one upload, and bytes of one copy: limits of S3


def open_at(location: SplitResult, options: dict[str, str], *, writes: bool) -> S3Remote:
    """The remote at `s3://BUCKET/PREFIX`."""
    if not location.netloc:
        raise UsageError("s3:// lacks a bucket; expected s3://BUCKET/PREFIX.")
    if options.get("path_style", "false") not in ("true", "false"):
        raise UsageError("path_style of an address of s3:// is neither true nor false.")
    if "endpoint" in options and urlsplit(options["endpoint"]).scheme not in ("http", "https"):
        raise UsageError("endpoint of an address of s3:// is no URL; expected https://HOST.")
    prefix = location.path.strip("/")
    return S3Remote(
        location.netloc,
        f"{prefix}/" if prefix else "",
        writes=writes,
        endpoint=options.get("endpoint"),
        region=options.get("region"),
        path_style=options.get("path_style") == "true",
    )


class S3Remote(S3Service):
    """A bucket, or what lies below a prefix of one.

    Credentials, region, profile and endpoint are found where the `aws` command line finds them. Whether a service other
    than Amazon's knows preconditions is tried out, once, with an object of a name that begins with a dot.

    Args:
        bucket: its name.
        prefix: as NetworkRemote has it.
        writes: False for a remote that is only read.
        endpoint: URL of the service, if it is not Amazon's.
        region: of the bucket.
        path_style: name the bucket in the path and not in the host.
        timeout: seconds in which something of a reply has to arrive.
        part: bytes of a part.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        writes: bool = True,
        endpoint: str | None = None,
        region: str | None = None,
        path_style: bool = False,
        timeout: float = TIMEOUT,
        part: int = PART,
    ) -> None:
        super().__init__(
            bucket, prefix, writes=writes, endpoint=endpoint, region=region, path_style=path_style, timeout=timeout
        )
        self._part = part

    @property
    def capabilities(self) -> Capabilities:
        """What this service can do. Another one than Amazon's is asked, when it is written to.

        Raises:
            RemoteError: it was asked and did not answer.
        """
        puts, deletes = self._preconditions if self._writes else (False, False)
        return Capabilities(
            writes=self._writes,
            exclusive_put=puts,
            conditional_delete=deletes,
            digest="sha256",
            server_digest=True,
        )

    @cached_property
    def _preconditions(self) -> tuple[bool, bool]:
        """Whether the service keeps to If-None-Match when an object is put, and to If-Match when one is deleted."""
        with self._lock:
            return self.__dict__.get("_preconditions") or self._try_preconditions()

    def _try_preconditions(self) -> tuple[bool, bool]:
        if (urlsplit(self._client.meta.endpoint_url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
            return True, True
        key = {"Bucket": self._bucket, "Key": f"{self._prefix}.outlast-{uuid.uuid4().hex}"}

        def holds(operation: str, **arguments: Any) -> bool:
            try:
                self._call("", operation, **key, **arguments)
            except ObjectConflict:
                return True
            except RemoteRefused as error:
                if "NotImplemented" not in error.reason:
                    raise
            return False

        def ask() -> tuple[bool, bool]:
            self._call("", "put_object", **key, Body=b"1")
            puts = holds("put_object", Body=b"2", IfNoneMatch="*")
            deletes = holds("delete_object", IfMatch='"00000000000000000000000000000000"')
            self._call("", "delete_object", **key)
            return puts, deletes

        return self._ask(ask)

    def _create(self, name: str, file: Path, digest: str) -> bool:
        arguments: dict[str, Any] = {"Metadata": {SHA256: digest}}
        condition = {"IfNoneMatch": "*"} if self._preconditions[0] else {}
        with self._opened(file) as opened:
            size = os.fstat(opened.fileno()).st_size
            try:
                if size > self._part:

                    def source(start: int, end: int) -> dict[str, Any]:
                        return {"Body": s3client.Slice(opened, start, end, self._silence.heard)}

                    self._upload(name, arguments, source, size, condition)
                    return True
                checksum = base64.b64encode(bytes.fromhex(digest)).decode()
                self._call(name, "put_object", Body=opened, ChecksumSHA256=checksum, **arguments, **condition)
            except ObjectConflict:
                return False
        return True

    def _upload(
        self,
        name: str,
        arguments: dict[str, Any],
        source: Callable[[int, int], dict[str, Any]],
        size: int,
        condition: dict[str, str],
        part: int = 0,
    ) -> None:
        """Write an object in parts, which become it with the last request. A part that fails is sent again alone.

        Args:
            name: of the object.
            arguments: of the upload.
            source: arguments of the part that has the bytes [start, end): its body, or what it is copied from.
            size: bytes of the object.
            condition: of the last request.
            part: bytes of a part.
        """
        part = part or max(self._part, math.ceil(size / _MOST_PARTS))
        operation = "upload_part" if "Body" in source(0, size) else "upload_part_copy"
        upload = {"UploadId": self._call(name, "create_multipart_upload", **arguments)["UploadId"]}
        try:

            def send(start: int) -> dict[str, Any]:
                number, end = start // part + 1, min(start + part, size)
                reply = self._ask(
                    lambda: self._call(name, operation, PartNumber=number, **upload, **source(start, end))
                )
                return {"PartNumber": number, "ETag": reply.get("CopyPartResult", reply)["ETag"]}

            parts = list(in_parallel(send, range(0, size, part)))
            whole = {"MultipartUpload": {"Parts": parts}}
            self._call(name, "complete_multipart_upload", **upload, **whole, **condition)
        except BaseException:
            with contextlib.suppress(RemoteRefused, RemoteUnavailable):
                self._call(name, "abort_multipart_upload", **upload)
            raise

    def _look(self, name: str) -> Stat:
        reply = self._call(name, "head_object")
        return Stat(**vars(_entry(name, "ContentLength", reply)), digest=_digest(reply))

    def _freshen(self, found: Stat) -> None:
        """Copy it onto itself, in another number of parts than before.

        An ETag depends on the contents and on the number of parts. So it becomes another one, and a deletion that was
        meant for the object as it was before fails.
        """
        etag = found.generation.partition("@")[0]
        copied = {"CopySource": {"Bucket": self._bucket, "Key": self._prefix + found.name}, "CopySourceIfMatch": etag}
        metadata = {"Metadata": {SHA256: found.digest}}
        count = math.ceil(found.size / _MOST_COPIED)
        again = etag.strip('"').endswith(f"-{count}")
        condition = {"IfMatch": etag} if self._preconditions[0] else {}
        if count == 0 or (count == 1 and (again or not self._preconditions[1])):
            self._call(found.name, "copy_object", MetadataDirective="REPLACE", **copied, **metadata, **condition)
            return
        part = math.ceil(found.size / (count + 1 if again else count))

        def source(start: int, end: int) -> dict[str, Any]:
            whole = (start, end) == (0, found.size)  # S3 copies ranges of objects of more than 5 MB only
            return copied if whole else {**copied, "CopySourceRange": f"bytes={start}-{end - 1}"}

        self._upload(found.name, metadata, source, found.size, condition, part)

    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        last = "" if stop is None else str(stop - 1)
        asked = {} if (start, last) == (0, "") else {"Range": f"bytes={start}-{last}"}
        try:
            reply = self._call(name, "get_object", **asked)
        except BeyondTheEnd:
            return Opened(generation, iter(()))
        found = _digest(reply) or reply["ETag"]
        if generation not in ("", found):
            reply["Body"].close()
            raise self._changed(name)
        return Opened(found, self._pieces(name, reply["Body"]))

    def _pieces(self, name: str, body: Any) -> Iterator[bytes]:
        with contextlib.closing(body), self._explained(name):
            while piece := body.read(PIECE):
                yield piece

    def _entries(self, prefix: str, after: str) -> tuple[list[Entry], str]:
        more = {"ContinuationToken": after} if after else {}
        with self._explained(prefix):
            reply = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **more)
        found = [_entry(each["Key"][len(self._prefix) :], "Size", each) for each in reply.get("Contents", ())]
        return found, reply.get("NextContinuationToken", "")

    def _delete(self, name: str, generation: str) -> None:
        if not self._preconditions[1]:
            raise RemoteRefused(
                f"{self.address(name)} was not deleted: this service ignores the precondition (If-Match) without which "
                "nothing is deleted safely."
            )
        if self._look(name).generation != generation:
            raise self._changed(name)
        self._call(name, "delete_object", IfMatch=generation.partition("@")[0])


def _entry(name: str, size: str, reply: Any) -> Entry:
    modified = reply["LastModified"].timestamp()
    return Entry(name, reply[size], f"{reply['ETag']}@{int(modified)}", modified)


def _digest(reply: Any) -> str:
    """The SHA-256 that an object carries; "" for one that was put there by other means."""
    found = reply.get("Metadata", {}).get(SHA256, "")
    return found if re.fullmatch(r"[0-9a-f]{64}", found) else ""
