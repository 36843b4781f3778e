"""Runs for the tests of reports."""

from __future__ import annotations

import base64
from pathlib import Path

import outlast
from outlast.folder.layout import RunFolder

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


class State:
    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> dict[str, object]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.value = state["value"]


def train(root: Path, name: str = "r", total: int = 30, stop: int | None = None) -> RunFolder:
    """Train until the end, or until a step at which the session asks to stop."""
    try:
        keep = outlast.Retention(best=1, metric="val", mode="min")
        with outlast.open_run(name, total_steps=total, root=root, save="10 steps", keep=keep, progress="none") as run:
            run.track(state=State())
            for step in run.steps():
                run.log(loss=1 / step)
                if step % 10 == 0:
                    run.log(val=abs(step - 20) / 10)
                if step == stop:
                    raise RuntimeError("the power fails </script>")
    except RuntimeError:
        pass
    return RunFolder(root / name)
