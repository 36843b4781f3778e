"""A disk that is full when a training is started, or that holds its temporary files: one sentence, no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests import messages

import outlast
from outlast.cli import main, train
from outlast.folder.lock import Lock


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/digits/run.json"), "runs/digits/run.json"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            "No usable temporary directory found in ['/tmp']",
        ),
    ],
)
def test_a_full_disk_is_said(
    error: OSError, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(train, "run", full)
    assert main(["train", "digits"]) == 1
    messages.said(capsys.readouterr().err, "cli/full-disk", what=what)


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ELOOP])
def test_a_path_that_no_file_can_have_is_said(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(_argv: list[str]) -> int:
        raise OSError(number, os.strerror(number), "data/plates")

    monkeypatch.setattr(train, "run", wrong)
    assert main(["train", "digits"]) == 1
    messages.said(capsys.readouterr().err, "cli/path-of-no-file", path="data/plates", why=os.strerror(number))


def test_another_failure_of_a_recipe_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_argv: list[str]) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "data.csv")

    monkeypatch.setattr(train, "run", missing)
    with pytest.raises(FileNotFoundError):
        main(["train", "digits"])


def test_a_disk_that_is_full_at_the_start_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is the first file that is written; it is free again afterwards."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Lock, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            outlast.open_run("one", total_steps=1, root=tmp_path)
    with outlast.open_run("one", total_steps=1, root=tmp_path) as run:
        assert run.step == 0
