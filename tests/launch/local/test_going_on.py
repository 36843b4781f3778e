"""A relay starts the next session before it fetches the last one: exactly one session at a time, killed anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.cli import main
from outlast.errors import AnswerLost, LaunchError, LaunchRefused, RunBusy
from outlast.launch import fetch as fetching
from outlast.launch import relay as relaying
from outlast.launch import start
from outlast.launch.fetch import AnotherHistory, NothingLeft
from outlast.launch.local.provider import LocalProvider
from outlast.launch.provider import Request, Terms
from outlast.launch.records import LaunchRecord, all_launches, check_closed, newest_begun, open_launch
from outlast.launch.relay import Bounds, Pace, relay
from outlast.launch.watch import state_of
from outlast.launch.work import RecipeWork
from tests import messages
from tests.launch import recipes


class Killed(BaseException):
    """What stands for SIGKILL within a process: nothing catches it."""


def prepared(**flags: str) -> RecipeWork:
    return recipes.work("walk", **flags)


def go(provider: LocalProvider, bounds: Bounds | None = None, **flags: str) -> list[str]:
    told: list[str] = []
    relay(provider, lambda: prepared(**flags), Terms(), bounds=bounds, tell=told.append, pace=Pace(ask=0.1, settles=1))
    return told


def states() -> list[str]:
    return [each.record["state"] for each in all_launches(prepared().folder)]


def twin() -> bytes:
    words = ["train", "walk", "--experiment-name", "walk", "--stop-every", "0", "--checkpoint-dir", "twin"]
    assert main(words) == 0
    return Path("twin/walk/journal.jsonl").read_bytes()


def journal() -> bytes:
    return Path("runs/walk/journal.jsonl").read_bytes()


def sessions(provider: LocalProvider) -> int:
    return len(list(provider.root.glob("outlast-walk-*")))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The states of all launches whenever a session is fetched."""
    found: list[list[str]] = []
    whole = relaying.fetch
    monkeypatch.setattr(relaying, "fetch", lambda *words: (found.append(states()), whole(*words))[1])
    return found


def test_the_next_session_has_begun_when_the_last_one_is_fetched(
    provider: LocalProvider, seen: list[list[str]]
) -> None:
    told = go(provider)
    assert seen == [["pushed", "pushed"], ["fetched", "pushed", "pushed"], ["fetched", "fetched", "pushed"]]
    assert states() == ["fetched"] * 3
    assert [each.record["step"] for each in all_launches(prepared().folder)] == [3, 6, 9]
    messages.said([told[-1]], "launch/walk-is-finished-at-step", step=9)
    assert journal() == twin()
    assert Path("runs/walk/artifacts/result.txt").read_bytes() == Path("twin/walk/artifacts/result.txt").read_bytes()
    assert not any((provider.root / f"outlast-walk-00{number}/work").exists() for number in (1, 2, 3))


