"""The checkpoints of a run that are inputs of later stages of its chain. Retention never deletes them.

No file records the pins. The run.json of each later stage names its inputs, and its folder is beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence

from outlast.errors import OutlastError
from outlast.folder import layout, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN


def unpinned(folder: RunFolder, steps: Sequence[int]) -> list[int]:
    """The steps whose checkpoints no later stage needs, in the same order."""
    needed = pinned(folder) if steps else set()
    return [step for step in steps if step not in needed]


def pinned(folder: RunFolder) -> set[int]:
    """Steps of the checkpoints that later stages need to continue. A run.json that cannot be read pins none."""
    own = folder.path.name
    beginning, dot, _ = own.partition(".")
    if not dot:  # the run of a stage has the name CHAIN.STAGE
        return set()
    steps: set[int] = set()
    for path in plain.entries(folder.path.parent):
        if path.name == own or not path.name.startswith(f"{beginning}.") or not layout.RUN_ID.fullmatch(path.name):
            continue
        try:
            about = reading.read_record(RunFolder(path).run, RUN)
        except (OSError, OutlastError):
            continue
        chain = about.get("chain", {}).get("name")
        for stage, known in about.get("inputs", {}).items():
            if own in (known["run"], f"{chain}.{stage}"):
                steps.add(known["step"])
    return steps
