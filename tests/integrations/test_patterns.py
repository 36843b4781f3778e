"""Which files `--keep` names, and that no pattern and no path leaves the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests import messages

from outlast.errors import UsageError
from outlast.integrations.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("out", "out/a.pt", True),
        ("out", "out/deep/er/.hidden", True),
        ("out", "output/a.pt", False),
        ("out/*.pt", "out/a.pt", True),
        ("out/*.pt", "out/deep/a.pt", False),
        ("./out/", "out/a.pt", True),
        ("**/*.pt", "a.pt", True),
        ("**/*.pt", "x/y/a.pt", True),
        ("**/*.pt", ".git/a.pt", False),
        ("**", "x/y/a.pt", True),
        ("*", ".bashrc", False),
        (".cache", ".cache/a", True),
        ("a?.t[xy]", "a1.tx", True),
        ("a?.t[xy]", "a/.tx", False),
        ("x/**/**/z", "x/z", True),
        ("**", "../a", False),
        ("**", "x/../../a", False),
        ("**", "/etc/passwd", False),
        ("**", "x//a", False),
        ("**", "x/./a", False),
        ("**", "", False),
        ("**", "x\\..\\a", False),
        ("**", "x\na", False),
        ("**", "x\0a", False),
        ("**", "/".join("x" * 200), False),
        ("**", "x" * 300, False),
    ],
)
def test_match(pattern: str, path: str, matches: bool) -> None:
    assert Patterns([pattern]).match(path) is matches


def test_many_wildcards_take_no_time() -> None:
    assert not Patterns(["/".join(["**", "x"] * 20)[:-1] + "y"]).match("/".join("x" * 99))


@pytest.mark.parametrize("pattern", ["/etc", "..", "a/../b", "", ".", "~/x", "a\\b", "a\nb"])
def test_a_pattern_that_leaves_the_folder_is_refused(pattern: str) -> None:
    with messages.raises(UsageError, "integrations/pattern", pattern=repr(pattern)):
        Patterns([pattern])


def test_find_follows_no_links_and_leaves_out_run_folders(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for path in ("out/a.pt", "out/deep/b.pt", "out/.tmp-c.pt", "runs/x/run.json", ".git/config"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("secret")
    (folder / "out/link.pt").symlink_to(elsewhere / "secret")
    (folder / "linked").symlink_to(elsewhere)
    os.mkfifo(folder / "out/pipe")
    found = Patterns(["**"], [folder / "runs"]).find(folder)
    assert sorted(found.files) == ["out/a.pt", "out/deep/b.pt"]
    assert found.nbytes == len("out/a.pt") + len("out/deep/b.pt")
    for path, kind in (("linked", "a link"), ("out/link.pt", "a link"), ("out/pipe", "a special file")):
        messages.said(found.strange, "integrations/strange", path=path, kind=kind)


def test_find_says_which_names_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "a\nb").write_text("x")
    (tmp_path / os.fsdecode(b"\xff")).write_text("x")
    found = Patterns(["*"]).find(tmp_path)
    assert not found.files
    assert len(found.strange) == 2
    messages.said(found.strange, "integrations/name", path=repr("a\nb"))


def test_no_pattern_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    assert not Patterns([]).find(tmp_path).files
    assert not Patterns([]).match("a")


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast.integrations.patterns.MOST", 2)
    for name in "abc":
        (tmp_path / name).write_text("x")
    with messages.raises(UsageError, "integrations/too-many"):
        Patterns(["*"]).find(tmp_path)
