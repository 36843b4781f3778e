"""Launch, wait, bring home, again: until the run is finished, however many sessions it takes.

What it knows is in the run folder (launches/, attempts/, checkpoints/), so it may be killed at any moment and started again:
a launch that is on record is waited for and brought home before another one is made.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from outlast.checkpoint import Store
from outlast.config.units import format_seconds
from outlast.errors import AnswerLost, KaggleRefused, LaunchError
from outlast.folder.layout import RunFolder
from outlast.launch.down import delete
from outlast.launch.fetch import NothingLeft, fetch
from outlast.launch.inside import MISSING_CHECKPOINT
from outlast.launch.kaggle.client import MOMENT, Kaggle, Quota, Status
from outlast.launch.kaggle.setup import check_user
from outlast.launch.records import LaunchRecord, all_launches, launching
from outlast.launch.start import Terms, launch_next
from outlast.launch.watch import follow, state_of
from outlast.recipe.prepare import Prepared
from outlast.report import read_run

LEAST = 2400.0
"""Seconds of accelerator below which a session is not worth its start: twenty minutes are for starting and for storing outputs."""
_FULL = "session count"  # in Kaggle's words when other sessions of the account take all places
_TRIES = 20
_WEEK = 7 * 86400.0


@dataclass(frozen=True)
class Pace:
    """How the time passes.

    Attributes:
        ask: seconds between two questions while a session runs.
        uncertain: seconds for which a push without an answer may still turn up.
        sleep: waits; for tests.
    """

    ask: float = 45.0
    uncertain: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self) -> None:
        """Wait about that long; not all relays of the world at once."""
        self.sleep(self.ask * random.uniform(0.7, 1.3))  # noqa: S311


@dataclass(frozen=True)
class Bounds:
    """Where a relay stops although the run is not finished.

    Attributes:
        sessions: launches by this call, at most.
        gpu_hours: GPU time of all sessions of the run, in hours; the last one gets what is left.
        keep: fetched sessions that stay on Kaggle; older ones are deleted there. None: all.
        wait: whether to wait for next week's hours when this week's are used up, and for a place when other sessions take all.
    """

    sessions: int | None = None
    gpu_hours: float | None = None
    keep: int | None = None
    wait: bool = False


def relay(
    kaggle: Kaggle,
    prepare: Callable[[], Prepared],
    terms: Terms,
    *,
    bounds: Bounds | None = None,
    tell: Callable[[str], None],
    pace: Pace | None = None,
) -> None:
    """Train on Kaggle until the run is finished.

    Args:
        kaggle: the account.
        prepare: what to train, looked at anew before every session.
        terms: what every session is to have.
        bounds: where to stop although the run is not finished.
        tell: says a sentence to the user.
        pace: how often to ask.

    Raises:
        RunBusy: another process launches this run.
        LaunchError: a session failed by itself, two sessions in a row came no further, no hours are left, or as many sessions as
            allowed were not enough.
        KaggleRefused: as of `Kaggle.push`.
    """
    with launching(prepare().folder, "a relay"):
        _relay(kaggle, prepare, terms, bounds or Bounds(), tell, pace or Pace())


def _relay(
    kaggle: Kaggle,
    prepare: Callable[[], Prepared],
    terms: Terms,
    bounds: Bounds,
    tell: Callable[[str], None],
    pace: Pace,
) -> None:
    folder, launched = prepare().folder, 0
    for known in all_launches(folder):
        check_user(kaggle, known.record.get("user"))
    while True:
        record = _unfetched(kaggle, folder, pace)
        if record is None:
            if _finished(folder) and not prepare().resolved.changes:
                tell(f"{folder.path.name} is finished at step {Store(folder).newest_step()}{_spent(folder)}")
                return
            _refuse_without_progress(folder)
            if launched == bounds.sessions:
                raise LaunchError(
                    f"{folder.path.name} is at step {Store(folder).newest_step()} after {launched} sessions and not finished. Run the same command to go on."
                )
            quota = _hours(kaggle, terms, bounds, tell, pace)
            launched += 1
            try:
                record = _launch(kaggle, prepare(), _within(folder, terms, bounds).within(quota), bounds, tell, pace)
            except AnswerLost as error:
                tell(f"{error} Looking for it.")
                continue
            tell(f"session {record.number} is pushed: {record.record['url']}")
        else:
            tell(f"session {record.number} ({record.record['slug']}) is on record and not at home yet")
        _finish(kaggle, record, tell, pace)
        if bounds.keep is not None:
            _forget(kaggle, folder, bounds.keep)


def _unfetched(kaggle: Kaggle, folder: RunFolder, pace: Pace) -> LaunchRecord | None:
    """The launch that is still to be brought home; a push that nobody answered is looked for first."""
    records = all_launches(folder)
    if not records or records[-1].record["state"] not in ("preparing", "pushing", "pushed"):
        return None
    record = records[-1]
    if record.record["state"] == "preparing":
        record.learn(state="abandoned")  # it ended before it was pushed
        return None
    if record.record["state"] == "pushing":
        end = time.monotonic() + pace.uncertain
        while kaggle.status(record.record["slug"]) is None:
            if time.monotonic() > end:
                record.learn(state="lost")
                return None
            pace.pause()
        record.learn(state="pushed", url=f"https://www.kaggle.com/code/{kaggle.user}/{record.record['slug']}")
    return record


def _launch(
    kaggle: Kaggle, prepared: Prepared, terms: Terms, bounds: Bounds, tell: Callable[[str], None], pace: Pace
) -> LaunchRecord:
    """Launch; again later when Kaggle has refused it for the moment, or all places are taken and waiting was asked for."""
    told = ""
    for tries in itertools.count():
        try:
            return launch_next(kaggle, prepared, terms, tell=tell)
        except KaggleRefused as error:
            full = bounds.wait and _FULL in str(error)
            if not full and (error.status != MOMENT or tries >= _TRIES):
                raise
            if (words := f"{'All places are taken.' if full else error} Waiting.") != told:
                told = words
                tell(words)
            pace.sleep(6 * pace.ask)
    raise AssertionError("itertools.count() does not end")


def _finish(kaggle: Kaggle, record: LaunchRecord, tell: Callable[[str], None], pace: Pace) -> None:
    """Wait for a session's end and bring home what it left; refuse to go on after an end that would come again."""
    folder = record.folder
    state = _wait(kaggle, record, pace, tell)
    before = Store(folder).newest_step()
    try:
        told = fetch(kaggle, record)
    except NothingLeft as error:
        told = [str(error)]
    for sentence in told:
        tell(sentence)
    if state == "cancelled":
        raise LaunchError(
            f"Session {record.number} was cancelled, at step {Store(folder).newest_step()} by what is here. Run the same command to go on."
        )
    if state == f"failed({MISSING_CHECKPOINT})":
        tell(f"session {record.number} did not find what it was to continue; the next one is sent it as a dataset")
        return
    if state.startswith("failed") or state == "out-of-memory":
        raise LaunchError(
            f"Session {record.number} ended as {state}, which another session would only repeat: read `outlast logs {folder.path.name}`. What it had "
            f"saved is here, at step {Store(folder).newest_step()}."
        )
    tell(f"session {record.number}: {state}, step {before} -> {Store(folder).newest_step()}{_forecast(kaggle, folder)}")


