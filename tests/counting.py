"""A run that counts: the smallest training that every room's tests share."""

from __future__ import annotations

import json
from pathlib import Path


class Counter:
    """The smallest thing that can be tracked."""

    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> dict:
        return {"value": self.value}

    def load_state_dict(self, state: dict) -> None:
        self.value = state["value"]


def attempts(root: Path, name: str = "r") -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((root / name / "attempts").glob("*.json"))]


def count_to(run, counter: Counter, stop_at: int | None = None) -> None:
    run.track(counter=counter)
    for step in run.steps():
        counter.value += step
        run.log(value=counter.value)
        if step == stop_at:
            run.session.request_stop("budget", "a test asks")
