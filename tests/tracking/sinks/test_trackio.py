"""What trackio has after kills and resumes, read back with its own storage: each step once, in one trackio run."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from tests.tracking.sinks.runs import kill, points, send, train

pytest.importorskip("trackio", reason="needs trackio: pip install 'outlast[trackio]'")


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where trackio keeps what it is sent."""
    storage = importlib.import_module("trackio.sqlite_storage")
    (tmp_path / "trackio").mkdir()
    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")


def shown(root: Path) -> dict[str, list[tuple[int, float]]]:
    import trackio

    uid = json.loads((root / "r/run.json").read_text())["uid"]
    assert trackio.SQLiteStorage.get_runs("outlast") == [f"r-{uid[:8]}"]
    found: dict[str, list[tuple[int, float]]] = {}
    for row in trackio.SQLiteStorage.get_logs("outlast", f"r-{uid[:8]}"):
        for name, value in row.items():
            if name not in ("step", "timestamp"):
                found.setdefault(name, []).append((row["step"], value))
    return found


def test_each_step_is_there_once_in_one_trackio_run(opened, tmp_path: Path) -> None:
    from outlast.tracking.sinks.trackio import open_client

    for number, leave_at in enumerate((8, 14, None)):
        train(opened, 20, leave_at=leave_at, add=number / 4)
        if leave_at == 14:
            kill(tmp_path)
        send(tmp_path, open_client(), "trackio", keep=number != 1)
        assert send(tmp_path, open_client(), "trackio").lines == 0
    assert shown(tmp_path) == points(tmp_path)
