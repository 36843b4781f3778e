"""A publication as a Kaggle dataset: a private one, made with all its files and the manifest in one request.

A dataset's name is taken once, so the request is refused where there is one. Kaggle reports no digests, and its listing
of files leaves out folders at times (kaggle-cli#234, #370, #500): what is there is read back, byte by byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import (
    LaunchError,
    ObjectMissing,
    PublishConflict,
    RemoteRefused,
    RemoteUnavailable,
    UsageError,
)
from outlast.folder import durable
from outlast.kaggle import datasets
from outlast.kaggle.credentials import find_credential
from outlast.kaggle.wire import KaggleRefused, Wire
from outlast.publish import manifest
from outlast.publish.plan import Plan, PlannedFile, pieces
from outlast.publish.reference import Progress, Reference
from outlast.terminal import command
from outlast.waiting import Silence, Wait

SCHEME = "kaggle://"

OWN_ACCOUNT = "~"
"""Owner in an address: the account of the login."""

READY_WITHIN = 1800.0
"""Seconds for which Kaggle may check and store a dataset after it was made."""

SHOWN_WITHIN = 60.0
"""Seconds after which a dataset that was made and is not shown counts as missing. Kaggle answers 403 at first."""

_NAME = r"[a-z0-9](?:[a-z0-9-]{4,48}[a-z0-9])"
_UNPACKED = re.compile(r"\.(?:zip|tar|gz|tgz|bz2|xz|7z|rar)(?:\.bin)*$", re.IGNORECASE)
"""Ends of names of files that Kaggle unpacks; ours end in ".bin" there, so that their bytes stay."""


@dataclass(frozen=True)
class DatasetAddress:
    """`kaggle://OWNER`, or `kaggle://OWNER/NAME` of one dataset.

    Attributes:
        owner: an account, or "~" for that of the login.
        dataset: one of its datasets; None: the one that is named like the publication.
    """

    owner: str
    dataset: str | None

    @classmethod
    def of(cls, text: str) -> DatasetAddress:
        """Read an address; raises UsageError when it is none."""
        found = re.fullmatch(rf"{SCHEME}([\w-]+|~)(?:/({_NAME})?)?", text, re.ASCII)
        if found is None:
            raise UsageError(
                f"{text[:120]!r} is no address of a Kaggle dataset; expected kaggle://OWNER, or kaggle://OWNER/NAME "
                "with a name of 6 to 50 lower-case letters, digits and dashes."
            )
        return cls(found[1], found[2])

    def owner_for(self, kaggle: Wire) -> str:
        """The account; of "~" it is asked for.

        Raises:
            RemoteError: Kaggle does not answer, or refuses the login.
        """
        if self.owner != OWN_ACCOUNT:
            return self.owner
        with explained():
            return kaggle.user

    def named(self, publication: str) -> str:
        """The name of the dataset that holds a publication."""
        return self.dataset or dataset_name(publication)


def is_kaggle(address: str) -> bool:
    """Whether an address is one of Kaggle's."""
    return address.startswith(SCHEME)


def dataset_name(publication: str) -> str:
    """A name for a dataset, which is that of the publication if Kaggle takes it; otherwise made from it and its hash.

    Kaggle takes 6 to 50 lower-case letters, digits and dashes.
    """
    if re.fullmatch(_NAME, publication):
        return publication
    words = re.sub(r"[^a-z0-9]+", "-", publication.lower())[:41]
    return f"{words}-{hashlib.sha256(publication.encode()).hexdigest()[:8]}".strip("-").replace("--", "-")


def account() -> Wire:
    """The account whose login is on this machine; nothing is asked of Kaggle yet.

    Raises:
        UsageError: there is no login, or Kaggle's client is not installed.
    """
    return Wire(find_credential())


def probe(text: str) -> str:
    """Whether a dataset could be made at an address, as a line for a person.

    Raises:
        UsageError: it is no address, there is no login, or it is another account's.
        RemoteError: Kaggle does not answer, or refuses the login.
    """
    address, kaggle = DatasetAddress.of(text), account()
    with explained():
        kaggle.prove()
    _check_owner(kaggle, address.owner_for(kaggle))
    return f"{text}: the login from {kaggle.credential.source} is valid"


def _check_owner(kaggle: Wire, owner: str) -> None:
    """Raise UsageError when the login is another account's: only the owner makes a dataset."""
    with explained():
        user = kaggle.user
    if user.lower() != owner.lower():
        raise UsageError(
            f"{SCHEME}{owner} belongs to another account than {user}, whose login is that from "
            f"{kaggle.credential.source}. Publish to {SCHEME}{user}, or log in as {owner} with `kaggle auth login`."
        )


class Dataset:
    """A dataset that holds one publication.

    Args:
        kaggle: the account that reads or makes it.
        owner: of the dataset.
        name: of the dataset.
    """

    def __init__(self, kaggle: Wire, owner: str, name: str) -> None:
        self.kaggle, self.owner, self.name = kaggle, owner, name

    @property
    def address(self) -> str:
        """Its address."""
        return f"{SCHEME}{self.owner}/{self.name}"

    def manifest(self, scratch: Path) -> bytes:
        """The bytes of the manifest.

        Raises:
            ObjectMissing: there is no such dataset, or it has no manifest.
            RemoteError: it cannot be read.
        """
        return b"".join(self.read(manifest.NAME, manifest.MOST, scratch))

    def read(self, path: str, size: int, scratch: Path) -> Iterator[bytes]:
        """Yield the bytes of a file, one more than `size` at most; they come by way of a file in a folder of ours.

        Raises:
            ObjectMissing: it is not there.
            RemoteError: it cannot be read.
        """
        target = scratch / "downloaded"
        durable.make_folder(scratch)
        try:
            with explained():
                datasets.read(self.kaggle, self.owner, self.name, held_as(path), target, most=size + 1)
        except RemoteRefused as error:
            if not isinstance(cause := error.__cause__, KaggleRefused) or cause.status not in (403, 404):
                raise
            raise ObjectMissing(f"There is no {self.address}/{path}, or you may not read it.", error.reason) from error
        yield from pieces(target)


