"""outlast publish --gc: lists what can be deleted, and deletes when asked to."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import messages
from tests.publish import making
from tests.publish.test_gc import age, names, put

from outlast.cli import main
from outlast.publish import dvc
from outlast.remote.folder import FolderRemote


def test_it_lists_and_then_deletes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FolderRemote(tmp_path / "store")
    server = making.server(tmp_path / "server")
    making.by_git(tmp_path, store, str(server), making.clone(server, tmp_path / "clone"))
    used, garbage = names(store), dvc.object_name("0" * 32)
    put(store, tmp_path, garbage, b"x" * 2000)
    age(store, 15)
    put(store, tmp_path, dvc.object_name("1" * 32))

    assert main(["publish", "--gc", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert garbage in out
    messages.said(out, "publish/gc-counts", used=2, unused=1, grace="14d00h")
    messages.said(out, "publish/gc-can-be-deleted", count=1, size="2.0 kB")
    assert garbage in names(store)

    assert main(["publish", "--gc", str(store.root), "--delete", "--git", str(server)]) == 0
    messages.said(capsys.readouterr().out, "publish/gc-deleted", count=1, size="2.0 kB")
    assert names(store) == used | {dvc.object_name("1" * 32)}
    assert making.wrong_with_branch(server, store.root) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["r", "--gc", "x"], messages.says("publish/gc-whole-store")),
        (["--gc", "x", "--to", "y"], messages.says("publish/gc-whole-store")),
        (["r", "--to", "x", "--delete"], messages.says("publish/delete-belongs-to-gc")),
        (["--gc", "x", "--grace", "soon"], messages.says("publish/gc-grace-soon", value="soon")),
        (["--gc", "x", "--grace", "1h"], messages.says("publish/gc-grace-typed", seconds=3600)),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: messages.Message,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    assert main(["publish", *words]) == 2
    messages.said(capsys.readouterr().err, said)


def test_a_secret_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    import outlast

    with outlast.open_run("r", total_steps=1, root=tmp_path / "runs", progress="none") as run:
        state = run.restore({"w": np.zeros(2)})
        for _ in run.steps():
            run.offer(state)
        with run.artifact("notes.txt") as path:
            path.write_text("Authorization: Bearer a-secret-of-mine")
    words = [
        "publish",
        "r",
        "--checkpoint-dir",
        str(tmp_path / "runs"),
        "--part",
        "state",
        "--to",
        str(tmp_path / "store"),
    ]
    monkeypatch.setenv("SERVICE_TOKEN", "a-secret-of-mine")
    for more in (["--dry-run"], []):
        assert main([*words, *more]) == 1
        err = capsys.readouterr().err
        messages.said(err, "publish/secret-of-the-file", file="train/notes.txt", name="SERVICE_TOKEN")
        assert "a-secret-of-mine" not in err
        assert not (tmp_path / "store").exists()
    monkeypatch.delenv("SERVICE_TOKEN")
    assert main(words) == 0
    assert "is visible" in capsys.readouterr().out
