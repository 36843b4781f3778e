"""A command for tests of launching: it counts in a file, one step in each session, and ends with 0 at the last."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outlast.folder.layout import RunFolder
from outlast.integrations.command import digest_of
from outlast.integrations.patterns import Patterns
from outlast.launch.command import CommandWork

COUNT = """
import pathlib, sys
from lib.total import TOTAL
state = pathlib.Path("out/state")
state.parent.mkdir(exist_ok=True)
done = int(state.read_text()) + 1 if state.exists() else 1
state.write_text(str(done))
pathlib.Path("unkept.txt").write_text("gone with the session")
print("counted to", done, *sys.argv[1:])
sys.exit(0 if done == TOTAL else 75)
"""


def write(folder: Path) -> None:
    """A folder with the command."""
    (folder / "lib").mkdir()
    (folder / "lib/total.py").write_text("TOTAL = 3\n")
    (folder / "count.py").write_text(COUNT)


def work(words: Sequence[str] = ("python", "count.py"), keep: Sequence[str] = ("out",), **more: Any) -> CommandWork:
    """The command as it is launched from the working folder."""
    patterns, folder = Patterns(keep), RunFolder(Path("runs/walk"))
    made = CommandWork(
        words,
        digest_of(words, 1),
        Path.cwd(),
        folder,
        patterns.match,
        patterns.reaches,
        flags=[f"--keep={each}" for each in keep],
    )
    return dataclasses.replace(made, **more)
