"""Requests to a bucket that speaks S3: who asks, for how long, and what its errors mean."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import botocore.config
from botocore import exceptions
from botocore.parsers import ResponseParserError

from outlast.errors import RemoteError, RemoteRefused
from outlast.remote import s3client
from outlast.remote.answers import refusal, scrubbed, unreachable
from outlast.remote.network import NetworkRemote
from outlast.remote.parallel import AT_ONCE


class BeyondTheEnd(RemoteRefused):
    """A range begins where the object has ended."""


class S3Service(NetworkRemote):
    """What the driver of S3 asks the service with.

    Args:
        bucket: its name.
        prefix: as NetworkRemote has it; so are writes and timeout.
        endpoint: URL of the service, if it is not Amazon's.
        region: of the bucket.
        path_style: name the bucket in the path and not in the host.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        writes: bool,
        endpoint: str | None,
        region: str | None,
        path_style: bool,
        timeout: float,
    ) -> None:
        super().__init__(f"s3://{bucket}/", prefix, writes=writes, timeout=timeout)
        self._bucket = bucket
        self._lock = threading.RLock()  # held while the client is made, and while the service is tried out
        self._settings = {
            "endpoint_url": endpoint,
            "region_name": region,
            "config": botocore.config.Config(
                connect_timeout=min(timeout, 10.0),
                read_timeout=timeout,
                retries={"total_max_attempts": 1},  # retry.py is the one place
                max_pool_connections=AT_ONCE**2,  # objects at a time, and parts of each
                s3={"addressing_style": "path" if path_style else "auto"},
            ),
        }

    @cached_property
    def _client(self) -> Any:
        with self._lock:  # cached_property itself has none since Python 3.12
            return self.__dict__.get("_client") or self._connect()

    def _connect(self) -> Any:
        with self._explained(""):
            return s3client.connect(self._settings)

    def close(self) -> None:
        """Close the connections."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    def _call(self, name: str, operation: str, **arguments: Any) -> Any:
        """One request about one object."""
        key = {"Bucket": self._bucket, "Key": self._prefix + name}
        with self._explained(name):
            return getattr(self._client, operation)(**key | arguments)

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Errors of the client as those of a remote."""
        try:
            yield
        except exceptions.ClientError as error:
            raise self._error(name, error.response) from None
        except (
            exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError, ResponseParserError,
        ) as error:  # fmt: skip
            raise unreachable(self.address(name), error) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise RemoteRefused(
                f"{self.address(name)}: {scrubbed(str(error))}. Log in with this service's own command line, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
                scrubbed(str(error)),
            ) from None
        except exceptions.BotoCoreError as error:
            raise RemoteRefused(f"{self.address(name)}: {scrubbed(str(error))}.", scrubbed(str(error))) from None

    def _error(self, name: str, response: Any) -> RemoteError:
        said, about = response.get("Error", {}), response.get("ResponseMetadata", {})
        status, code = about.get("HTTPStatusCode", 0), str(said.get("Code", ""))
        if status == 412:
            return self._changed(name)
        if status == 404 and code in ("404", "NoSuchKey", "NoSuchUpload"):
            return self._missing(name, code)
        if status == 416:
            return BeyondTheEnd(self.address(name))
        if code in ("ConditionalRequestConflict", "RequestTimeout", "SlowDown", "InternalError"):
            status = 503
        after = about.get("HTTPHeaders", {}).get("retry-after")
        return refusal(self.address(name), status, f"{code}: {said.get('Message', '')}", after)
