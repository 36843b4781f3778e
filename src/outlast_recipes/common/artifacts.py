"""Artifacts that a finished training writes once."""

from __future__ import annotations

import json

from outlast import Run


def is_written(run: Run, name: str) -> bool:
    """Whether an earlier attempt has written this artifact at this step, and this one had nothing to train.

    A second manifest, of another attempt, would make another publication of the same run.
    """
    if run.resumed_from != run.step:
        return False
    try:
        found = json.loads((run.folder / "artifacts" / f"{name}.manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("step") == run.step
