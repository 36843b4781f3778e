"""Launches, waits and fetches until the run is finished, in any number of sessions.

The state of a relay is in the run folder (launches/, attempts/, checkpoints/), so it can be killed and started again at
any time. A recorded launch is waited for before the next one is started. It is also fetched before, unless its end
leaves no doubt that there is a next one: then the next session starts at once, and the files are fetched meanwhile.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outlast.checkpoint import CheckpointStore
from outlast.config.units import format_seconds
from outlast.errors import AnswerLost, LaunchError, LaunchRefused, QuotaUsedUp, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.down import delete
from outlast.launch.fetch import AnotherHistory, NothingLeft, fetch, steps_left
from outlast.launch.hours import forecast, quota_of, spent, until, within
from outlast.launch.inside import MISSING_CHECKPOINT, NOT_PUBLISHED, RANK_GONE
from outlast.launch.provider import Limits, Provider, Quota, State, Tell, Terms
from outlast.launch.records import LaunchRecord, all_launches, launching
from outlast.launch.start import launch_next, repeats
from outlast.launch.watch import follow, state_of
from outlast.launch.work import Work
from outlast.report import read_run
from outlast.terminal import command, counted

_TRIES = 20


@dataclass(frozen=True)
class Pace:
    """The pauses of a relay.

    Attributes:
        ask: seconds between two queries while a session runs.
        settles: seconds after which a submission without an answer cannot appear any more; None: the provider's value.
        sleep: the function that waits; tests replace it.
    """

    ask: float = 45.0
    settles: float | None = None
    sleep: Callable[[float], None] = time.sleep

    def pause(self) -> None:
        """Wait about `ask` seconds. The time is random, so that many relays do not query at the same moment."""
        self.sleep(self.ask * random.uniform(0.7, 1.3))  # noqa: S311


@dataclass(frozen=True)
class Bounds:
    """The limits of a relay.

    Attributes:
        sessions: most launches of this call.
        gpu_hours: most hours of GPU time of all sessions of the run. The last session is shortened to what is left.
        stages: the runs of the other stages of its chain, whose hours count as well.
        keep: number of fetched sessions that the provider keeps; older ones are deleted. None: all.
        wait: whether to wait when the quota is used up, and when other sessions use all slots.
    """

    sessions: int | None = None
    gpu_hours: float | None = None
    stages: Sequence[RunFolder] = ()
    keep: int | None = None
    wait: bool = False


def relay(
    provider: Provider,
    prepare: Callable[[], Work],
    terms: Terms,
    *,
    bounds: Bounds | None = None,
    tell: Tell,
    pace: Pace | None = None,
) -> bool:
    """Train in sessions of a provider until the run is finished.

    Args:
        provider: the provider.
        prepare: returns the run as it is now; called before every session.
        terms: the terms of every session.
        bounds: limits after which the relay stops although the run is not finished.
        tell: called with messages for the user.
        pace: the pauses between queries.

    Returns:
        Whether the run is finished; False after as many sessions as the bounds allow.

    Raises:
        RunBusy: another process launches this run.
        UsageError: a bound is given for hours that the provider does not count, or a session of another provider
            was not fetched.
        AnotherHistory: a session does not continue the run of this machine.
        LaunchError: a session failed, or two equal sessions in a row made no progress; also as in `Provider.submit`.
        QuotaUsedUp: the quota is used up, and `wait` is not set.
    """
    bounds = bounds or Bounds()
    can = provider.capabilities
    if not can.quota and ((bounds.wait and not can.full) or bounds.gpu_hours is not None):
        flag = "--wait, which waits for hours" if bounds.wait and not can.full else "--max-gpu-hours"
        raise UsageError(
            f"{provider.title} has no quota of GPU hours: leave out {flag}. Use --max-sessions to limit a relay."
        )
    with launching(prepare().folder, "a relay"):
        return _Relay(provider, prepare, terms, bounds, tell, pace or Pace()).run()


@dataclass
class _Relay:
    provider: Provider
    prepare: Callable[[], Work]
    terms: Terms
    bounds: Bounds
    tell: Tell
    pace: Pace
    launched: int = 0  # sessions that this call has started
    warned: bool = False  # whether the user was told that starting takes most of a session

    def run(self) -> bool:
        folder = self.prepare().folder
        for known in all_launches(folder):
            if known.provider == self.provider.name:
                self.provider.check(known.handle)
                if known.is_open:
                    known.check_own(self.provider)
        following: LaunchRecord | None = None
        while True:
            record = following or self._unfetched(folder)
            if record is None:
                if self.prepare().is_finished():
                    self.tell(
                        f"{folder.path.name} is finished at step "
                        f"{CheckpointStore(folder).newest_step()}{spent(self.provider, folder)}"
                    )
                    return True
                if self.launched == self.bounds.sessions:
                    self.tell(_stopped(folder, self.launched))
                    return False
                record = self._start(folder)
            elif record is not following:
                self.tell(f"session {record.number} ({record.name}) was started before and is not fetched yet")
            following = self._finish(record) if record else None
            if self.bounds.keep is not None:
                self._forget(folder, self.bounds.keep)

    def _start(self, folder: RunFolder) -> LaunchRecord | None:
        """Start a session after all others were fetched; None if it is not known whether it was started."""
        self._refuse_without_progress(folder)
        self.launched += 1
        try:
            record = self._launch(folder)
        except AnswerLost as error:
            self.tell(f"{error} Checking.")
            return None
        self.tell(f"session {record.number} started: {record.record['url']}")
        return record

    def _unfetched(self, folder: RunFolder) -> LaunchRecord | None:
        """The launch that must be waited for and fetched first; what it owes to an earlier one is fetched here."""
        records = all_launches(folder)
        newest = self._submitted(records[-1]) if records else None
        owed = [each for each in records[:-1] if each.is_owed]
        if newest is None:
            return owed[-1] if owed else None
        for each in owed:
            self._conclude(each, state_of(self.provider, each), following=newest)
        return newest

    def _submitted(self, record: LaunchRecord) -> LaunchRecord | None:
        """The newest launch if it has a session. A submission without an answer is looked up at the provider."""
        if record.record["state"] not in ("preparing", "pushing", "pushed"):
            return None
        if record.provider != self.provider.name:
            raise UsageError(
                f"Session {record.number} ({record.name}) of {record.folder.path.name} ran on the provider "
                f"{record.provider} and is not fetched yet. Fetch it with `{record.command('fetch')}`, or relay with "
                f"--on {record.provider}."
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
        """Start a session. Try again later if it is refused for now, or if all slots are used and `wait` is set."""
        limits = self.provider.limits(self.terms)
        quota = self._hours(limits)
        terms = within(self.provider, [folder, *self.bounds.stages], self.terms, limits, self.bounds.gpu_hours)
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

    def _finish(self, record: LaunchRecord) -> LaunchRecord | None:
        """Wait for the end of a session and fetch its files. Raise if another session would end in the same way.

        Returns:
            The next session, if it was started already.
        """
        state = self._wait(record)
        following = self._go_on(record) if state == "stopped" and self.launched != self.bounds.sessions else None
        self._conclude(record, state, following)
        return following

    def _go_on(self, record: LaunchRecord) -> LaunchRecord | None:
        """Start the next session before the files of this one, which has saved and stopped, are fetched.

        Their fetch may take long, and the next session gets them from the provider. None: the fetch comes first,
        because the provider does not pass them on, there was no progress, or the launch met an obstacle. After the
        fetch it is met again, and then it counts.
        """
        provider, folder = self.provider, record.folder
        if provider.capabilities.inputs == "none":
            return None
        try:
            reached = max(steps_left(provider, record.handle, folder), default=0)
            limits = provider.limits(self.terms)
            quota = quota_of(provider, limits.metered)
            if reached <= CheckpointStore(folder).newest_step() or (quota and quota.left < limits.least):
                return None
            terms = within(provider, [folder, *self.bounds.stages], self.terms, limits, self.bounds.gpu_hours)
            terms = limits.within(terms, quota.left) if quota else terms
            work = self.prepare()
            record.learn(owed=True)
            following = launch_next(provider, work, terms, tell=self.tell)
        except AnswerLost as error:
            self.launched += 1
            self.tell(f"{error} Checking.")
            return None
        except Exception:  # noqa: BLE001 - also of the user's recipe, which is read again
            return None
        self.launched += 1
        self.tell(f"session {following.number} started: {following.record['url']}")
        return following

    def _conclude(self, record: LaunchRecord, state: str, following: LaunchRecord | None) -> None:
        """Fetch the files of a session that has ended, and say how it went.

        Args:
            record: the session.
            state: how it ended, as `state_of` says.
            following: the next session, if it was started already.

        Raises:
            LaunchError: another session would end in the same way; or it could not be fetched, and nothing follows.
            AnotherHistory: it does not continue the run of this machine. What follows it was cancelled.
        """
        before = CheckpointStore(record.folder).newest_step()
        try:
            told = fetch(self.provider, record)
        except NothingLeft as error:
            told = [str(error)]
        except AnotherHistory:
            if following:
                self._withdraw(following)
            raise
        except LaunchError as error:
            if not following:
                raise
            self.tell(f"{error} This is tried again when session {following.number} has ended.")
            return
        for sentence in told:
            self.tell(sentence)
        self._judge(record, state, before)

    def _judge(self, record: LaunchRecord, state: str, before: int) -> None:
        """Say how a session went that was fetched; raise if another one would end in the same way."""
        folder, end = record.folder, self.provider.state(record.handle)
        why = f" ({end.message.rstrip('.')})" if end and end.message and state == end.word else ""
        step = CheckpointStore(folder).newest_step()
        if state == "cancelled":
            raise LaunchError(
                f"Session {record.number} was cancelled. The newest checkpoint on this machine is at step {step}. Run "
                "the same command to continue."
            )
        if state == f"failed({MISSING_CHECKPOINT})":
            self.tell(
                f"session {record.number} did not find the checkpoint to continue; it is sent to the next session"
            )
            return
        if state == f"failed({NOT_PUBLISHED})":
            raise LaunchError(
                f"Session {record.number} has finished {folder.path.name}, which is on this machine, at step {step}. "
                f"The session has not published it: read `{record.command('logs')}`. Publish it from here: "
                f"{command('outlast', 'publish', folder.path)}"
            )
        if state == f"failed({RANK_GONE})":
            state = "a rank was lost"
        elif state.startswith("failed") or state == "out-of-memory":
            raise LaunchError(
                f"Session {record.number} ended as {state}, and another session would end in the same way. Read "
                f"`{record.command('logs')}`. Its last checkpoint is on this machine, at step {step}."
            )
        self.tell(f"session {record.number}: {state}{why}, step {before} -> {step}{forecast(self.provider, folder)}")
        if state in ("stopped", "timed-out"):
            self._warn_of_starting(record, before)

    def _withdraw(self, record: LaunchRecord) -> None:
        """Cancel a session that has begun on a history that is not this run's."""
        try:
            self.provider.cancel(record.handle)
        except (LaunchError, UsageError) as error:
            self.tell(f"session {record.number} could not be cancelled: {error}")
        else:
            self.tell(
                f"session {record.number} was cancelled, because it continues session {record.number - 1}, which does "
                "not continue this run"
            )

    def _wait(self, record: LaunchRecord) -> str:
        """Follow a session to its end and show one of its lines now and then; returns how it ended."""
        said, reasons, quiet = "", {""}, 0.0

        def seen(state: State | None) -> None:
            nonlocal said, reasons
            if state is None or state.over or (state.word == said and state.message in reasons):
                return
            said, reasons = state.word, (reasons if state.word == said else {""}) | {state.message}
            why = f": {state.message}" if state.message else ""  # what a session waits for
            self.tell(f"session {record.number} is {said}{why}")

        for line in follow(self.provider, record, pause=self.pace.ask, seen=seen):
            if line.strip() and time.monotonic() >= quiet:
                self.tell(f"  {line.strip()}")
                quiet = time.monotonic() + self.pace.ask
        return state_of(self.provider, record)

    def _hours(self, limits: Limits) -> Quota | None:
        """Raise, or wait, if the quota is used up. Returns the quota; None if the session needs none."""
        told = False
        while (quota := quota_of(self.provider, limits.metered)) and quota.left < limits.least:
            when = f" The quota is renewed on {quota.refresh:%A %d %B, %H:%M} UTC." if quota.refresh else ""
            minutes = counted(round(quota.left / 60), "minute")
            left = f"This week's quota has {minutes} of {quota.kind} left, too little for a session.{when}"
            if not self.bounds.wait:
                raise QuotaUsedUp(f"{left} Run the same command then, or wait with --wait.")
            if not told:
                self.tell(f"{left} Waiting.")
                told = True
            self.pace.sleep(max(self.pace.ask, min(3600.0, until(quota))))
        return quota

    def _warn_of_starting(self, record: LaunchRecord, step: int) -> None:
        """Tell the user, once, that starting and stopping take most of a session."""
        seconds = float(record.record.get("seconds", 0.0))
        trained = _trained(record.folder) if CheckpointStore(record.folder).newest_step() > step else 0.0
        if self.warned or seconds <= 0 or trained >= seconds / 2:
            return
        self.warned = True
        advice = ""
        if flag := self._longer():
            length = f"{max(1, math.ceil((seconds - trained) / 6.0))}m"  # so that starting takes a tenth
            advice = f" Stop this relay with Ctrl-C and run the same command with {flag} {length}."
        self.tell(
            f"warning: session {record.number} took {format_seconds(seconds)} and trained for "
            f"{format_seconds(trained)} of that; starting took most of the rest.{advice}"
        )

    def _longer(self) -> str:
        """The flag that makes the sessions of this relay longer; empty if there is none."""
        return self.provider.capabilities.longer or ("--budget" if self.terms.seconds else "")

    def _refuse_without_progress(self, folder: RunFolder) -> None:
        """Raise if the last two sessions made no progress and the next one would be equal."""
        done = [launch for launch in all_launches(folder) if "step" in launch.record]
        steps = [0, *(launch.record["step"] for launch in done)]
        if len(done) < 2 or len(set(steps[-3:])) > 1:
            return
        work = self.prepare()
        if not all(repeats(self.provider, work, self.terms, launch) for launch in done[-2:]):
            return
        flag = self._longer()
        late = flag and state_of(self.provider, done[-1]) in ("timed-out", "stopped")
        advice = f"The sessions were too short: give a longer one with {flag}. " if late else ""
        raise LaunchError(
            f"The last two sessions of {folder.path.name} made no progress beyond step {steps[-1]}, so no third one "
            f"is started with the same code, values and options. {advice}Read `{done[-1].command('logs')}`. If the "
            f"cause lies elsewhere and is removed, `{done[-1].command('launch')}` starts one session."
        )

    def _forget(self, folder: RunFolder, keep: int) -> None:
        """Delete fetched sessions except the newest ones. The next session may continue from the last."""
        fetched = [each for each in all_launches(folder) if each.record["state"] == "fetched"]
        for record in fetched[: -max(1, keep)]:
            if record.provider == self.provider.name and record.is_own(self.provider):
                delete(self.provider, record)


def _stopped(folder: RunFolder, launched: int) -> str:
    """The message of a relay that stops because it has started as many sessions as it may."""
    began = [each for each in all_launches(folder) if each.record["state"] not in ("preparing", "refused", "abandoned")]
    own = "" if launched == len(began) else f", {launched} of them by this command"
    sessions, step = counted(len(began), "session"), CheckpointStore(folder).newest_step()
    return (
        f"{folder.path.name} is at step {step} after {sessions}{own}, and not finished. Run the same command to "
        "continue."
    )


def _trained(folder: RunFolder) -> float:
    """Seconds of the run's newest attempt without its start, as far as the attempt recorded them.

    Of a command, outlast does not know when its start is over: infinite.
    """
    info = read_run(folder.path)
    if any("command" in attempt for attempt in info.last_attempts(1)):
        return math.inf
    spent = next((info.spent(attempt) for attempt in info.last_attempts(1)), None)
    return spent.total - spent.starting if spent else 0.0
