"""Files of configs/ that a command names: they are found from any folder, and a user's own file comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.cli import main

NAME = "configs/experiments/001_loc_baseline.yaml"


def test_a_file_of_configs_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "yolo", "--experiment", NAME]) == 0
    assert "yolo11s-pose" in capsys.readouterr().out
    own = tmp_path / NAME
    own.parent.mkdir(parents=True)
    own.write_text("model:\n  architecture: yolo11n-pose\n")
    assert main(["config", "yolo", "--experiment", NAME]) == 0
    assert "yolo11n-pose" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["configs/experiments/none.yaml", "configs", "experiments/001_loc_baseline.yaml"])
def test_a_file_that_is_nowhere_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "yolo", "--experiment", name]) == 2
    assert f"{name} does not exist" in capsys.readouterr().err
