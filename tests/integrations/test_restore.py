"""Kept files in a checkpoint and back: streamed, verified, and written nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests import messages

from outlast.checkpoint import CheckpointStore, OpenedCheckpoint, open_checkpoint
from outlast.checkpoint.record import LoopRecord, StateRecord
from outlast.checkpoint.snapshot import Snapshot
from outlast.errors import CorruptCheckpoint, ResumeRefused, UnsafeFolder
from outlast.folder.layout import RunFolder
from outlast.integrations import collect
from outlast.integrations.collect import FileChanged
from outlast.integrations.patterns import KeptFile, Patterns
from outlast.integrations.restore import Restored, restore
from outlast.state.array import Array

JOURNAL = {"bytes": 0, "xxh3_128": "0" * 32}


def commit(tmp_path: Path, shot: Snapshot) -> OpenedCheckpoint:
    (tmp_path / "run").mkdir(parents=True)
    return open_checkpoint(CheckpointStore(RunFolder(tmp_path / "run")).commit(shot).path)


def kept(tmp_path: Path, contents: Mapping[str, bytes]) -> OpenedCheckpoint:
    """A checkpoint of files."""
    source = tmp_path / "source"
    for path, data in contents.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    found = Patterns(["**"]).find(source)
    assert found.files.keys() == contents.keys()
    return commit(tmp_path, collect.snapshot(1, "final", source, found.files, JOURNAL))


def forged(tmp_path: Path, node: Any, arrays: Mapping[str, Array], kind: str = "files") -> OpenedCheckpoint:
    """A checkpoint whose hashes are right, with a list of files that someone made up."""
    record = StateRecord(1, LoopRecord(), JOURNAL, {"files": {"kind": kind, "state": node}}, None)
    return commit(tmp_path, Snapshot.of(1, "final", {"files": arrays}, record.as_json()))


def back(tmp_path: Path, opened: OpenedCheckpoint, *patterns: str, keep_newer: bool = False) -> Restored:
    folder = tmp_path / "target"
    folder.mkdir(exist_ok=True)
    return restore(opened, folder, Patterns(patterns or ["**"]), tmp_path / "aside", keep_newer=keep_newer)


def entry(path: str, **other: Any) -> dict[str, Any]:
    return {"$array": path, "mode": 0o644, "mtime": 10**18, **other}


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    contents = {"a.pt": b"\x00" * 3_000_000 + b"end", "deep/er/b": b"", "deep/c": b"c"}
    source = tmp_path / "source"
    source.mkdir()
    opened = kept(tmp_path, contents)
    (source / "deep/c").chmod(0o755)
    result = back(tmp_path, opened)
    target = tmp_path / "target"
    assert {path: (target / path).read_bytes() for path in contents} == contents
    assert sorted(result.written) == sorted(contents)
    assert (target / "a.pt").stat().st_mtime_ns == (source / "a.pt").stat().st_mtime_ns
    again = back(tmp_path, opened)
    assert not again.written
    assert not again.replaced
    assert again.paths == set(contents)


def test_permissions_come_back(tmp_path: Path) -> None:
    data = Array("U8", (1,), b"x")
    back(tmp_path, forged(tmp_path, {"tool": entry("tool", mode=0o755)}, {"tool": data}))
    assert (tmp_path / "target/tool").stat().st_mode & 0o777 == 0o755


def test_a_file_that_differs_is_copied_aside_or_kept(tmp_path: Path) -> None:
    opened = kept(tmp_path, {"a": b"stored", "b": b"same"})
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").write_bytes(b"change")
    (target / "b").write_bytes(b"same")
    assert back(tmp_path, opened, keep_newer=True).newer == ["a"]
    assert (target / "a").read_bytes() == b"change"
    assert back(tmp_path, opened).replaced == ["a"]
    assert (target / "a").read_bytes() == b"stored"
    assert (tmp_path / "aside/a").read_bytes() == b"change"


@pytest.mark.parametrize(
    "path", ["../escaped", "/tmp/escaped", "a/../../escaped", ".bashrc", "unnamed", "a//b", "a/./b"]
)
def test_a_forged_path_is_not_written(tmp_path: Path, path: str) -> None:
    opened = forged(tmp_path, {path: entry(path)}, {path: Array("U8", (1,), b"x")})
    assert back(tmp_path, opened, "a", "*.pt").unnamed == [path]
    assert not list((tmp_path / "target").iterdir())
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    ("node", "arrays"),
    [
        ({"a": entry("b")}, {"a": Array("U8", (1,), b"x"), "b": Array("U8", (1,), b"y")}),
        ({"a": entry("a")}, {"a": Array("U8", (1, 1), b"x")}),
        ({"a": entry("a")}, {"a": Array("I8", (1,), b"x")}),
        ({"a": entry("a", mode=0o4755)}, {"a": Array("U8", (1,), b"x")}),
        ({"a": entry("a", mtime=-1)}, {"a": Array("U8", (1,), b"x")}),
        ({"a": []}, {}),
        ([], {}),
    ],
)
def test_a_forged_list_is_refused(tmp_path: Path, node: Any, arrays: Mapping[str, Array]) -> None:
    with pytest.raises(CorruptCheckpoint):
        back(tmp_path, forged(tmp_path, node, arrays))
    assert not list((tmp_path / "target").iterdir())


def test_the_sentence_about_forged_contents(tmp_path: Path) -> None:
    with messages.raises(CorruptCheckpoint, "integrations/no-file", path="weights"):
        back(tmp_path, forged(tmp_path, {"weights": entry("weights")}, {"weights": Array("I8", (1,), b"x")}))
    with messages.raises(CorruptCheckpoint, "integrations/no-list"):
        back(tmp_path, forged(tmp_path / "other", [], {}))


def test_a_checkpoint_of_a_script_is_refused(tmp_path: Path) -> None:
    with messages.raises(ResumeRefused, "integrations/of-a-script", parts="files"):
        back(tmp_path, forged(tmp_path, {}, {}, kind="object"))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    opened = kept(tmp_path, {"model": b"x", "out/b": b"y"})
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (target / "out").symlink_to(elsewhere)
    with messages.raises(UnsafeFolder, "integrations/in-the-way", place="out", kind="link", wanted="folder"):
        back(tmp_path, opened)
    assert not list(elsewhere.iterdir())
    assert not (target / "model").exists()
    (target / "out").unlink()
    (target / "model").mkdir()
    with messages.raises(UnsafeFolder, "integrations/in-the-way", place="model", kind="folder", wanted="file"):
        back(tmp_path, opened)


@pytest.mark.parametrize("change", ["longer", "shorter", "touched", "deleted", "link"])
def test_a_file_that_changes_fails_the_save(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"four")
    files: dict[str, KeptFile] = Patterns(["a"]).find(tmp_path).files
    if change == "touched":
        path.write_bytes(b"4444")
    elif change in ("deleted", "link"):
        path.unlink()
        if change == "link":
            path.symlink_to("/etc/hostname")
    else:
        path.write_bytes(b"longer" if change == "longer" else b"s")
    (tmp_path / "run").mkdir()
    store = CheckpointStore(RunFolder(tmp_path / "run"))
    with messages.raises(FileChanged, "integrations/changed"):
        store.commit(collect.snapshot(1, "final", tmp_path, files, JOURNAL))
    assert not store.committed()
