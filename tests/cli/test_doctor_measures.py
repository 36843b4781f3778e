"""`outlast doctor RECIPE --on ...` as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import messages

from outlast.cli import main
from outlast.cli import measuring as doctor_measuring
from outlast.launch.provider import Quota
from outlast.recipe import measuring
from outlast.recipe.measuring import Measured

SIZED = Path(__file__).parents[1] / "recipe/sized.py"
RANKED = SIZED.with_name("ranked.py")


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SIZED, tmp_path / "sized.py")
    monkeypatch.chdir(tmp_path)


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = main(["doctor", "./sized.py", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_it_measures_and_says_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--on", "local", "--session", "1h", "--wait", "0.01", "-b", "8")
    assert (code, found["problems"]) == (0, 0)
    assert found["measured"]["total"] == 1000
    assert found["forecast"]["sessions"] == 1
    assert found["forecast"]["session"] == 3600
    assert found["forecast"]["steps_per_session"] == pytest.approx(3580 / found["forecast"]["step"], rel=0.02)
    assert not Path("runs").exists()
    assert sorted(path.name for path in Path().iterdir() if not path.name.startswith("__")) == ["sized.py"]


def test_another_machine_is_not_guessed_at(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--on", "kaggle", "--accelerator", "cpu")
    assert code == 0
    assert found["forecast"]["steps_per_session"] is None
    assert found["forecast"]["slowest"] > 1
    rows = {row["name"]: row for row in found["checks"]}
    assert "says nothing of cpu" in rows["steps there"]["value"]
    assert rows["quota"]["mark"] == "ok"


def test_what_fails_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--on", "local", "--fails", "1")
    assert (code, found["problems"]) == (1, 1)
    (row,) = (row for row in found["checks"] if row["mark"] == "!")
    assert row["value"] == "ValueError: as it was told to"


def test_a_run_that_has_begun_is_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "./sized.py", "--budget", "3s", "--wait", "0.02"]) == 75
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    code, found = doctor(capsys, "--on", "local")
    assert code == 0
    assert 0 < found["forecast"]["steps_left"] < 1000
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")} == before


def test_find_batch_tells_its_tries(capsys: pytest.CaptureFixture[str]) -> None:
    Path("configs/environment").mkdir(parents=True)
    Path("configs/environment/local.yaml").write_text("constraints:\n  ram_gb: 0.5\n")
    assert main(["doctor", "./sized.py", "--find-batch", "--megabytes", "60", "-b", "2", "--wait", "0.1"]) == 0
    done = capsys.readouterr()
    tries = [line for line in done.err.splitlines() if line.startswith("batch ")]
    assert tries[0].startswith("batch 2: fits, ")
    assert "does not fit: it was ended at" in tries[-1]
    assert "of the 500.0 MB that configs/environment/local.yaml:2 states" in tries[-1]
    assert "--batch-size 4, of powers of two" in done.out


def test_nothing_is_left_of_a_doctor_that_is_killed() -> None:
    words = [sys.executable, "-m", "outlast", "doctor", "./sized.py", "--on", "local", "--wait", "600"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(Path().glob(".outlast-doctor-*/record-0.jsonl")))
    (folder,) = Path().glob(".outlast-doctor-*")
    inner = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(inner) == 1
    process.kill()
    process.wait()
    wait_for(lambda: not folder.exists() and not Path(f"/proc/{inner[0]}/fd/0").exists())


def wait_for(there: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not there():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.long
def test_ranks_are_measured_together_or_said_not_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="ranks of torchrun need torch")
    shutil.copy(RANKED, "ranked.py")
    there = ["--on", "kaggle", "--accelerator", "t4x2", "--within", "100s", "--json"]
    assert main(["doctor", "./ranked.py", "--nproc", "2", *there]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"]["ranks"] == 2
    assert {"mark": "ok", "name": "ranks there", "value": "2, as measured here"} in found["checks"]
    assert main(["doctor", "./sized.py", *there]) == 0
    assert "ranks there" not in {row["name"] for row in json.loads(capsys.readouterr().out)["checks"]}


def test_sessions_of_several_ranks_here_are_measured_with_as_many(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(RANKED, "ranked.py")
    asked = []
    monkeypatch.setattr("outlast.launch.local.provider.gpus", lambda: ("one", "two"))
    monkeypatch.setattr(measuring, "run", lambda *words: asked.append(words[-1]) or Measured("error", "not tried"))
    for words in (["./ranked.py", "--on", "local"], ["./sized.py", "--on", "local"], ["./ranked.py", "--on", "kaggle"]):
        assert main(["doctor", *words, "--json"]) == 1
    assert asked == [2, 1, 1]
    assert main(["doctor", "./sized.py", "--on", "local", "--nproc", "2"]) == 2
    messages.said(capsys.readouterr().err, "cli/doctor-one-process", recipe="'sized'", ranks=2)
    assert len(asked) == 3


def test_a_quota_that_is_used_up_is_a_problem() -> None:
    provider: Any = SimpleNamespace(
        title="Place", quotas=lambda: [Quota("TPU", 0.0, 9.0), Quota("GPU", 3600.0, 7200.0), Quota("NPU", 9.0, 9.0)]
    )
    assert doctor_measuring._quota(provider, None) == ("ok", "quota", "sessions of this kind use none")
    assert doctor_measuring._quota(provider, "GPU") == ("ok", "quota", "1h00m of GPU time are left this week")
    assert doctor_measuring._quota(provider, "NPU")[0] == "!"
    assert doctor_measuring._quota(provider, "CPU")[0] == "-"


def test_the_best_checkpoints_need_disk_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Measured("ok", start=1.0, first=1.0, steps=(1.0,), total=9, checkpoint=10**6, save=0.1)
    monkeypatch.setattr(measuring, "run", lambda *_: found)
    words = ["doctor", "digits", "--on", "local", "--keep-last", "2", "--keep-best", "3", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["forecast"]["disk"] == 6 * 10**6


def test_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "./sized.py", "--on", "nowhere"]) == 2
    assert main(["doctor", "./sized.py", "--on", "local", "--time", "4h"]) == 2
    capsys.readouterr()
