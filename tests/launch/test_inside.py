"""What a session does before it trains takes its time from the training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from outlast import errors
from outlast.launch import inside
from tests import processes

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


@pytest.mark.parametrize(
    ("ends", "others", "code"),
    [
        (75, {}, 75),
        (inside.RANK_GONE, {}, inside.RANK_GONE),
        (inside.RANK_GONE, {1: "75", 2: "8"}, inside.RANK_GONE),
        (inside.RANK_GONE, {2: "1"}, 1),
        (inside.RANK_GONE, {1: "nonsense"}, inside.RANK_GONE),
        (0, {1: "1"}, 0),
        (ValueError("a fault"), {}, 1),
        (SystemExit(75), {}, 75),
        (SystemExit(), {}, 0),
        (SystemExit("words"), {}, 1),
        (errors.RankGone("one is gone"), {}, inside.RANK_GONE),
        (errors.RankFailed("Rank 1: a fault"), {}, 1),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:538] Connection closed by peer [::1]:1"), {}, inside.RANK_GONE),
        (RuntimeError("gloo is a word"), {}, 1),
        (RuntimeError("Connection closed by peer"), {}, 1),
    ],
)
def test_a_rank_that_disappeared_is_told_from_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: object, others: dict[int, str], code: int
) -> None:
    def main(*_: Path) -> int:
        if isinstance(ends, BaseException):
            raise ends
        return int(str(ends))

    monkeypatch.setattr(inside, "main", main)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank, text in others.items():
        (tmp_path / f"exit.{rank}").write_text(text)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        if isinstance(ends, BaseException):
            with pytest.raises(type(ends)):
                inside.report(tmp_path, tmp_path, tmp_path / "exit")
        else:
            assert inside.report(tmp_path, tmp_path, tmp_path / "exit") == (code if rank == "0" else ends)
    assert (tmp_path / "exit").read_text() == str(code)
    assert not (tmp_path / "exit.0").exists()


def test_ranks_that_really_end_are_gone(tmp_path: Path) -> None:
    """What torch says in a collective of the training when another process is killed."""
    pytest.importorskip("torch")
    script = (
        "import os, torch\nfrom outlast.distributed import ranks\n"
        "torch.distributed.init_process_group('gloo')\n"
        "torch.distributed.all_reduce(torch.ones(1))\n"
        "os.kill(os.getpid(), 9) if torch.distributed.get_rank() else None\n"
        "try:\n    torch.distributed.all_reduce(torch.ones(1))\n"
        "except Exception as error:\n    print(ranks.says_gone(error), type(error), error, flush=True)\n"
        "os._exit(0)\n"
    )
    first, second = processes.start_ranks([sys.executable, "-c", script], 2)
    out, err = first.communicate(60)
    assert out.startswith("True "), out + err
    second.communicate(60)