class KaggleReference(Reference):
    """A new private dataset with a publication's files and its manifest.

    Args:
        dataset: to be made.
        scratch: a folder in which nothing else is.
        title: its title; its name by default.
    """

    def __init__(self, dataset: Dataset, scratch: Path, title: str | None = None) -> None:
        self._dataset, self._scratch, self._title = dataset, scratch, title
        self._contents: dict[str, Path] = {}
        self._asked: float | None = None

    @property
    def where(self) -> str:
        """The dataset."""
        return self._dataset.address

    def blobs(self, plan: Plan) -> dict[str, PlannedFile]:  # noqa: ARG002
        """None: the dataset takes all files with it."""
        return {}

    def place(self, plan: Plan, file: PlannedFile) -> str:  # noqa: ARG002
        """The dataset."""
        return f"{self._dataset.name}/"

    def prepare(self, plan: Plan) -> str:
        """Write the manifest to the scratch folder; its hash is the identity."""
        _check_owner(self._dataset.kaggle, self._dataset.owner)
        data = manifest.write(plan)
        durable.make_folder(self._scratch)
        durable.write_file(self._scratch / manifest.NAME, [data])
        self._contents = {held_as(file.path): file.source for file in plan.files}
        self._contents[manifest.NAME] = self._scratch / manifest.NAME
        return hashlib.sha256(data).hexdigest()

    def create(self, progress: Progress) -> int:
        """Upload all files, then make the dataset of them."""
        told = 0

        def tell(done: int, _total: int) -> None:
            nonlocal told
            progress(self._dataset.name, done - told)
            told = done

        self._asked = time.monotonic()
        try:
            with explained():
                made = datasets.make(
                    self._dataset.kaggle, self._dataset.name, self._contents, title=self._title, progress=tell
                )
        except RemoteRefused:
            self._asked = None  # Kaggle has said no
            raise
        self._asked = time.monotonic()
        return (len(self._contents) - 1) * made

    def read(self) -> str | None:
        """The hash of the manifest that the dataset holds, when Kaggle has stored it."""
        with explained():
            if not self._is_stored():
                return None
        try:
            return hashlib.sha256(self._dataset.manifest(self._scratch)).hexdigest()
        except ObjectMissing as error:
            if self._asked is not None:
                raise RemoteUnavailable(f"{self.where} does not show its {manifest.NAME} yet.", error.reason) from error
            raise PublishConflict(
                f"{self.where} is a dataset without a {manifest.NAME}, so no publication. It was not changed. Publish "
                f"to another one: {SCHEME}{self._dataset.owner} makes one that is named like the publication."
            ) from error

    def check(self, plan: Plan) -> None:
        """Read every file back."""
        for file in plan.files:
            sha256, size = hashlib.sha256(), 0
            try:
                for piece in self._dataset.read(file.path, file.size, self._scratch):
                    sha256.update(piece)
                    size += len(piece)
            except ObjectMissing as error:
                raise RemoteRefused(f"{self.where} lacks {file.path}, which was sent.", error.reason) from error
            if (size, sha256.hexdigest()) != (file.size, file.sha256):
                raise RemoteRefused(
                    f"{self.where} has another {file.path} than was sent: {size} bytes with the SHA-256 "
                    f"{sha256.hexdigest()[:12]}; expected {file.size} bytes with {file.sha256[:12]}."
                )

    def commands(self) -> list[str]:
        """The command that fetches it."""
        return [command("outlast", "publish", "--from", self.where, "--output", self._dataset.name)]

    def _is_stored(self) -> bool:
        """Whether there is the dataset; waits while Kaggle checks and stores it."""
        with Silence(self.where, READY_WITHIN).waiting() as wait:
            return self._wait_for_it(wait)

    def _wait_for_it(self, wait: Wait) -> bool:
        kaggle, began, pause = self._dataset.kaggle, time.monotonic(), 0.5
        while (found := datasets.state(kaggle, self._dataset.name)) != "READY":
            if found in ("FAILED", "DELETED"):
                raise RemoteRefused(
                    f"Kaggle has made nothing of {self.where} ({found}). Delete that dataset on kaggle.com, or publish "
                    "to another one."
                )
            now = time.monotonic()
            if found is None and (self._asked is None or now - self._asked > SHOWN_WITHIN):
                return False
            if now - began > READY_WITHIN:
                raise RemoteUnavailable(
                    f"{self.where} is not ready after {READY_WITHIN / 60:.0f} minutes ({found or 'not shown'})."
                )
            wait.reason = datasets.CHECKS
            kaggle.sleep(pause)
            pause = min(1.5 * pause, 15.0)
        return True


def held_as(path: str) -> str:
    """The name of a file in a dataset."""
    return f"{path}.bin" if _UNPACKED.search(path) else path


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors of the client as those of a remote."""
    try:
        yield
    except KaggleRefused as error:
        raise RemoteRefused(str(error), str(error)) from error
    except LaunchError as error:
        raise RemoteUnavailable(str(error), str(error)) from error
