"""Private datasets: for large code, for checkpoints of other machines, for secrets, and for publications.

They use kagglesdk 0.1.37 (datasets).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from outlast.errors import LaunchError
from outlast.kaggle.download import download
from outlast.kaggle.upload import Content, size_of, upload
from outlast.kaggle.wire import KaggleRefused, Wire
from outlast.waiting import Silence

READY_WITHIN = 1800.0
"""Seconds within which Kaggle must unpack and check a dataset."""

CHECKS = "Kaggle checks and stores its files"
"""Why a new dataset is waited for."""

Progress = Callable[[int, int], None]


def state(kaggle: Wire, slug: str) -> str | None:
    """READY, FAILED or another state, as Kaggle writes it; None if this account has no such dataset."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetStatusRequest

    request = ApiGetDatasetStatusRequest()
    request.owner_slug, request.dataset_slug = kaggle.user, slug
    try:
        answer = kaggle.repeated(f"the state of the dataset {slug}", lambda: _api(kaggle).get_dataset_status(request))
    except KaggleRefused as error:
        if error.status not in (403, 404):
            raise
        kaggle.prove()  # a wrong key gets the same answer as a missing dataset
        return None
    return str(answer.status.name)


def _api(kaggle: Wire) -> Any:
    return kaggle.sdk.datasets.dataset_api_client


