"""What `python -m benchmarks.yolo compare` says of its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks.yolo import __main__ as benchmark
from tests import messages


def round_of(seconds: float, mib: float, map50: float = 0.5) -> dict[str, Any]:
    return {"seconds": seconds, "core_seconds": seconds, "peak_mib": mib, "map": map50 / 2, "map50": map50}


def test_the_goals_are_judged_by_pairs() -> None:
    """A machine that became slower between two pairs changes no share."""
    found = {
        benchmark.OURS: [round_of(10, 620), round_of(31, 620), round_of(10, 660)],
        benchmark.FED: [round_of(99, 900)],
        benchmark.ALONE: [round_of(10, 600), round_of(30, 600), round_of(8, 600)],
    }
    lines = benchmark.verdicts(found)
    assert [line.partition(":")[0] for line in lines] == ["mAP with equal batches", "wall time", "memory"]
    assert ": equal (" in lines[0]
    assert "1.033 of ultralytics alone, median of 3 pairs (1.000 to 1.250)" in lines[1]
    assert [line.rpartition(": ")[2] for line in lines[1:]] == ["reached", "reached"]
    found[benchmark.OURS][1:] = [round_of(32, 700), round_of(10, 700, map50=0.4)]
    found[benchmark.FED] = [round_of(99, 900, map50=0.4)]
    lines = benchmark.verdicts(found)
    assert "DIFFERENT (0.25000 and 0.20000)" in lines[0]
    assert [line.rpartition(": ")[2] for line in lines[1:]] == ["NOT REACHED", "NOT REACHED"]


def test_what_a_comparison_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None if name == "polars" else name)
    with messages.raises(SystemExit, "yolo/benchmark-needs", package="polars"):
        benchmark.compare({}, 1, tmp_path)
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: name)
    with messages.raises(SystemExit, "yolo/benchmark-no-folder", folder=tmp_path / "none"):
        benchmark.compare({}, 1, tmp_path / "none")
