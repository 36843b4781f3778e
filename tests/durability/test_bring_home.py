"""Killed before every file operation of bringing a run home: nothing here is lost, and doing it again ends as if
nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.folder import durable
from outlast.remote.gather import bring_home
from tests.durability.crash import Counter, attempt
from tests.folders import place, walk


def whole(folder: Path) -> dict[str, bytes]:
    """All files of a run folder but unfinished ones, which the next attempt sweeps away."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {str(path.relative_to(folder)): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if ".tmp-" not in name}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`before`: steps 2, 4 and a damaged 6. `away`: a copy of it went on to 8, in an attempt between our two."""
    root = tmp_path_factory.mktemp("homes")
    walk(root / "before", stop=4, last=9)
    shutil.copytree(root / "before", root / "away")
    walk(root / "away", stop=8, last=9)
    walk(root / "before", stop=6, last=9)
    (root / "before/r/checkpoints/step-00000006/state.json").write_text("damaged")
    for folder, started in ((root / "away", "2030-01-01T00:00:00Z"), (root / "before", "2030-01-01T00:00:01Z")):
        path = folder / "r/attempts/0002.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
        events = {"event": "began", "attempt": json.loads(path.read_text())["id"]}
        path.with_name("0002.events.jsonl").write_text(json.dumps(events))
        (folder / "r/config.json").write_text(json.dumps({"format": 2, "values": {"of": folder.name}}))
    return root


def id_of(root: Path, number: int) -> str:
    return json.loads((root / f"r/attempts/{number:04d}.json").read_text())["id"]


def id_of_events(root: Path, number: int) -> str:
    return json.loads((root / f"r/attempts/{number:04d}.events.jsonl").read_text())["attempt"]


@pytest.mark.parametrize(("way", "links"), [("kill", True), ("power", True), ("power", False)])
def test_every_fourth_point(homes: Path, tmp_path: Path, way: str, links: bool, monkeypatch) -> None:
    if not links:  # the copy is in another file system
        monkeypatch.setattr(durable, "link_file", lambda *_: False)
    killed(homes, tmp_path, way, 4, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kill", "power"])
def test_every_point(homes: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(homes, tmp_path, way, 1, monkeypatch)


def killed(homes: Path, tmp_path: Path, way: str, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill it before every such operation, or cut the power there; then do it again, and go on training."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill needs none, and the power is cut by us
    root, twin = tmp_path / "home", tmp_path / "twin"

    def come(home: Path) -> None:
        bring_home(place(home), [homes / "away"])

    shutil.copytree(homes / "before", twin)
    come(twin)
    expected = whole(twin / "r")
    assert {"config.json", "attempts/0003.json", "checkpoints/step-00000008/MANIFEST.json"} <= set(expected)
    assert "set-aside/step-00000006-1/state.json" in expected
    ours = {json.loads(path.read_text())["id"] for path in (homes / "before/r/attempts").glob("*.json")}
    assert {number: id_of_events(twin, number) for number in (2, 3)} == {
        number: id_of(twin, number) for number in (2, 3)
    }
    point = 1 - stride
    while True:
        point += stride
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(homes / "before", root)
        status = attempt(come, root, "outlast", Counter(root, point, power=way == "power", torn=True, seed=point))
        assert not (tmp_path / "error.txt").exists(), (point, (tmp_path / "error.txt").read_text())
        lost = tmp_path / "lost.txt"
        assert not lost.exists() or lost.read_text().startswith("step-00000006"), lost.read_text()
        lost.unlink(missing_ok=True)
        there = {json.loads(path.read_text())["id"] for path in (root / "r/attempts").glob("0*.json")}
        assert ours <= there, point
        steps = [checkpoint.step for checkpoint in CheckpointStore(place(root)).committed()]
        assert {2, 4} <= set(steps), point
        come(root)
        found = whole(root / "r")
        # The rename that sets it aside is in two folders: after a power cut it may be in both, and is then set aside
        # once more.
        again = [name for name in found if name.startswith("set-aside/step-00000006-2/") and way == "power"]
        assert {name: found[name] for name in found if name not in again} == expected, point
        assert all(found[name] == expected[name.replace("-2/", "-1/")] for name in again), point
        if not os.WIFSIGNALED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert point > 60, "operations of it"
    assert walk(root, stop=10, last=9).resumed_from == 8