def _wait(kaggle: Kaggle, record: LaunchRecord, pace: Pace, tell: Callable[[str], None]) -> str:
    """Follow a session to its end, telling one of its lines now and then; returns how it ended."""
    said, quiet = "", 0.0

    def seen(status: Status | None) -> None:
        nonlocal said
        if status and not status.over and status.state != said:
            said = status.state
            tell(f"session {record.number} is {said}")

    for line in follow(kaggle, record, pause=pace.ask, seen=seen):
        if line.strip() and time.monotonic() >= quiet:
            tell(f"  {line.strip()}")
            quiet = time.monotonic() + pace.ask
    return state_of(kaggle, record)


def _refuse_without_progress(folder: RunFolder) -> None:
    steps = [launch.record["step"] for launch in all_launches(folder) if "step" in launch.record]
    before = [0, *steps]
    if len(steps) > 1 and before[-1] == before[-2] == before[-3]:
        raise LaunchError(
            f"The last two sessions of {folder.path.name} came no further than step {steps[-1]}; a third would be spent for nothing. Read `outlast logs "
            f"{folder.path.name}`, and launch one by hand when the reason is gone."
        )


def _hours(kaggle: Kaggle, terms: Terms, bounds: Bounds, tell: Callable[[str], None], pace: Pace) -> Quota:
    """Refuse, or wait, while this week's hours are used up; returns what is left of them."""
    told = False
    while (quota := kaggle.quota()).left(terms.accelerator) < LEAST:
        when = f" They are given anew {quota.refresh:%A %d %B, %H:%M} UTC." if quota.refresh else ""
        kind = {"t4x2": "GPU"}.get(terms.accelerator, terms.accelerator.upper())
        left = f"{quota.left(terms.accelerator) / 60:.0f} minutes of {kind} are left this week, too few for a session.{when}"
        if not bounds.wait:
            raise LaunchError(f"{left} Run the same command then, or let it wait with --wait.")
        if not told:
            tell(f"{left} Waiting.")
            told = True
        pace.sleep(max(pace.ask, min(3600.0, _until(quota))))
    return quota


