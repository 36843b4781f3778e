"""A relay goes on after a session in which a rank has disappeared, and not after one that failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FAULT = """
        if step == 5 and not pathlib.Path("lost").exists():
            pathlib.Path("lost").write_text("")
            raise outlast.errors.KIND("a rank")
"""


@pytest.mark.parametrize(("kind", "sessions", "code"), [("RankGone", 2, 0), ("RankFailed", 1, 1)])
def test_a_lost_rank(laptop, kind: str, sessions: int, code: int) -> None:
    place: Path = laptop.folder / "walk/recipe.py"
    text = place.read_text().replace("        time.sleep(config.pause)\n", f"        time.sleep(config.pause)\n{FAULT}")
    place.write_text(text.replace("KIND", kind))
    words = ("relay", "walk", "--on", "local", "--session", "30s", "--ask-every", "0.1", "--stop-every", "0")
    done = laptop(*words, "--experiment-name", "walk", "--save-every", "1 steps")
    assert done.returncode == code, done.stdout + done.stderr
    launches = sorted((laptop.folder / "runs/walk/launches").glob("*.json"))
    assert len(launches) == sessions
    if not code:
        assert "session 1: a rank was lost, step 0 -> " in done.stdout
        attempts = sorted((laptop.folder / "runs/walk/attempts").glob("000?.json"))
        assert [json.loads(each.read_text())["end"]["reason"] for each in attempts] == ["failed", "finished"]
