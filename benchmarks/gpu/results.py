"""Two run folders against each other, without a framework."""

from __future__ import annotations

import json
from pathlib import Path

from outlast.checkpoint import CheckpointStore
from outlast.folder.layout import RunFolder


def same(one: Path, other: Path) -> str | None:
    """In words what differs between the newest checkpoints and the journals of two runs; None: not one byte.

    The state's own record holds a clock and the attempt's number; the arrays' files and the parts in it are compared.
    """
    newest = []
    for folder in (one, other):
        committed = CheckpointStore(RunFolder(folder)).committed()
        if not committed:
            return f"{folder} has no checkpoint"
        newest.append(committed[-1])
    ours, theirs = newest
    if ours.step != theirs.step:
        return f"one run is at step {ours.step} and the other at step {theirs.step}"
    files = [
        {name: entry["xxh3_128"] for name, entry in each.manifest["files"].items() if name.endswith(".safetensors")}
        for each in newest
    ]
    if files[0] != files[1]:
        different = sorted(
            name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name)
        )
        return f"other bytes at step {ours.step} in {', '.join(different)}"
    parts = [json.loads((each.path / "state.json").read_text())["parts"] for each in newest]
    if parts[0] != parts[1]:
        different = sorted(name for name in parts[0] if parts[0][name] != parts[1].get(name))
        return f"other values at step {ours.step} in {', '.join(different)}"
    journals = [(folder / "journal.jsonl").read_bytes() for folder in (one, other)]
    return None if journals[0] == journals[1] else "the journals differ"
