"""What a session on Kaggle installs for the recipe: ultralytics alone, by its hash, and where it is missing."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import pytest

from outlast.config import resolve
from outlast.launch import bundle
from outlast.launch.kaggle import runner
from outlast.recipe import prepare, registry
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.packages import packages
from tests.conftest import REPOSITORY


def needed(architecture: str) -> list[str]:
    request = prepare.Request(flags={"model.architecture": architecture})
    found: list[str] = bundle.request_of(prepare.prepare(registry.find("yolo"), request), budget=60)["packages"]
    return found


def test_a_request_names_what_its_architecture_needs() -> None:
    (pinned,) = needed("yolo26n-pose")
    assert pinned in (REPOSITORY / "hashes.txt").read_text().splitlines()
    assert needed("tiny") == []
    assert packages(resolve(YoloConfig).config) == (pinned,)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    made: list[list[str]] = []

    def called(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        made.append(words[words.index("--disable-pip-version-check") + 1 :])
        return subprocess.CompletedProcess(words, int("fail" in words[-1]))

    monkeypatch.setattr(subprocess, "run", called)
    return made


def test_it_is_installed_by_its_hash_where_it_is_missing(
    tmp_path: Path, calls: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    here = importlib.metadata.version("numpy")
    assert runner.install(tmp_path, [f"numpy=={here} --hash=sha256:1"])
    assert calls == []
    assert runner.install(tmp_path, [f"numpy=={here} --hash=sha256:1", "other==1 --hash=sha256:2"])
    assert calls == [["--no-deps", "-r", str(tmp_path / "packages.txt")]]
    assert (tmp_path / "packages.txt").read_text() == "other==1 --hash=sha256:2\n"
    (tmp_path / "fail/wheels").mkdir(parents=True)
    assert not runner.install(tmp_path / "fail", ["other==1 --hash=sha256:2"])
    assert calls[-1][:2] == ["--no-index", "--find-links"]
    assert "other==1" in capsys.readouterr().out
