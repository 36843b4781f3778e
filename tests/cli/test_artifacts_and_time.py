"""What verify, export and status say of artifacts and of the time of attempts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from tests import messages

import outlast
from outlast.cli import main
from outlast.environment import Environment, Limits
from outlast.folder.artifact import verify_artifact

HERE = Environment("local", Limits(seconds=None, ram=2**34, cores=2))


class Weights:
    def __init__(self) -> None:
        self.values = np.zeros(4)

    def state_dict(self) -> dict:
        return {"values": self.values}

    def load_state_dict(self, state: dict) -> None:
        self.values = state["values"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Path:
    """A run with two artifacts, whose validation took 90 seconds by its clock."""
    leaps, real = [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + leaps[0])

    def validate() -> None:
        leaps[0] += 45.0

    with outlast.open_run("r", total_steps=2, root="runs", progress="none", environment=HERE) as run:
        run.track(model=Weights())
        run.validate(validate, "1 steps")
        for _ in run.steps():
            pass
        for name in ("plots/a.txt", "b.txt"):
            with run.artifact(name) as path:
                path.write_text(name)
    return tmp_path / "runs/r"


def test_verify_hashes_artifacts_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "r"]) == 0
    shown = capsys.readouterr().out
    messages.said(shown, "cli/artifacts-with-manifest-verify", number=2, artifacts=2)
    assert "plots/a.txt" in shown
    (run / "artifacts/b.txt").write_text("B.txt")
    assert main(["verify", "r"]) == 1
    shown = capsys.readouterr().out
    messages.said(shown, "cli/artifacts-with-manifest-verify", number=1, artifacts=2)
    assert "DAMAGED" in shown


def test_an_artifact_without_a_manifest_is_no_damage(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "artifacts/b.txt.manifest.json").unlink()
    assert main(["verify", "r"]) == 0
    messages.said(capsys.readouterr().out, "cli/artifacts-with-manifest-verify", number=1, artifacts=1)


def test_what_is_exported_has_a_manifest_beside_it(run: Path, tmp_path: Path, capsys) -> None:
    Path("m.safetensors.manifest.json").write_text("of an older one")
    assert main(["export", "r", "--part", "model", "-o", "m.safetensors"]) == 0
    messages.said(capsys.readouterr().out, "cli/its-manifest", file="m.safetensors", file2="manifest.json")
    record = verify_artifact(Path("m.safetensors.manifest.json"))
    about = json.loads((run / "run.json").read_text())
    checkpoint = json.loads((run / "checkpoints/step-00000002/MANIFEST.json").read_text())
    assert (record["run"], record["run_id"], record["step"], record["part"]) == (about["uid"], "r", 2, "model")
    assert (record["checkpoint"], record["attempt"]) == (checkpoint["digest"], checkpoint["attempt"])
    assert list(record["files"]) == ["m.safetensors"]


def test_status_says_where_the_time_went_and_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "r"]) == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("attempt 1 took 1m")]
    assert "evaluation" in line
    assert "waiting for data" not in line
    messages.said(shown, "run/a-long-attempt-ends-with-where-2")
    assert main(["status", "r", "--json"]) == 0
    (attempt,) = json.loads(capsys.readouterr().out)["attempts"]
    assert attempt["seconds"]["evaluation"] == pytest.approx(90, abs=2)
    assert attempt["seconds"]["data"] is None


def test_status_of_a_run_without_events_says_nothing_of_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.unlink(run / "attempts/0001.events.jsonl")
    assert main(["status", "r"]) == 0
    assert " took " not in capsys.readouterr().out
    assert main(["status", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attempts"][0]["seconds"] is None
