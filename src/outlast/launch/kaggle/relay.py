"""Launch, wait, bring home, again: until the run is finished, however many sessions it takes.

What it knows is in the run folder (launches/, attempts/, checkpoints/), so it may be killed at any moment and started again:
a launch that is on record is waited for and brought home before another one is made.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from outlast.checkpoint import Store
from outlast.errors import LaunchError
from outlast.files import RunFolder
from outlast.launch.kaggle.client import Kaggle
from outlast.launch.kaggle.launch import NothingLeft, fetch, launch, listen
from outlast.launch.records import LaunchRecord, all_launches
from outlast.recipe import Prepared
from outlast.report import read_run

_UNCERTAIN = 60.0  # seconds for which a push without an answer may still turn up
_LEAST = 900.0  # GPU seconds below which a session is not worth its start


@dataclass(frozen=True)
class Pace:
    """How often to ask, in seconds: while a session runs; and what waits (time.sleep, or a test)."""

    ask: float = 45.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self) -> None:
        """Wait about that long; not all relays of the world at once."""
        self.sleep(self.ask * random.uniform(0.7, 1.3))  # noqa: S311


def relay(
    kaggle: Kaggle,
    prepare: Callable[[], Prepared],
    *,
    accelerator: str,
    internet: bool = True,
    seconds: float | None = None,
    max_sessions: int | None = None,
    tell: Callable[[str], None],
    pace: Pace | None = None,
) -> None:
    """Train on Kaggle until the run is finished.

    Args:
        kaggle: the account.
        prepare: what to train, looked at anew before every session.
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether kernels may reach the outside.
        seconds: budget of a session; as long as the platform allows when not given.
        max_sessions: launches by this call, at most.
        tell: says a sentence to the user.
        pace: how often to ask.

    Raises:
        LaunchError: a session failed by itself, two sessions in a row came no further, no hours are left, or as many sessions as
            allowed were not enough.
        KaggleRefused: as of `Kaggle.push`.
    """
    pace = pace or Pace()
    folder, launched = prepare().folder, 0
    while True:
        record = _unfetched(kaggle, folder, pace)
        if record is None:
            if _finished(folder):
                tell(f"{folder.path.name} is finished at step {_step(folder)}")
                return
            _refuse_without_progress(folder)
            if launched == max_sessions:
                raise LaunchError(
                    f"{folder.path.name} is at step {_step(folder)} after {launched} sessions and not finished. Run the same command to go on."
                )
            _refuse_without_hours(kaggle, accelerator)
            record = launch(kaggle, prepare(), accelerator=accelerator, internet=internet, seconds=seconds)
            launched += 1
            tell(f"session {record.number} is pushed: {record.record['url']}")
        else:
            tell(f"session {record.number} ({record.record['slug']}) is on record and not at home yet")
        state = _wait(kaggle, record, pace, tell)
        before = _step(folder)
        try:
            told = fetch(kaggle, record) if state != "lost" else []
        except NothingLeft:
            told = [f"session {record.number} has left nothing"]
        record.learn(state="fetched", step=_step(folder))
        for sentence in told:
            tell(sentence)
        if state.startswith("failed"):
            raise LaunchError(
                f"Session {record.number} ended as {state}, which another session would only repeat: read `outlast logs {folder.path.name}`. What it had "
                f"saved is here, at step {_step(folder)}."
            )
        tell(f"session {record.number}: {state}, step {before} -> {_step(folder)}{_forecast(folder)}")


def _unfetched(kaggle: Kaggle, folder: RunFolder, pace: Pace) -> LaunchRecord | None:
    """The launch that is still to be brought home; a push that nobody answered is looked for first."""
    records = all_launches(folder)
    if not records or records[-1].record["state"] not in ("pushing", "pushed"):
        return None
    record = records[-1]
    if record.record["state"] == "pushing":
        end = time.monotonic() + _UNCERTAIN
        while kaggle.status(record.record["slug"]) is None:
            if time.monotonic() > end:
                record.learn(state="lost")
                return None
            pace.pause()
        record.learn(state="pushed")
    return record


def _wait(kaggle: Kaggle, record: LaunchRecord, pace: Pace, tell: Callable[[str], None]) -> str:
    """Wait for the end of a session; returns how it ended."""
    said = ""
    while (status := kaggle.status(record.record["slug"])) is not None and not status.over:
        if status.state != said:
            said = status.state
            tell(f"session {record.number} is {said}")
        pace.pause()
    return listen(kaggle, record)


def _refuse_without_progress(folder: RunFolder) -> None:
    steps = [launch.record["step"] for launch in all_launches(folder) if "step" in launch.record]
    before = [0, *steps]
    if len(steps) > 1 and before[-1] == before[-2] == before[-3]:
        raise LaunchError(
            f"The last two sessions of {folder.path.name} came no further than step {steps[-1]}; a third would be spent for nothing. Read `outlast logs "
            f"{folder.path.name}`, and launch one by hand when the reason is gone."
        )


def _refuse_without_hours(kaggle: Kaggle, accelerator: str) -> None:
    quota = kaggle.quota()
    if accelerator == "t4x2" and quota.gpu_left < _LEAST:
        when = f" They are given anew {quota.refresh:%A %d %B, %H:%M} UTC." if quota.refresh else ""
        raise LaunchError(
            f"{quota.gpu_left / 60:.0f} minutes of GPU are left this week, too few for a session.{when} Run the same command then."
        )


def _finished(folder: RunFolder) -> bool:
    return folder.run.exists() and read_run(folder.path).status == "finished"


def _step(folder: RunFolder) -> int:
    committed = Store(folder).committed()
    return committed[-1].step if committed else 0


def _forecast(folder: RunFolder) -> str:
    """How many sessions more, by what the ones so far have done."""
    if not folder.run.exists():
        return ""
    total, step = read_run(folder.path).total_steps, _step(folder)
    sessions = len([launch for launch in all_launches(folder) if "step" in launch.record])
    if not total or not step or step >= total:
        return ""
    return f" of {total}: about {-(-(total - step) * sessions // step)} more"
