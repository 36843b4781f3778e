"""Sinks that show a run in a tracker. Each starts a process that sends the journal (`feeder`), and wakes it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import outlast
from outlast.errors import UsageError
from outlast.terminal import words_of
from outlast.tracking.sink import NotingSink, RunFacts, SaveFacts
from outlast.tracking.sinks.client import TRACKERS
from outlast.tracking.sinks.feeder import UNUSABLE

WAIT = 4.0
"""Seconds that the end of an attempt waits for the process; less than it waits for all sinks."""

MOST_STARTS = 3
"""Processes that are started for one attempt, if they die."""

_CODE = "import sys; sys.path.append(sys.argv[1]); from outlast.tracking.sinks.feeder import main; main()"


class Tracker(NotingSink):
    """Base of the sinks that show a run in a tracker."""

    name = ""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = options
        self._request = ""
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._starts = 0
        self._run = ""

    @property
    def title(self) -> str:
        """The name of the tracker."""
        return TRACKERS[self.name]

    def started(self, facts: RunFacts, config: Mapping[str, Any]) -> None:
        """Start the process."""
        self._run = str(facts.folder)
        request = {
            "run": str(facts.folder.absolute()),
            "to": self.name,
            "options": self._options,
            "config": dict(config) or None,
            "artifacts": str(facts.artifacts.absolute()) if facts.artifacts else None,
            "parent": os.getpid(),
        }
        self._request = json.dumps(request, default=str)
        self._start()

    def saved(self, save: SaveFacts) -> None:  # noqa: ARG002
        """Wake the process; start another one if it has died."""
        self._wake("look")
        if self._process is not None and self._process.poll() not in (None, UNUSABLE) and self._starts < MOST_STARTS:
            died = f"its process ended unexpectedly ({self._process.returncode})"
            self.notes.append(("warning", f"{self.title}: {died}; it is started again."))
            self._start()

    def artifact(self, name: str, path: Path) -> None:  # noqa: ARG002
        """Wake the process."""
        self._wake("look")

    def closed(self) -> None:
        """Have the process send the rest, and wait a little for it."""
        if self._process is None:
            return
        deadline = time.monotonic() + WAIT
        self._wake("end")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(WAIT)
        if self._process.poll() is None:
            self._say_that_it_continues(self._process)
        elif self._reader is not None:
            self._reader.join(max(0.0, deadline - time.monotonic()))

    def _say_that_it_continues(self, process: subprocess.Popen[str]) -> None:
        sentence = (
            f"{self.title}: process {process.pid} sends the rest, for a minute at most; afterwards, "
            f"`outlast sync {self._run} --to {self.name}` sends what is missing."
        )
        self.notes.append(("info", sentence))
        process.returncode = 0  # nobody waits for it

    def _start(self) -> None:
        self._starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, str(Path(outlast.__path__[0]).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            env={**os.environ, "PYTHONUTF8": "1"},
        )
        self._reader = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self._wake(self._request)

    def _wake(self, word: str) -> None:
        stream = self._process.stdin if self._process else None
        with contextlib.suppress(OSError, ValueError):  # it has died; `saved` starts another
            if stream is not None:
                stream.write(f"{word}\n")
                stream.flush()

    def _listen(self, answers: Any) -> None:
        try:
            for line in answers:
                level, sentence = json.loads(line)
                self.notes.append((str(level), str(sentence)))
        except (ValueError, TypeError, OSError) as error:
            self.notes.append(("warning", f"{self.title}: its process gave no answer ({words_of(error)})."))


class TensorBoard(Tracker):
    """Writes the run's metrics, pictures and config as event files for TensorBoard.

    After a resume, each step is there once, also if the process was killed: points of steps that are repeated are
    replaced. `tensorboard --logdir runs` shows all runs.

    Args:
        folder: parent of a folder with the run's name, for the files. Default: `tensorboard` in the run folder.
    """

    name = "tensorboard"

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        super().__init__(folder=None if folder is None else str(Path(folder).absolute()))


class WandB(Tracker):
    """Shows the run in Weights & Biases: one W&B run for all sessions, each step once.

    Without a key (WANDB_API_KEY) it is written to `trackers/wandb` in the run folder, and `wandb sync` uploads it. A
    step is sent when a checkpoint at or after it is committed, since W&B cannot take it back.

    Args:
        project: name of the project. Default: WANDB_PROJECT, else "outlast".
        entity: user or team.
        mode: "online" or "offline". Default: WANDB_MODE, else online if there is a key.
    """

    name = "wandb"

    def __init__(self, project: str | None = None, entity: str | None = None, mode: str | None = None) -> None:
        if mode not in (None, "online", "offline"):
            raise UsageError(f"WandB was given mode={mode!r:.60}; expected 'online' or 'offline'.")
        super().__init__(project=project, entity=entity, mode=mode)


class MLflow(Tracker):
    """Shows the run in MLflow: one MLflow run for all sessions, each step once.

    A step is sent when a checkpoint at or after it is committed, since MLflow cannot take it back.

    Args:
        uri: of the tracking server or database, without a password. Default: MLFLOW_TRACKING_URI, else `mlflow.db`
            beside the run folder.
        experiment: name of the experiment. Default: MLFLOW_EXPERIMENT_NAME, else "outlast".
    """

    name = "mlflow"

    def __init__(self, uri: str | None = None, experiment: str | None = None) -> None:
        super().__init__(uri=uri, experiment=experiment)


class Trackio(Tracker):
    """Shows the run in trackio's local database: one trackio run for all sessions, each step once.

    A step is sent when a checkpoint at or after it is committed, since trackio cannot take it back.

    Args:
        project: name of the project. Default: TRACKIO_PROJECT, else "outlast".
    """

    name = "trackio"

    def __init__(self, project: str | None = None) -> None:
        super().__init__(project=project)


def tracker(name: str) -> Tracker:
    """The sink of a tracker by its name, with its usual settings."""
    kinds: tuple[type[Tracker], ...] = (TensorBoard, WandB, MLflow, Trackio)
    return next(kind() for kind in kinds if kind.name == name)
