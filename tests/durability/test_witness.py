"""The outside witness: ckpt-chaos kills three scripts at each of its crash points, starts them again and compares the
weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("witness.py")


def witness(work: Path, modes: str, script: str, *options: str, most: int = 10**6) -> list[dict]:
    """What ckpt-chaos recorded of every point; its own verdicts decide its exit code."""
    command = [sys.executable, "-m", "ckpt_chaos", "run", "--result-file", "{out}/final.npy", "--work", str(work)]
    command += ["--modes", modes, "--grace", "60", "--max-points", str(most), "--", sys.executable, str(SCRIPT), script]
    done = subprocess.run(
        [*command, "{out}", *options],
        capture_output=True,
        text=True,
        timeout=7200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    (work / "verdicts.txt").write_text(done.stdout + done.stderr)
    points = [json.loads(path.read_text()) for path in sorted(work.glob("pt_*/result.json"))]
    assert len(points) >= 2, done.stdout + done.stderr
    assert (done.returncode == 0) == all(judge(point) == "PASS" for point in points), done.stdout[-3000:]
    return points


def judge(point: dict) -> str:
    from ckpt_chaos.invariants import ResumeOutcome, classify

    return classify(ResumeOutcome(**point["outcome"]))


def verdicts(points: list[dict]) -> Counter:
    return Counter(judge(point) for point in points)


@pytest.mark.parametrize("script", ["torch_10_lines", "jax_10_lines", "workers"])
def test_killed_at_every_crash_point(tmp_path: Path, script: str) -> None:
    points = witness(tmp_path / "work", "before,torn", script)
    assert verdicts(points) == {"PASS": len(points)}
    killed = [point for point in points if point["crashed"]]
    assert len(killed) == len(points) - 1, "all but the control"
    assert len(killed) >= 75
    assert sum(point["point"][1] == "torn" for point in killed) >= 20


@pytest.mark.parametrize("script", ["torch_10_lines", "jax_10_lines", "workers"])
def test_terminated_at_some_of_them(tmp_path: Path, script: str) -> None:
    points = witness(tmp_path / "work", "term", script, most=10)
    assert verdicts(points) == {"PASS": len(points)}
    assert any(point["rc"] == 75 for point in points), "stopped cleanly after a save"


def test_it_finds_a_naive_store_wanting(tmp_path: Path) -> None:
    found = verdicts(witness(tmp_path / "work", "torn", "workers", "--store", "naive"))
    # Of three saves of four files: state.json of the first, without which nothing is read, and all files of the others.
    assert found["HARD_FAIL"] == 1 + 2 * 4, found
