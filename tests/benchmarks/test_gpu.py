"""make check-gpu where there is no GPU: it says so; and its checks themselves, tried on the processor."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gpu import __main__ as check_gpu
from benchmarks.gpu.results import same
from tests.conftest import REPOSITORY
from tests.counting import Counter


def test_without_a_gpu_nothing_is_checked_and_the_reason_is_said(monkeypatch, capsys) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: run make check-gpu")
    monkeypatch.setattr(sys, "argv", ["check-gpu"])
    assert check_gpu.main() == 0
    said = capsys.readouterr().out
    assert said.startswith(f"skipped: torch {torch.__version__} sees no CUDA device")
    assert said.count("\n") == 1


def test_a_check_that_fails_or_takes_too_long_is_a_row_and_not_the_end(capfd) -> None:
    report = check_gpu.Report(check_gpu.time.monotonic() + 60)
    found = report.run("benchmarks.gpu.single", "no such check", "nowhere", "cpu")
    assert "KeyError: 'no such check'" in str(found["error"])
    late = check_gpu.Report(check_gpu.time.monotonic() - 1)
    check_gpu.single(late, Path("nowhere"), "cpu")
    assert [verdict for _, verdict, _ in late.rows] == ["skipped"] * 3
    assert late.table().count("\n") == 4


@pytest.fixture
def two(opened, tmp_path: Path) -> tuple[Path, Path]:
    """Two run folders of one training."""
    with opened("one", total_steps=3) as run:
        run.track(counter=(counter := Counter()))
        for _ in run.steps():
            counter.value += 1
            run.log(value=counter.value)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    return tmp_path / "one", tmp_path / "other"


def test_two_runs_that_are_the_same_differ_in_nothing(two) -> None:
    assert same(*two) is None


def test_another_value_another_journal_and_another_step_are_named(two) -> None:
    one, other = two
    state = other / "checkpoints" / "step-00000003" / "state.json"
    whole = state.read_text()
    record = json.loads(whole)
    record["parts"]["counter"] = "another"
    state.write_text(json.dumps(record))
    assert "counter" in str(same(one, other))
    state.write_text(whole)
    (other / "journal.jsonl").write_text("")
    assert same(one, other) == "the journals differ"
    shutil.rmtree(other / "checkpoints")
    assert "no checkpoint" in str(same(one, other))


@pytest.mark.slow
def test_all_of_it_on_the_processor() -> None:
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--megabytes", "8"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "| FAILED |" not in ended.stdout
    assert ended.stdout.count("| ok |") == 8
