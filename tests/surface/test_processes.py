"""The forked processes of tests end as processes that were started do: with the same code and the same last words."""

from __future__ import annotations

import sys

import pytest
from tests import processes


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("pass", 0, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(75)", 75, ""),
        ("raise SystemExit(256 + 3)", 3, ""),
        ("raise SystemExit('no room')", 1, "no room"),
        ("raise ValueError('no room')", 1, "ValueError: no room"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_how_it_ends(code: str, status: int, words: str) -> None:
    done = processes.run([sys.executable, "-c", code], template="launch")
    assert (done.returncode, (done.stderr.splitlines() or [""])[-1]) == (status, words)
