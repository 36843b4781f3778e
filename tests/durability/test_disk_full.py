"""A disk that takes no more: training goes on or stops cleanly, and the last good checkpoint is intact."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore, verify
from outlast.errors import SaveFailed
from outlast.folder import layout
from outlast.folder.layout import RunFolder
from tests import messages
from tests.durability.digits import final, train


class Failing:
    """os functions that fail from the n-th call below a folder on, for a number of calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, code: int, first: int, times: int) -> None:
        self.root, self.code, self.first, self.last, self.count = str(root), code, first, first + times, 0
        self.descriptors: set[int] = set()
        opened, write, fsync = os.open, os.write, os.fsync

        def open_(path, flags, *more, **options):
            descriptor = opened(path, flags, *more, **options)
            watched = str(path).startswith(self.root) and not str(path).endswith("lock") and flags & os.O_WRONLY
            (self.descriptors.add if watched else self.descriptors.discard)(descriptor)
            return descriptor

        def write_(descriptor, data):
            if descriptor in self.descriptors:
                self.fail()
            return write(descriptor, data)

        def fsync_(descriptor):
            if descriptor in self.descriptors:
                self.fail()
            return fsync(descriptor)

        monkeypatch.setattr(os, "open", open_)
        monkeypatch.setattr(os, "write", write_)
        monkeypatch.setattr(os, "fsync", fsync_)

    def fail(self) -> None:
        self.count += 1
        if self.first <= self.count < self.last:
            raise OSError(self.code, os.strerror(self.code))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("twin")
    train(root, save_every="2 steps")
    return final(root)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=["ENOSPC", "EIO", "EACCES"])
def test_one_failed_save_is_reported_and_training_continues(
    tmp_path: Path, monkeypatch, code: int, twin: dict[str, str]
) -> None:
    failing = Failing(monkeypatch, tmp_path / "digits/checkpoints", code, first=20, times=1)
    assert train(tmp_path, save_every="2 steps") == "finished"
    assert failing.count > 20
    told = json.loads((tmp_path / "digits/attempts/0001.json").read_text())["told"]
    messages.said(told, "checkpoint/step-could-not-be-written", step=re.compile(r"\d+"), error=os.strerror(code))
    assert final(tmp_path) == twin


def test_enospc_at_every_write(tmp_path: Path, twin: dict[str, str]) -> None:
    """The disk is full from the n-th write on and for ever; then there is room again."""
    with pytest.MonkeyPatch.context() as patch:
        counter = Failing(patch, tmp_path / "count", errno.ENOSPC, first=10**9, times=0)
        train(tmp_path / "count", save_every="2 steps")
    for point in range(1, counter.count + 1, 11):
        root = tmp_path / f"at{point}"
        with pytest.MonkeyPatch.context() as patch:
            Failing(patch, root, errno.ENOSPC, first=point, times=10**9)
            with pytest.raises((SaveFailed, OSError)):
                train(root, save_every="2 steps")
        for path in root.glob("digits/checkpoints/step-*"):
            if (path / layout.MANIFEST).exists():
                verify(path)
        assert train(root, save_every="2 steps") == "finished"
        assert final(root) == twin, point


def test_too_little_space_is_seen_before_writing(tmp_path: Path, monkeypatch) -> None:
    train(tmp_path, stop_after=4)
    usage = type("Usage", (), {"free": 1_000_000})()
    monkeypatch.setattr("outlast.checkpoint.prune.shutil.disk_usage", lambda path: usage)
    with messages.raises(SaveFailed, "checkpoint/needs-more-space", needed="16 MiB", free="1 MiB"):
        train(tmp_path)
    monkeypatch.undo()
    assert [checkpoint.step for checkpoint in CheckpointStore(RunFolder(tmp_path / "digits")).committed()] == [4]


def test_a_real_small_disk(tmp_path: Path, monkeypatch) -> None:
    """A tmpfs that is really full, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    monkeypatch.setattr("outlast.checkpoint.prune.SPARE", 0)
    try:
        assert train(disk, stop_after=4) == "preempted"
        good = final(disk)
        (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 30_000))
        with pytest.raises((SaveFailed, OSError)):
            train(disk)
        assert final(disk)["model.safetensors"] == good["model.safetensors"]
        (disk / "ballast").unlink()
        assert train(disk) == "finished"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
