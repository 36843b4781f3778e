"""Launches, waits and fetches until the run is finished, in any number of sessions.

What it knows is in the run folder (launches/, attempts/, checkpoints/), so it may be killed at any moment and started
again: a launch that is on record is waited for and fetched before another one is made.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from outlast.checkpoint import CheckpointStore
from outlast.config.units import format_seconds
from outlast.errors import AnswerLost, LaunchError, LaunchRefused, QuotaUsedUp, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.down import delete
from outlast.launch.fetch import NothingLeft, fetch
from outlast.launch.hours import forecast, quota_of, spent, until, within
from outlast.launch.inside import MISSING_CHECKPOINT, NOT_PUBLISHED
from outlast.launch.provider import Limits, Provider, Quota, State, Tell, Terms
from outlast.launch.records import LaunchRecord, all_launches, launching
from outlast.launch.start import launch_next, repeats
from outlast.launch.watch import follow, state_of
from outlast.recipe.prepare import PreparedRun
from outlast.report import read_run
from outlast.terminal import command, counted

_TRIES = 20


@dataclass(frozen=True)
class Pace:
    """The clock and the pauses of a relay.

    Attributes:
        ask: seconds between two looks while a session runs.
        settles: seconds for which a submission without an answer may still turn up; None: as the provider says.
        sleep: waits; for tests.
    """

    ask: float = 45.0
    settles: float | None = None
    sleep: Callable[[float], None] = time.sleep

    def pause(self) -> None:
        """Wait about that long; not all relays of the world at once."""
        self.sleep(self.ask * random.uniform(0.7, 1.3))  # noqa: S311


@dataclass(frozen=True)
class Bounds:
    """The limits of a relay.

    Attributes:
        sessions: launches by this call, at most.
        gpu_hours: GPU time of all sessions of the run, in hours; the last one gets what is left.
        keep: fetched sessions that stay at the provider; older ones are deleted there. None: all.
        wait: whether to wait for the next hours when the quota is used up, and for a place when other sessions take
            all.
    """

    sessions: int | None = None
    gpu_hours: float | None = None
    keep: int | None = None
    wait: bool = False


def relay(
    provider: Provider,
    prepare: Callable[[], PreparedRun],
    terms: Terms,
    *,
    bounds: Bounds | None = None,
    tell: Tell,
    pace: Pace | None = None,
) -> bool:
    """Train in sessions of a provider until the run is finished.

    Args:
        provider: where.
        prepare: what to train, looked at again before every session.
        terms: what every session is to have.
        bounds: where to stop although the run is not finished.
        tell: shows the user a sentence.
        pace: how often to ask.

    Returns:
        Whether the run is finished; False after as many sessions as the bounds allow.

    Raises:
        RunBusy: another process launches this run.
        UsageError: a bound is given for hours that the provider does not count, or a session of another provider is not
            at home.
        AnotherHistory: what a session did does not continue the run as it is here.
        LaunchError: a session failed by itself, or two equal sessions in a row came no further; and as of
            `Provider.submit`.
        QuotaUsedUp: no hours are left, and it is not to wait for them.
    """
    bounds = bounds or Bounds()
    if not provider.capabilities.quota and (bounds.wait or bounds.gpu_hours is not None):
        flag = "--wait, which waits for hours" if bounds.wait else "--max-gpu-hours"
        raise UsageError(f"{provider.title} counts no GPU hours, so leave {flag} out. --max-sessions bounds a relay.")
    with launching(prepare().folder, "a relay"):
        return _Relay(provider, prepare, terms, bounds, tell, pace or Pace()).run()


@dataclass
class _Relay:
    provider: Provider
    prepare: Callable[[], PreparedRun]
    terms: Terms
    bounds: Bounds
    tell: Tell
    pace: Pace
    warned: bool = False  # that starting takes most of a session

    def run(self) -> bool:
        folder, launched = self.prepare().folder, 0
        for known in all_launches(folder):
            if known.provider == self.provider.name:
                self.provider.check(known.handle)
                if known.is_open:
                    known.check_own(self.provider)
        while True:
            record = self._unfetched(folder)
            if record is None:
                if _finished(folder) and not self.prepare().resolved.changes:
                    self.tell(
                        f"{folder.path.name} is finished at step "
                        f"{CheckpointStore(folder).newest_step()}{spent(self.provider, folder)}"
                    )
                    return True
                if launched == self.bounds.sessions:
                    self.tell(_stopped(folder, launched))
                    return False
                self._refuse_without_progress(folder)
                launched += 1
                try:
                    record = self._launch(folder)
                except AnswerLost as error:
                    self.tell(f"{error} Looking for it.")
                    continue
                self.tell(f"session {record.number} is started: {record.record['url']}")
            else:
                self.tell(f"session {record.number} ({record.name}) is on record and not fetched yet")
            self._finish(record)
            if self.bounds.keep is not None:
                self._forget(folder, self.bounds.keep)

    def _unfetched(self, folder: RunFolder) -> LaunchRecord | None:
        """The launch that is still to be fetched; one whose submission nobody answered is looked for first."""
        records = all_launches(folder)
        if not records or records[-1].record["state"] not in ("preparing", "pushing", "pushed"):
            return None
        record = records[-1]
        if record.provider != self.provider.name:
            raise UsageError(
                f"Session {record.number} ({record.name}) of {folder.path.name} is of the provider {record.provider} "
                f"and not fetched yet. Fetch it with `{record.command('fetch')}`, or relay with --on "
                f"{record.provider}."
            )
        if record.record["state"] == "preparing":
            record.learn(state="abandoned")  # the launch ended before it was submitted
            return None
        if record.record["state"] == "pushing":
            settles = self.provider.capabilities.settles if self.pace.settles is None else self.pace.settles
            end = time.monotonic() + settles
            while self.provider.state(record.handle) is None:
                if time.monotonic() >= end:
                    record.learn(state="lost")
                    return None
                self.pace.pause()
            record.learn(state="pushed", url=self.provider.address(record.handle))
        return record

    def _launch(self, folder: RunFolder) -> LaunchRecord:
        """Launch; again later when it is refused for the moment, or all places are taken and waiting was asked for."""
        limits = self.provider.limits(self.terms)
        quota = self._hours(limits)
        terms = within(self.provider, folder, self.terms, limits, self.bounds.gpu_hours)
        if quota:
            terms = limits.within(terms, quota.left)
        told = ""
        for tries in itertools.count():
            try:
                return launch_next(self.provider, self.prepare(), terms, tell=self.tell)
            except LaunchRefused as error:
                full = self.bounds.wait and error.again == "full"
                if not full and (error.again != "moment" or tries >= _TRIES):
                    raise
                if (words := f"{'All places are taken.' if full else error} Waiting.") != told:
                    told = words
                    self.tell(words)
                self.pace.sleep(6 * self.pace.ask)
        raise AssertionError("itertools.count() does not end")

    def _finish(self, record: LaunchRecord) -> None:
        """Wait for a session's end and fetch what it left; refuse to continue after an end that would come again."""
        folder = record.folder
        state = self._wait(record)
        end = self.provider.state(record.handle)
        why = f" ({end.message.rstrip('.')})" if end and end.message and state == end.word else ""
        before = CheckpointStore(folder).newest_step()
        try:
            told = fetch(self.provider, record)
        except NothingLeft as error:
            told = [str(error)]
        for sentence in told:
            self.tell(sentence)
        step = CheckpointStore(folder).newest_step()
        if state == "cancelled":
            raise LaunchError(
                f"Session {record.number} was cancelled, at step {step} by what is here. Run the same command to go on."
            )
        if state == f"failed({MISSING_CHECKPOINT})":
            self.tell(
                f"session {record.number} did not find the checkpoint to continue from; it is sent to the next session"
            )
            return
        if state == f"failed({NOT_PUBLISHED})":
            raise LaunchError(
                f"Session {record.number} has finished {folder.path.name}, which is on this machine, at step {step}. "
                f"The session has not published it: read `{record.command('logs')}`. Publish it from here: "
                f"{command('outlast', 'publish', folder.path)}"
            )
        if state.startswith("failed") or state == "out-of-memory":
            raise LaunchError(
                f"Session {record.number} ended as {state}, which another session would only repeat: read "
                f"`{record.command('logs')}`. Its last checkpoint is on this machine, at step {step}."
            )
        self.tell(f"session {record.number}: {state}{why}, step {before} -> {step}{forecast(self.provider, folder)}")
        if state in ("stopped", "timed-out"):
            self._warn_of_starting(record, before)

    def _wait(self, record: LaunchRecord) -> str:
        """Follow a session to its end, telling one of its lines now and then; returns how it ended."""
        said, quiet = "", 0.0

        def seen(state: State | None) -> None:
            nonlocal said
            if state and not state.over and state.word != said:
                said = state.word
                self.tell(f"session {record.number} is {said}")

        for line in follow(self.provider, record, pause=self.pace.ask, seen=seen):
            if line.strip() and time.monotonic() >= quiet:
                self.tell(f"  {line.strip()}")
                quiet = time.monotonic() + self.pace.ask
        return state_of(self.provider, record)

    def _hours(self, limits: Limits) -> Quota | None:
        """Refuse, or wait, while the quota is used up; returns what is left of it, None when the session needs none."""
        told = False
        while (quota := quota_of(self.provider, limits.metered)) and quota.left < limits.least:
            when = f" They are given anew {quota.refresh:%A %d %B, %H:%M} UTC." if quota.refresh else ""
            minutes = counted(round(quota.left / 60), "minute")
            left = f"This week has {minutes} of {quota.kind} left, too few for a session.{when}"
            if not self.bounds.wait:
                raise QuotaUsedUp(f"{left} Run the same command then, or let it wait with --wait.")
            if not told:
                self.tell(f"{left} Waiting.")
                told = True
            self.pace.sleep(max(self.pace.ask, min(3600.0, until(quota))))
        return quota

    def _warn_of_starting(self, record: LaunchRecord, step: int) -> None:
        """Say once that sessions are too short: starting and stopping take most of one that came to its end."""
        seconds = float(record.record.get("seconds", 0.0))
        trained = _trained(record.folder) if CheckpointStore(record.folder).newest_step() > step else 0.0
        if self.warned or seconds <= 0 or trained >= seconds / 2:
            return
        self.warned = True
        advice = ""
        if flag := self._longer():
            length = f"{max(1, math.ceil((seconds - trained) / 6.0))}m"  # of which those seconds are a tenth
            advice = f" Stop this relay with Ctrl-C and run the same command with {flag} {length}."
        self.tell(
            f"warning: session {record.number} took {format_seconds(seconds)} and trained for "
            f"{format_seconds(trained)} of that; starting took most of the rest.{advice}"
        )

    def _longer(self) -> str:
        """The flag that makes the sessions of this relay longer; empty when there is none."""
        return self.provider.capabilities.longer or ("--budget" if self.terms.seconds else "")

    def _refuse_without_progress(self, folder: RunFolder) -> None:
        """Refuse a third session like the last two, when those came no further."""
        done = [launch for launch in all_launches(folder) if "step" in launch.record]
        steps = [0, *(launch.record["step"] for launch in done)]
        if len(done) < 2 or len(set(steps[-3:])) > 1:
            return
        prepared = self.prepare()
        if not all(repeats(self.provider, prepared, self.terms, launch) for launch in done[-2:]):
            return
        flag = self._longer()
        late = flag and state_of(self.provider, done[-1]) in ("timed-out", "stopped")
        advice = f"Their time was too short: give longer ones with {flag}. " if late else ""
        raise LaunchError(
            f"The last two sessions of {folder.path.name} came no further than step {steps[-1]}, so no third one is "
            f"started with the same code, values and options. {advice}Read `{done[-1].command('logs')}`. When the "
            f"cause was none of those and is gone, `{done[-1].command('launch')}` starts one session."
        )

    def _forget(self, folder: RunFolder, keep: int) -> None:
        """Delete sessions whose files are here, but for the newest ones: the next session continues from the last."""
        fetched = [each for each in all_launches(folder) if each.record["state"] == "fetched"]
        for record in fetched[: -max(1, keep)]:
            if record.provider == self.provider.name and record.is_own(self.provider):
                delete(self.provider, record)


def _stopped(folder: RunFolder, launched: int) -> str:
    """The sentence at the end of a relay that has made as many sessions as it may."""
    began = [each for each in all_launches(folder) if each.record["state"] not in ("preparing", "refused", "abandoned")]
    own = "" if launched == len(began) else f", {launched} of them by this command"
    sessions, step = counted(len(began), "session"), CheckpointStore(folder).newest_step()
    return (
        f"{folder.path.name} is at step {step} after {sessions}{own}, and not finished. Run the same command to go on."
    )


def _finished(folder: RunFolder) -> bool:
    return folder.run.exists() and read_run(folder.path).status == "finished"


def _trained(folder: RunFolder) -> float:
    """Seconds that the run's newest attempt did not spend on starting, as far as it has said so."""
    info = read_run(folder.path)
    spent = next((info.spent(attempt) for attempt in info.last_attempts(1)), None)
    return spent.total - spent.starting if spent else 0.0
