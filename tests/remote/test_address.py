"""Addresses of remotes, and what must not be in one."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

import pytest
from tests import messages

from outlast.errors import RemoteRefused, UsageError
from outlast.remote import address
from outlast.remote.address import Driver, open_remote
from outlast.remote.folder import FolderRemote


@pytest.mark.parametrize("written", ["{}", "file://{}", "FILE://{}", "file://localhost{}"])
def test_a_folder(tmp_path: Path, written: str) -> None:
    remote = open_remote(written.format(tmp_path / "a"))
    assert isinstance(remote, FolderRemote)
    assert remote.root == tmp_path / "a"
    assert remote.capabilities.writes is True
    assert open_remote(written.format(tmp_path), writes=False).capabilities.writes is False


def test_a_folder_with_odd_characters(tmp_path: Path) -> None:
    folder = tmp_path / "100% #1?"
    for written in (str(folder), folder.as_uri()):
        remote = open_remote(written)
        assert isinstance(remote, FolderRemote)
        assert remote.root == folder
    assert "%25" in urllib.parse.quote(str(folder))


@pytest.mark.parametrize("written", ["file://elsewhere/a", "file://"])
def test_a_folder_of_another_machine_is_refused(written: str) -> None:
    with messages.raises(RemoteRefused, "remote/file-address-with-host", address=written):
        open_remote(written)


def test_an_unknown_scheme_names_the_nearest() -> None:
    with messages.raises(UsageError, "remote/unknown-scheme", mean="file://"):
        open_remote("fille:///a")


@pytest.mark.parametrize(
    "written", ["file://me:hunter2@localhost/a", "file://hunter2@localhost/a", "file:///a?x=hunter2"]
)
def test_a_secret_in_an_address_is_refused_and_not_shown(written: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_remote(written)
    assert "hunter2" not in str(caught.value)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(address.DRIVERS, "s3", Driver("no_such_library", "s3://BUCKET", extra="s3"))
    error = ModuleNotFoundError("No module named 'nothing'", name="nothing.inner")
    monkeypatch.setattr(address.importlib, "import_module", lambda name: (_ for _ in ()).throw(error))
    with messages.raises(UsageError, "remote/library-missing", install="outlast[s3]"):
        open_remote("s3://bucket/prefix")


@pytest.mark.parametrize("options", ["region=a&region=b", "region=", "region", "Region=a", "region=a&", "x=a"])
def test_an_option_is_given_once_and_by_its_name(options: str) -> None:
    with messages.raises(UsageError, "remote/unknown-option"):
        open_remote(f"s3://bucket/prefix?{options}")
