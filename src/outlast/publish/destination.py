"""Publishes a run: from where the user says it shall go, to the store and the reference, and the transaction."""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from outlast.errors import PublishFailed, RunBusy, UsageError
from outlast.folder import durable, layout, plain
from outlast.publish import kaggle, secrets
from outlast.publish.contents import plan_of
from outlast.publish.git import GitReference
from outlast.publish.manifest import ManifestReference
from outlast.publish.plan import Plan, PlannedFile
from outlast.publish.reference import Progress, Reference
from outlast.publish.repository import repository_at, url_of
from outlast.publish.transaction import Journal, Published, publish
from outlast.remote.address import open_remote
from outlast.remote.base import Remote

GIT = "git+dvc"


@dataclass(frozen=True)
class Destination:
    """Where a publication goes.

    Attributes:
        to: GIT, the address of a store, or that of a Kaggle dataset.
        store: with GIT, the address of the store of large files.
        git: with GIT, a git remote's name or URL.
        repository: with GIT, a folder in the user's repository.
        base: with GIT, the parent of the commit: a commit, "none", or None to choose it.
        title: with a Kaggle dataset, its title; its name by default.
    """

    to: str
    store: str | None = None
    git: str | None = None
    repository: Path = Path()
    base: str | None = None
    title: str | None = None

    def check(self) -> None:
        """Raise UsageError when something is missing, or has no meaning here."""
        near = difflib.get_close_matches(self.to.lower(), (GIT, "git", "dvc"), 1, 0.75)
        if self.to != GIT and near and "/" not in self.to and not Path(self.to).is_dir():
            raise UsageError(f"--to is {self.to}. Did you mean {GIT}? For a folder of that name, write ./{self.to}")
        if self.to == GIT and not self.store:
            raise UsageError(
                "--to git+dvc needs --store ADDRESS: a folder, s3://, gs:// or sftp://, where DVC finds the weights."
            )
        given = {"--store": self.store, "--git": self.git, "--base": self.base}
        if self.to != GIT and (more := [name for name, value in given.items() if value]):
            raise UsageError(f"{more[0]} belongs to --to {GIT}; --to is {self.to}, which is the store.")
        if self.title and not kaggle.is_kaggle(self.to):
            raise UsageError(f"--title belongs to --to {kaggle.SCHEME}OWNER/NAME; --to is {self.to}.")

    def open(self) -> None:
        """Find out whether it can be opened; no server is asked.

        Raises:
            UsageError: it is no address, a library or a login is missing, or there is no such git remote.
        """
        self.check()
        if kaggle.is_kaggle(self.to):
            kaggle.DatasetAddress.of(self.to)
            kaggle.account()
            return
        open_remote(str(self.store or self.to)).close()
        if self.to == GIT:
            with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
                url_of(self.git or "origin", self.repository, Path(scratch))


@dataclass(frozen=True)
class Preparation:
    """A publication that is ready to be made visible.

    Attributes:
        plan: what is published.
        store: holds the blobs; None where a dataset takes all files.
        reference: makes them visible.
        journal: of the publication.
        told: sentences for the user.
    """

    plan: Plan
    store: Remote | None
    reference: Reference
    journal: Journal
    told: list[str]

    @property
    def where(self) -> str:
        """Where most of it goes, for a person to read."""
        return f"store: {self.store.address()}" if self.store else f"dataset: {self.reference.where}"

    @property
    def blobs(self) -> Mapping[str, PlannedFile]:
        """The objects that go to the store."""
        return self.reference.blobs(self.plan)

    def publish(self, progress: Progress = lambda _name, _size: None) -> Published:
        """Do it; see `transaction.publish`."""
        return publish(self.plan, self.store, self.reference, self.journal, progress=progress)


