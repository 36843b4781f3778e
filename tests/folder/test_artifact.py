"""Manifests of artifacts: what they name, and every way in which an artifact can differ from its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests import messages

from outlast.errors import CorruptCheckpoint, UsageError
from outlast.folder import artifact
from outlast.folder.artifact import manifest_of, manifests_in, read_manifest, verify_artifact, write_manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with two files, and its manifest beside it."""
    (tmp_path / "model/sub").mkdir(parents=True)
    (tmp_path / "model/a.bin").write_bytes(b"abc")
    (tmp_path / "model/sub/b.txt").write_text("b")
    write_manifest(tmp_path / "model", "model", {"run": "a" * 32, "step": 3, "part": None})
    return tmp_path / "model"


def test_a_manifest_names_every_file_with_its_hash_and_what_it_was_made_from(model: Path) -> None:
    record = verify_artifact(manifest_of(model))
    assert record["files"] == {
        "model/a.bin": {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()},
        "model/sub/b.txt": {"size": 1, "sha256": hashlib.sha256(b"b").hexdigest()},
    }
    assert (record["name"], record["run"], record["step"]) == ("model", "a" * 32, 3)
    assert "part" not in record
    assert manifests_in(model.parent) == [model.parent / "model.manifest.json"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: (model / "a.bin").write_bytes(b"xyz"), "a.bin"),
        (lambda model: (model / "a.bin").write_bytes(b"abcd"), "a.bin"),
        (lambda model: (model / "a.bin").unlink(), "a.bin"),
        (lambda model: (model / "new.bin").write_bytes(b""), "new.bin"),
    ],
)
def test_a_file_that_was_changed_lost_or_added_is_named(model: Path, change, named: str) -> None:
    change(model)
    with pytest.raises(CorruptCheckpoint, match=named):
        verify_artifact(manifest_of(model))


def test_a_link_in_place_of_a_file_is_not_followed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"abc")
    (model / "a.bin").unlink()
    (model / "a.bin").symlink_to(tmp_path / "other")
    with messages.raises(CorruptCheckpoint, "folder/cannot-be-read-is-link-where", file="a.bin"):
        verify_artifact(manifest_of(model))


@pytest.mark.parametrize("change", [Path.rmdir, lambda path: (path.rmdir(), path.symlink_to("/etc/hostname"))])
def test_a_manifest_without_files_is_of_an_empty_folder(tmp_path: Path, change) -> None:
    (tmp_path / "empty").mkdir()
    write_manifest(tmp_path / "empty", "empty", {})
    assert verify_artifact(manifest_of(tmp_path / "empty"))["files"] == {}
    change(tmp_path / "empty")
    with pytest.raises(CorruptCheckpoint, match="empty"):
        verify_artifact(manifest_of(tmp_path / "empty"))
    with pytest.raises(UsageError, match="empty"):
        write_manifest(tmp_path / "empty", "empty", {})


@pytest.mark.parametrize("name", ["other/a.bin", "../secret", "model/../../secret", "/etc/passwd", "model//a", ""])
def test_a_manifest_names_no_file_of_others(model: Path, name: str) -> None:
    record = json.loads(manifest_of(model).read_text())
    record["files"] = {name: {"size": 1, "sha256": "0" * 64}}
    record["digest"] = artifact._digest({key: value for key, value in record.items() if key != "digest"})
    manifest_of(model).write_text(json.dumps(record))
    with messages.raises(CorruptCheckpoint, "folder/artifact-names-a-file-of-others", name=repr(name)):
        read_manifest(manifest_of(model))


def test_a_manifest_that_was_changed_is_none(model: Path) -> None:
    text = manifest_of(model).read_text()
    manifest_of(model).write_text(text.replace('"step": 3', '"step": 4'))
    with messages.raises(CorruptCheckpoint, "folder/was-changed-after-it-was-written"):
        read_manifest(manifest_of(model))


def test_the_same_artifact_has_the_same_manifest(model: Path) -> None:
    before = manifest_of(model).read_bytes()
    write_manifest(model, "model", {"run": "a" * 32, "step": 3})
    assert manifest_of(model).read_bytes() == before
