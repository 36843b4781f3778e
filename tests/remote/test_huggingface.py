"""What only the Hub has: commits of several files, a history, files that the client leaves out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from tests import messages
from tests.conformance.remotes import HubCase
from tests.standins import service
from tests.standins.hub import REPOSITORY
from tests.standins.service import Fault

from outlast.errors import ObjectConflict, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote.address import open_remote
from outlast.remote.huggingface import HuggingFaceRemote


class DatasetCase(HubCase):
    kind = "dataset"


@pytest.fixture(params=[HubCase, DatasetCase])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubCase]:
    case = request.param(tmp_path, monkeypatch)
    yield case
    case.close()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A large file, a small one, and one that names them."""
    for name, data in {"w.bin": bytes(range(256)), "card.md": b"# card\n", "manifest": b"{}"}.items():
        (tmp_path / name).write_bytes(data)
    return {f"r/{name}": tmp_path / name for name in ("w.bin", "card.md", "manifest")}


def commits(case: HubCase) -> int:
    return len([line for line in service.requests(case.url) if "/commit/" in line])


def test_several_files_are_one_commit(case: HubCase, files: dict[str, Path]) -> None:
    remote = case.open()
    service.fail(case.url)
    assert remote.put_all_if_absent(files, "r/manifest") == set(files)
    assert commits(case) == 1
    assert {entry.name for entry in remote.list()} == set(files)
    assert {entry.generation.partition("@")[2] for entry in remote.list()} == {
        remote.stat("r/w.bin").generation.partition("@")[2]
    }
    assert remote.stat("r/w.bin").digest == hashlib.sha256(bytes(range(256))).hexdigest()


@pytest.mark.parametrize("fault", [Fault("lost"), Fault("status after", status=500)], ids=lambda fault: fault.kind)
def test_a_commit_whose_reply_is_lost(case: HubCase, files: dict[str, Path], fault: Fault) -> None:
    remote = case.open()
    service.fail(case.url, Fault(**{**vars(fault), "method": "POST", "contains": "/commit/"}))
    assert remote.put_all_if_absent(files) == set()
    assert commits(case) == 1
    assert {entry.name for entry in remote.list()} == set(files)


def test_nothing_of_a_commit_that_fails_is_there(case: HubCase, files: dict[str, Path]) -> None:
    remote = case.open()
    service.fail(case.url, Fault("status", method="POST", contains="/commit/", status=503, times=99))
    with pytest.raises(RemoteUnavailable):
        remote.put_all_if_absent(files)
    service.fail(case.url, Fault("status", method="POST", contains="/commit/", status=412, times=99))
    with messages.raises(RemoteUnavailable, "huggingface/changes-all-the-time"):
        remote.put_all_if_absent(files)
    service.fail(case.url)
    assert list(remote.list()) == []
    remote.put_if_absent("r/card.md", files["r/manifest"])
    with pytest.raises(ObjectConflict, match=r"card\.md"):
        remote.put_all_if_absent(files)
    assert [entry.name for entry in remote.list()] == ["r/card.md"]


def test_another_commit_in_between(case: HubCase, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's commit comes after the driver has looked, and has the same file or another one."""
    remote, api, real = case.open(), HfApi(endpoint=case.url), HuggingFaceRemote._send
    others = {"r/other": files["r/manifest"], "r/card.md": files["r/card.md"]}

    def send(self: HuggingFaceRemote, *arguments: object) -> bool:
        if others:
            name, path = others.popitem()
            added = CommitOperationAdd(f"{case.prefix}/{name}", str(path))
            api.create_commit(REPOSITORY, [added], commit_message="other", repo_type=case.kind)
        return real(self, *arguments)

    monkeypatch.setattr(HuggingFaceRemote, "_send", send)
    assert remote.put_if_absent("r/card.md", files["r/card.md"]) is False
    assert remote.put_all_if_absent(files) == {"r/w.bin", "r/manifest"}
    assert {entry.name for entry in remote.list()} == {*files, "r/other"}


def test_another_file_of_the_name_that_came_in_between_stays(
    case: HubCase, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver has looked, and nothing was there: only the parent of the commit can tell."""
    remote, api, real = case.open(), HfApi(endpoint=case.url), HuggingFaceRemote._send
    pending = [CommitOperationAdd(f"{case.prefix}/r/card.md", str(files["r/manifest"]))]

    def send(self: HuggingFaceRemote, *arguments: object) -> bool:
        if pending:
            api.create_commit(REPOSITORY, [pending.pop()], commit_message="other", repo_type=case.kind)
        return real(self, *arguments)

    monkeypatch.setattr(HuggingFaceRemote, "_send", send)
    with pytest.raises(ObjectConflict):
        remote.put_all_if_absent(files)
    assert b"".join(remote.get("r/card.md")) == files["r/manifest"].read_bytes()
    assert [entry.name for entry in remote.list()] == ["r/card.md"]


def test_a_name_that_the_repository_ignores(case: HubCase, files: dict[str, Path], tmp_path: Path) -> None:
    """The client leaves such files out of a commit without an error."""
    (tmp_path / "ignore").write_text("*.hidden-by-standin\n")
    added = CommitOperationAdd(".gitignore", str(tmp_path / "ignore"))
    HfApi(endpoint=case.url).create_commit(REPOSITORY, [added], commit_message="m", repo_type=case.kind)
    remote = case.open()
    both = {"a": files["r/manifest"], "w.hidden-by-standin": files["r/w.bin"]}
    with messages.raises(RemoteRefused, "huggingface/ignored-by-gitignore"):
        remote.put_all_if_absent(both)


def test_a_file_that_changed_while_it_was_sent(case: HubCase, files: dict[str, Path]) -> None:
    with pytest.raises(RemoteRefused, match="changed meanwhile"):
        case.open()._create("w.bin", files["r/w.bin"], "0" * 64)


def test_a_file_is_no_folder(case: HubCase, files: dict[str, Path]) -> None:
    remote = case.open()
    remote.put_if_absent("a/b", files["r/manifest"])
    for name in ("a", "a/b/c"):
        with messages.raises(RemoteRefused, "huggingface/file-or-folder"):
            remote.put_if_absent(name, files["r/manifest"])
    assert [entry.name for entry in remote.list()] == ["a/b"]


def test_a_repository_that_is_not_there(case: HubCase, files: dict[str, Path]) -> None:
    remote = HuggingFaceRemote(case.kind, "owner/none", endpoint=case.url)
    for ask in (lambda: list(remote.list()), lambda: remote.put_if_absent("a", files["r/manifest"])):
        with messages.raises(RemoteRefused, "huggingface/no-repository"):
            ask()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("hf://models/me/digits", "hf://models/me/digits/a"),
        ("hf://datasets/me/digits.v2/runs/x/", "hf://datasets/me/digits.v2/runs/x/a"),
    ],
)
def test_addresses(address: str, shown: str) -> None:
    assert open_remote(address).address("a") == shown


@pytest.mark.parametrize("address", ["hf://me/digits", "hf://models/me", "hf://spaces/me/app", "hf://models/a b/c"])
def test_addresses_that_are_none(address: str) -> None:
    with messages.raises(UsageError, "huggingface/malformed-address"):
        open_remote(address)
    with messages.raises(RemoteRefused, "remote/not-an-object-name", name="'../up'"):
        open_remote("hf://models/me/digits/../up")