@contextlib.contextmanager
def prepared(
    folder: Path,
    destination: Destination,
    *,
    part: str,
    best: int | None = None,
    module: str | None = None,
    name: str | None = None,
    dry_run: bool = False,
) -> Iterator[Preparation]:
    """Gather a run's files and open its destination; what is made on the way is deleted at the end of the block.

    Args:
        folder: the run folder. `publish/` in it gets the journal; nothing else in it changes.
        destination: where it goes.
        part: the tracked part that is the model.
        best: the step of the best checkpoint.
        module: what was trained; by default the recipe's name.
        name: of the publication.
        dry_run: write nothing into the run folder.

    Raises:
        UsageError: the destination, or the run, is not fit.
        RunBusy: another process publishes this run.
        RemoteError: the git server does not answer.
        SecretFound: a file holds a secret.
    """
    destination.check()
    folder = folder.resolve()  # git runs in the scratch folder
    with _scratch(folder / "publish", dry_run=dry_run) as scratch:
        try:
            plan, told = plan_of(folder, scratch / "files", part=part, best=best, module=module, name=name)
        except OSError as error:  # of a write, which names no file
            raise PublishFailed(
                f"The files that are published cannot be made in {scratch}: {error.strerror or error}. Nothing was "
                "published. Free disk space there, and type the same command again."
            ) from error
        secrets.check(((file.path, file.source) for file in plan.files), secrets.known_values())
        path = folder / "publish" / f"{plan.name}.json"
        if kaggle.is_kaggle(destination.to):
            yield _to_dataset(destination, plan, scratch / "dataset", path, told)
            return
        if destination.to != GIT:
            store = open_remote(destination.to)
            reference: Reference = ManifestReference(store, destination.to, scratch / "manifest")
            yield Preparation(plan, store, reference, Journal(path, {"to": destination.to}), told)
            return
        address = _absolute(str(destination.store))
        store = open_remote(address)
        own = scratch / "git"
        own.mkdir()
        made = _git_reference(destination, address, own, Journal.find(path))
        to = {"to": GIT, "store": address, "base": made.base}
        yield Preparation(plan, store, made, Journal(path, to), [*told, *made.told])


def _to_dataset(destination: Destination, plan: Plan, scratch: Path, path: Path, told: list[str]) -> Preparation:
    address = kaggle.DatasetAddress.of(destination.to)
    account = kaggle.account()
    dataset = kaggle.Dataset(account, address.owner_for(account), address.named(plan.name))
    return Preparation(
        plan,
        None,
        kaggle.KaggleReference(dataset, scratch, destination.title),
        Journal(path, {"to": destination.to}),
        told,
    )


def _git_reference(
    destination: Destination, address: str, scratch: Path, earlier: Mapping[str, Any] | None
) -> GitReference:
    repository = repository_at(destination.repository, scratch)
    name = destination.git or ("origin" if repository else None)
    if name is None:
        place = destination.repository.resolve()
        where = "is in no git repository" if place.is_dir() else "is no folder"
        raise UsageError(f"{place} {where}, so --git has no default. Give the URL of one: --git URL")
    url = url_of(name, destination.repository, scratch)
    base = destination.base
    if base is None and earlier is not None:
        base = earlier["to"].get("base")  # HEAD may be another one by now; the commit stays the same
    remote = name if repository and "/" not in name and ":" not in name else None
    return GitReference(
        url, address, scratch, repository=repository, base=base, remote=remote,
        chosen=destination.base is not None,
    )  # fmt: skip


def _absolute(address: str) -> str:
    """A folder's path as whoever pulls must have it."""
    return address if "://" in address else str(Path(address).expanduser().resolve())


@contextlib.contextmanager
def _scratch(place: Path, *, dry_run: bool) -> Iterator[Path]:
    """A folder for the files that are made, on the disk of the run; one publisher at a time has it."""
    if dry_run:
        with tempfile.TemporaryDirectory(prefix="outlast-") as made:
            yield _with_files(Path(made))
        return
    if (kind := plain.kind_of(place)) not in (None, "folder"):
        raise UsageError(f"{place} is a {kind} where a folder of outlast's own belongs. Nothing was published.")
    durable.make_folder(place)
    with _locked(place / "lock"):
        durable.sweep_temporaries(place)
        folder = place / f"{layout.TEMPORARY}scratch"
        try:
            yield _with_files(folder)
        finally:
            durable.remove_any(folder)


def _with_files(folder: Path) -> Path:
    (folder / "files").mkdir(parents=True)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = plain.open_plain(path, os.O_RDWR | os.O_CREAT)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunBusy(
                    f"{path.parent.parent} is being published by another process. Wait for it, then type the command "
                    "again."
                ) from error
        yield
    finally:
        os.close(descriptor)