def version(kaggle: Wire, slug: str) -> int:
    """The number of a dataset's current version."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = kaggle.user, slug
    answer = kaggle.repeated(f"the version of the dataset {slug}", lambda: _api(kaggle).get_dataset(request))
    return int(answer.current_version_number)


def create(kaggle: Wire, slug: str, contents: Mapping[str, Content], *, progress: Progress = lambda *_: None) -> None:
    """Create a private dataset and wait until it can be mounted. An existing one of this name is not changed.

    Args:
        kaggle: the account.
        slug: 6 to 50 letters, digits and dashes. Its contents never change, so use a name that depends on them.
        contents: path in the dataset -> bytes, or a file.
        progress: called with the number of uploaded bytes and the total.

    Raises:
        KaggleRefused: Kaggle refused it.
        LaunchError: it was not ready in time, or Kaggle could not unpack it.
    """
    if state(kaggle, slug) is None:
        make(kaggle, slug, contents, progress=progress)  # a taken name: created by an earlier try whose answer was lost
    wait(kaggle, slug)


def make(
    kaggle: Wire,
    slug: str,
    contents: Mapping[str, Content],
    *,
    title: str | None = None,
    progress: Progress = lambda *_: None,
) -> bool:
    """Make a private dataset in one request that is refused where one of this name exists; it is not ready yet.

    The arguments are those of `create`, and a title, which is the name if it is not given.

    Returns:
        Whether it was made. False: the name is taken, which may be by a request of this call whose answer was lost.

    Raises:
        KaggleRefused: Kaggle does not take it.
        LaunchError: Kaggle does not answer.
    """
    from kagglesdk.datasets.types.dataset_api_service import ApiCreateDatasetRequest

    request = ApiCreateDatasetRequest()
    request.owner_slug, request.slug, request.title = kaggle.user, slug, title or slug
    request.license_name, request.is_private = "unknown", True
    _fill(kaggle, request, contents, progress)

    def ask() -> bool:
        answer = _api(kaggle).create_dataset(request)
        if answer.error and "already in use" not in answer.error:
            raise KaggleRefused(f"Kaggle refused the dataset {slug}: {answer.error}")
        return not answer.error

    return kaggle.repeated(f"the dataset {slug}", ask)


def read(kaggle: Wire, owner: str, slug: str, path: str, target: Path, *, most: int) -> None:
    """Copy a file of a dataset, as it was uploaded.

    Args:
        kaggle: the account; a dataset of another one may be public, or shared with it.
        owner: of the dataset.
        slug: its name.
        path: of the file in it.
        target: the file to write; what it had is replaced.
        most: bytes that are written at most.

    Raises:
        KaggleRefused: there is no such file, or it may not be read.
        LaunchError: Kaggle does not answer.
    """
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug, request.file_name, request.raw = owner, slug, path, True

    def fetch() -> None:
        # The SDK's own call follows the redirect, and takes a JSON file for an answer of Kaggle's.
        http = kaggle.sdk.http_client()
        http._init_session()  # noqa: SLF001 - as in the client of kernels
        sent = http._prepare_request("datasets.DatasetApiService", "DownloadDataset", request)  # noqa: SLF001
        settings = http._session.merge_environment_settings(sent.url, {}, True, None, None)  # noqa: SLF001
        with http._session.send(sent, allow_redirects=False, timeout=60, **settings) as answer:  # noqa: SLF001
            answer.raise_for_status()
            if not answer.is_redirect:
                raise ValueError("no address of a file")
            address = answer.headers["Location"]
        download(address, target, most=most, heard=kaggle.silence.heard)

    kaggle.repeated(f"{path} of the dataset {owner}/{slug}", fetch)


def replace(kaggle: Wire, slug: str, contents: Mapping[str, Content]) -> None:
    """Create a private dataset, or a new version of it, and wait until it can be mounted.

    Earlier versions are deleted.

    Raises:
        KaggleRefused, LaunchError: as in `create`.
    """
    if state(kaggle, slug) is None:
        create(kaggle, slug, contents)
        return
    from kagglesdk.datasets.types.dataset_api_service import (
        ApiCreateDatasetVersionRequest,
        ApiCreateDatasetVersionRequestBody,
    )

    wait(kaggle, slug)  # Kaggle refuses a version while the previous one is not ready
    before = version(kaggle, slug)
    request = ApiCreateDatasetVersionRequest()
    request.owner_slug, request.dataset_slug = kaggle.user, slug
    request.body = ApiCreateDatasetVersionRequestBody()
    request.body.version_notes, request.body.delete_old_versions = "by outlast", True
    _fill(kaggle, request.body, contents, lambda *_: None)
    answer = kaggle.repeated(f"a version of the dataset {slug}", lambda: _api(kaggle).create_dataset_version(request))
    if answer.error:
        raise KaggleRefused(f"Kaggle refused a version of the dataset {slug}: {answer.error}")
    wait(kaggle, slug, after=before)


def wait(kaggle: Wire, slug: str, *, after: int = 0) -> None:
    """Wait until a dataset, of a version later than `after`, can be mounted.

    A kernel that is pushed before would run without it.

    Raises:
        LaunchError: it was not ready in time, or Kaggle could not unpack it.
    """
    with Silence(f"The dataset {slug}", READY_WITHIN).waiting() as waiting:
        end, pause = time.monotonic() + READY_WITHIN, 0.5
        while (found := state(kaggle, slug)) != "READY" or (after and version(kaggle, slug) <= after):
            # For some seconds it is None after a creation, and that of the previous version after a new one.
            if found in ("FAILED", "DELETED"):
                raise LaunchError(
                    f"Kaggle could not create the dataset {slug} ({found}). Nothing was started. Delete the dataset on "
                    "kaggle.com and try again."
                )
            if time.monotonic() > end:
                raise LaunchError(
                    f"The dataset {slug} is not ready after {READY_WITHIN / 60:.0f} minutes ({found}). Nothing was "
                    "started. Try again later."
                )
            waiting.reason = CHECKS
            kaggle.sleep(pause)
            pause = min(1.5 * pause, 15.0)


def delete(kaggle: Wire, slug: str) -> None:
    """Delete a dataset with all its versions, if it exists."""
    from kagglesdk.datasets.types.dataset_api_service import ApiDeleteDatasetRequest

    if state(kaggle, slug) is None:
        return
    request = ApiDeleteDatasetRequest()
    request.owner_slug, request.dataset_slug = kaggle.user, slug
    kaggle.repeated(f"the deletion of the dataset {slug}", lambda: _api(kaggle).delete_dataset(request))


@dataclass
class _Folder:
    files: list[str] = field(default_factory=list)
    folders: dict[str, _Folder] = field(default_factory=dict)


def _fill(kaggle: Wire, request: Any, contents: Mapping[str, Content], progress: Progress) -> None:
    """Upload the contents, and put their tokens into a request."""
    total, done, top = sum(map(size_of, contents.values())), 0, _Folder()
    for name, content in contents.items():
        place = PurePosixPath(name)
        folder = top
        for part in place.parts[:-1]:
            folder = folder.folders.setdefault(part, _Folder())
        folder.files.append(upload(kaggle, place.name, content))
        done += size_of(content)
        progress(done, total)
    request.files, request.directories = _tokens(top), _directories(top)


def _tokens(folder: _Folder) -> list[Any]:
    from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile

    made = []
    for token in folder.files:
        file = ApiDatasetNewFile()
        file.token = token
        made.append(file)
    return made


def _directories(folder: _Folder) -> list[Any]:
    from kagglesdk.datasets.types.dataset_api_service import ApiUploadDirectoryInfo

    made = []
    for name, inner in folder.folders.items():
        directory = ApiUploadDirectoryInfo()
        directory.name, directory.files, directory.directories = name, _tokens(inner), _directories(inner)
        made.append(directory)
    return made