def _until(quota: Quota) -> float:
    """Seconds until the hours are given anew; 0 when Kaggle does not say."""
    if quota.refresh is None:
        return 0.0
    refresh = quota.refresh if quota.refresh.tzinfo else quota.refresh.replace(tzinfo=dt.UTC)
    return (refresh - dt.datetime.now(dt.UTC)).total_seconds()


def _within(folder: RunFolder, terms: Terms, bounds: Bounds) -> Terms:
    """The terms of the next session, cut to the GPU hours that are left of those allowed."""
    if bounds.gpu_hours is None or terms.accelerator != "t4x2":
        return terms
    left = bounds.gpu_hours * 3600.0 - _gpu_seconds(folder)
    if left < LEAST:
        raise LaunchError(
            f"{folder.path.name} has had {_gpu_seconds(folder) / 3600:.1f} GPU hours, and {bounds.gpu_hours:g} are allowed; it is at step {Store(folder).newest_step()}. "
            "Allow more with --max-gpu-hours."
        )
    return replace(terms, seconds=min(terms.budget, left - LEAST / 2))


def _forget(kaggle: Kaggle, folder: RunFolder, keep: int) -> None:
    """Delete sessions whose files are here, but for the newest ones: the next session continues from the last."""
    fetched = [each for each in all_launches(folder) if each.record["state"] == "fetched"]
    for record in fetched[: -max(1, keep)]:
        delete(kaggle, record)


def _finished(folder: RunFolder) -> bool:
    return folder.run.exists() and read_run(folder.path).status == "finished"


def _gpu_seconds(folder: RunFolder) -> float:
    return sum(
        float(each.record.get("seconds", 0.0)) for each in all_launches(folder) if each.record["accelerator"] == "t4x2"
    )


def _spent(folder: RunFolder) -> str:
    spent = _gpu_seconds(folder)
    return f", after {spent / 3600:.1f} GPU hours" if spent else ""


def _forecast(kaggle: Kaggle, folder: RunFolder) -> str:
    """What is still to come, by what the sessions so far have done."""
    total, step = read_run(folder.path).total_steps if folder.run.exists() else None, Store(folder).newest_step()
    done = [each for each in all_launches(folder) if "step" in each.record]
    if not total or not step or step >= total:
        return ""
    sessions = -(-(total - step) * len(done) // step)
    spent = sum(float(each.record.get("seconds", 0.0)) for each in done)
    more = spent * (total - step) / step
    text = f" of {total}: about {sessions} more, {format_seconds(more)} of training"
    if done[-1].record["accelerator"] != "t4x2":
        return text
    quota = kaggle.quota()
    days = more / 86400.0
    if quota.gpu_total and more > quota.gpu_left:
        weeks = (more - quota.gpu_left) // quota.gpu_total
        days = ((_until(quota) or _WEEK) + _WEEK * weeks) / 86400.0
    count = max(1, math.ceil(days))
    return f"{text}; {quota.gpu_left / 3600:.1f} GPU hours are left this week, so about {count} day{'s' if count > 1 else ''}"