@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
def test_a_relay_that_ends_at_each_write_of_its_records_repeats_no_session(
    after: bool, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = LaunchRecord.write, 0

    def dying(self: LaunchRecord) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise Killed
        write(self)
        if left == 0:
            raise Killed

    monkeypatch.setattr(LaunchRecord, "write", dying)
    for number in range(1, 60):
        left = number
        try:
            go(provider)
        except Killed:
            continue
        break
    assert number > 5, "it was ended several times"
    assert journal() == twin()
    assert states().count("fetched") == 3
    assert set(states()) <= {"fetched", "abandoned", "lost"}, "those have started no session"
    assert sessions(provider) == 3


MOMENTS = {
    "before the launch": (start, "request_for"),
    "before the fetch": (relaying, "fetch"),
    "when all is verified": (fetching, "_take"),
    "when it is here": (fetching, "_clear"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_relay_that_ends_while_it_goes_on_is_continued(
    moment: str, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = MOMENTS[moment]
    whole, calls = getattr(module, name), 0

    def dying(*words: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:  # of the second session, which continues the first
            raise Killed
        return whole(*words, **more)

    monkeypatch.setattr(module, name, dying)
    with pytest.raises(Killed):
        go(provider)
    with pytest.raises(RunBusy):
        check_closed(prepared().folder)
    told = go(provider)
    messages.said([told[-1]], "launch/walk-is-finished-at-step", step=9)
    concluded = [line for line in told if re.match(r"session \d: (stopped|succeeded)", line)]
    number = {"before the launch": 1, "when it is here": 3}.get(moment, 2)
    assert concluded[0].startswith(f"session {number}: "), "what is owed is fetched first"
    assert journal() == twin()
    assert states() == ["fetched"] * 3
    assert sessions(provider) == 3


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int = 1) -> None:
    """The first fetches of the second session raise an error."""
    whole, left = relaying.fetch, times

    def fetch(provider: LocalProvider, record: LaunchRecord) -> list[str]:
        nonlocal left
        if record.number == 2 and left:
            left -= 1
            raise error
        return whole(provider, record)

    monkeypatch.setattr(relaying, "fetch", fetch)


def test_a_fetch_that_failed_is_tried_again_after_the_next_session(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, LaunchError("The network is gone."))
    told = go(provider)
    messages.said(told, "launch/fetched-later", error="The network is gone.", session=3)
    assert states() == ["fetched"] * 3
    assert journal() == twin()


def test_a_session_that_left_nothing_stops_no_relay_that_has_gone_on(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, NothingLeft("It left nothing."))
    assert "It left nothing." in go(provider)
    assert journal() == twin()


def test_a_session_on_another_history_is_cancelled(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, AnotherHistory("It is another one."))
    told: list[str] = []
    with pytest.raises(AnotherHistory):
        relay(provider, lambda: prepared(pause="1"), Terms(), tell=told.append, pace=Pace(ask=0.1))
    messages.said([told[-1]], "launch/withdrawn", session=3, before=2)
    (*_, third) = all_launches(prepared().folder)
    for _ in provider.log(third.handle, live=True, pause=0.1):
        pass
    assert state_of(provider, third) == "cancelled"
    assert sessions(provider) == 3


def test_a_cancel_that_is_refused_is_said(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, AnotherHistory("It is another one."))

    def refused(_: object) -> None:
        raise LaunchRefused("Not now.")

    monkeypatch.setattr(provider, "cancel", refused)
    told: list[str] = []
    with pytest.raises(AnotherHistory):
        relay(provider, prepared, Terms(), tell=told.append, pace=Pace(ask=0.1))
    messages.said(told, "launch/not-withdrawn", session=3, error="Not now.")


def test_what_stops_the_next_session_counts_after_the_fetch(provider: LocalProvider, seen: list[list[str]]) -> None:
    asked = 0

    def broken() -> RecipeWork:
        nonlocal asked
        asked += 1
        if (Path("runs/.sessions/outlast-walk-001/end.json")).exists():
            raise LaunchError("The recipe cannot be read.")
        return prepared()

    with pytest.raises(LaunchError, match="cannot be read"):
        relay(provider, broken, Terms(), tell=lambda _: None, pace=Pace(ask=0.1))
    assert seen == [["pushed"]]
    assert states() == ["fetched"]
    assert prepared().folder.path.joinpath("checkpoints/step-00000003").is_dir()


@pytest.mark.parametrize("started", [True, False])
def test_an_answer_that_is_lost_starts_no_second_session(
    started: bool, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = provider.submit, 0

    def submit(request: object, handle: object, *, begun: Callable[[], None], tell: Callable[[str], None]) -> object:
        nonlocal calls
        calls += 1
        if calls != 2:
            return whole(request, handle, begun=begun, tell=tell)
        if started:
            whole(request, handle, begun=begun, tell=tell)
        else:
            begun()
        raise AnswerLost("The line is dead.")

    monkeypatch.setattr(provider, "submit", submit)
    told = go(provider, Bounds(sessions=3 if started else 4))
    messages.said([told[-1]], "launch/walk-is-finished-at-step", step=9)
    assert sessions(provider) == 3
    assert states() == (["fetched"] * 3 if started else ["fetched", "lost", "fetched", "fetched"])
    assert journal() == twin()


def test_a_session_whose_answer_is_lost_counts(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = provider.submit, 0

    def submit(request: object, handle: object, *, begun: Callable[[], None], tell: Callable[[str], None]) -> object:
        nonlocal calls
        calls += 1
        found = whole(request, handle, begun=begun, tell=tell)
        if calls == 2:
            raise AnswerLost("The line is dead.")
        return found

    monkeypatch.setattr(provider, "submit", submit)
    go(provider, Bounds(sessions=2))
    assert states() == ["fetched"] * 2


def test_a_relay_starts_no_more_sessions_than_it_may(provider: LocalProvider) -> None:
    told = go(provider, Bounds(sessions=2))
    messages.said([told[-1]], "launch/relay-not-finished-after-two", step=6, sessions=2)
    assert states() == ["fetched", "fetched"]
    go(provider, Bounds(sessions=1))
    assert journal() == twin()


def test_a_session_without_progress_is_fetched_first(
    provider: LocalProvider, seen: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = relaying.steps_left
    monkeypatch.setattr(relaying, "steps_left", lambda *words: [step for step in whole(*words) if step != 6])
    go(provider)
    assert seen == [["pushed", "pushed"], ["fetched", "pushed"], ["fetched", "fetched", "pushed"]]
    assert journal() == twin()


def test_a_provider_that_passes_nothing_on_is_fetched_from_first(
    provider: LocalProvider, seen: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "capabilities", replace(provider.capabilities, inputs="none"))
    go(provider)
    assert seen == [["pushed"], ["fetched", "pushed"], ["fetched", "fetched", "pushed"]]


def test_the_files_that_a_killed_relay_owes_come_with_those_of_the_next_session(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(relaying, "fetch", killed)
        with pytest.raises(Killed):
            go(provider)
    first, second = all_launches(prepared().folder)
    assert (first.is_owed, second.is_owed) == (True, False)
    assert open_launch(first.folder) == second
    for _ in provider.log(second.handle, live=True, pause=0.1):
        pass
    assert main(["fetch", "walk"]) == 0
    assert states() == ["fetched", "fetched"]
    assert [each.record["step"] for each in all_launches(first.folder)] == [3, 6]
    assert not (provider.root / "outlast-walk-001/work").exists()
    assert capsys.readouterr().out.count("was copied from") == 2


@pytest.mark.parametrize("state", ["refused", "abandoned", "preparing"])
def test_a_launch_that_started_nothing_hides_no_session_that_is_not_fetched(
    state: str, provider: LocalProvider
) -> None:
    record = start.launch(provider, prepared(), Terms())
    for _ in provider.log(record.handle, live=True, pause=0.1):
        pass
    later = LaunchRecord.begin(
        record.folder, 2, provider="local", name="outlast-walk-002", handle={"session": "x"}, accelerator="cpu"
    )
    later.learn(state=state)
    found = all_launches(record.folder)
    assert newest_begun(found) == open_launch(record.folder) == found[0]
    with pytest.raises(RunBusy):
        check_closed(record.folder)
    assert main(["fetch", "walk"]) == 0
    assert states()[0] == "fetched"
    assert open_launch(record.folder) is None
    assert Path("runs/walk/checkpoints/step-00000003").is_dir()


def test_a_session_that_is_lost_hides_no_session_whose_files_are_owed(provider: LocalProvider) -> None:
    record = start.launch(provider, prepared(), Terms())
    for _ in provider.log(record.handle, live=True, pause=0.1):
        pass
    later = LaunchRecord.begin(
        record.folder, 2, provider="local", name="outlast-walk-002", handle={"session": "x"}, accelerator="cpu"
    )
    later.learn(state="lost")
    assert open_launch(record.folder) is None, "as before there were owed ones"
    record.learn(owed=True)
    assert open_launch(record.folder) == record
    with pytest.raises(RunBusy):
        check_closed(record.folder)


def test_a_launch_that_ended_before_it_was_sent_hides_no_session_whose_files_are_owed(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = provider.submit, 0

    def submit(*words: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return whole(*words, **more)

    monkeypatch.setattr(provider, "submit", submit)
    with pytest.raises(Killed):
        go(provider)
    assert states() == ["pushed", "preparing"]
    told = go(provider)
    messages.said([told[0]], "launch/session-outlast-walk-is-on-record", session=1)
    assert states() == ["fetched", "abandoned", "fetched", "fetched"]
    assert journal() == twin()


@pytest.mark.parametrize("trained_here", [False, True])
def test_only_what_is_newer_than_the_last_session_is_sent(
    trained_here: bool, provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_once = Bounds(sessions=1)
    go(provider, go_once)
    if trained_here:
        assert main(["train", "walk", "--experiment-name", "walk"]) == 75
    asked: list[Request] = []
    whole = provider.submit

    def submit(request: Request, *words: object, **more: object) -> object:
        asked.append(request)
        return whole(request, *words, **more)

    monkeypatch.setattr(provider, "submit", submit)
    go(provider, go_once)
    (request,) = asked
    assert request.after is not None
    assert request.step == (6 if trained_here else 3)
    sent = [name for name in request.files if name.endswith("MANIFEST.json")]
    assert sent == (["runs/walk/checkpoints/step-00000006/MANIFEST.json"] if trained_here else [])
