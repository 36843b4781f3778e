"""What a session does before it trains takes its time from the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outlast.launch import inside

RECIPE = """
import numpy as np
import outlast


def train(run, config):
    state = run.restore({"x": np.zeros(1)})
    for _ in run.steps(2):
        run.offer(state, budget=config.budget)


def before(config, flags, begun):
    yield "looks"


recipe = outlast.Recipe(name="brief", summary="brief", Config=outlast.Config, train=train, before=before)
"""


@pytest.mark.parametrize(("took", "code", "budgets"), [(0.5, 0, [100.0] * 2), (30.0, 0, [70.0] * 2), (99.0, 75, [])])
def test_the_budget_is_what_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: float, code: int, budgets: list[float]
) -> None:
    (tmp_path / "recipe.py").write_text(RECIPE)
    clock = iter([1000.0, 1000.0 + took])
    monkeypatch.setattr(inside, "now", lambda: next(clock))
    asked = {"recipe": "recipe.py", "source": "recipe.py", "run": "r", "budget": 100, "values": {}, "step": 0}
    (tmp_path / "request.json").write_text(json.dumps(asked))
    assert inside.main(tmp_path / "request.json", tmp_path) == code
    journal = tmp_path / "runs/r/journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    assert [json.loads(line)["budget"] for line in lines] == budgets
