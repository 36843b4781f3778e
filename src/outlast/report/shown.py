"""`outlast.show`: the curves of a run in a cell of a notebook, drawn again while it trains."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from outlast.config.units import is_finite
from outlast.errors import OutlastError, UnknownName, UsageError
from outlast.folder.layout import RunFolder, runs_root
from outlast.report.curves import draw_curves
from outlast.report.runs import read_run
from outlast.report.thinning import Curves

_SHARE = 50
"""A drawing is followed by a pause of so many times its computing time: training may need the same core."""

_shown: dict[Path, _Shown] = {}


def show(name: str | Path, *, root: str | Path | None = None, interval: float = 10.0) -> None:
    """Draw the curves of a run in this cell of a notebook, and draw them again while it trains.

    It returns at once, so the next cell can train. The run may also train in another process, and may not have begun.
    Needs matplotlib (`pip install 'outlast[plots]'`).

    Args:
        name: the run's name or folder.
        root: folder that holds the run folders; by default OUTLAST_ROOT, or "runs".
        interval: seconds between two looks at the journal. If a drawing takes long, it is more.

    Raises:
        UsageError: this is no notebook, the interval is not positive, or matplotlib is not installed.
    """
    if not is_finite(interval) or not interval > 0:
        raise UsageError(f"interval is {interval!r}; expected more than 0 seconds.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("Drawing curves needs matplotlib: pip install 'outlast[plots]'.")
    display = _display()
    folder = Path(name) if os.sep in str(name) else runs_root(root) / name
    folder = folder.resolve()
    if before := _shown.pop(folder, None):
        before.stop()
    shown = _shown[folder] = _Shown(folder, display, interval)
    shown.look()
    threading.Thread(target=shown.follow, name="outlast-show", daemon=True).start()


def _display() -> Any:
    """A place for output in the current cell."""
    shell = None
    with contextlib.suppress(ModuleNotFoundError):
        from IPython import get_ipython
        from IPython.display import display

        shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        raise UsageError(
            "outlast.show draws in a cell of a notebook, and this is none. `outlast report NAME` writes a page, and "
            "`outlast report NAME --png` a picture."
        )
    return display({"text/plain": "outlast"}, raw=True, display_id=True)


class _Shown:
    """A run that is shown in one cell."""

    def __init__(self, folder: Path, display: Any, interval: float) -> None:
        self._folder, self._display, self._interval = RunFolder(folder), display, interval
        self._curves: Curves | None = None
        self._stopped = threading.Event()
        self._state = ""
        self._pause = interval

    def stop(self) -> None:
        self._stopped.set()

    def follow(self) -> None:
        """Draw again whenever something was logged; ends when another cell shows the same run."""
        while not self._stopped.wait(self._pause):
            self.look()

    def look(self) -> None:
        """Draw if there is something new. What cannot be read now is looked at again later."""
        begun = time.thread_time()
        with contextlib.suppress(OutlastError, OSError):
            self._draw()
        self._pause = max(self._interval, _SHARE * (time.thread_time() - begun))

    def _draw(self) -> None:
        try:
            info = read_run(self._folder.path)
        except UnknownName:
            self._say(f"{self._folder.path.name} has not begun.")
            return
        if self._curves is None or not self._curves.continues(self._folder.journal):
            self._curves = Curves(info.renamed)
        grown = self._curves.more(self._folder.journal)
        reached = max([info.step, *(int(curve.last[0]) for curve in self._curves.by_name.values())])
        of = f" of {info.total_steps:,}" if info.total_steps else ""
        words = f"{info.id}: {info.status}, step {reached:,}{of}"
        if not any(curve.count for curve in self._curves.by_name.values()):
            self._say(f"{words}; nothing was logged yet.")
        elif grown or words != self._state:
            self._picture(words, self._curves)
            self._state = words

    def _picture(self, words: str, curves: Curves) -> None:
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            made = draw_curves(self._folder.path, Path(scratch) / "curves.png", curves.known)
            picture = base64.b64encode(made.read_bytes()).decode()
        self._display.update({"image/png": picture, "text/plain": words}, raw=True)

    def _say(self, words: str) -> None:
        if words != self._state:
            self._state = words
            self._display.update({"text/plain": words}, raw=True)
