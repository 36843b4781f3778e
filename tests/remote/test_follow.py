"""Trainings that a remote follows: what is there at the end, what a bad remote costs, and who may push."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import messages, processes
from tests.folders import Walk, inside, place, steps, told
from tests.remote.remotes import Watched, blobs, needed, newest

import outlast
from outlast.environment import Environment, Limits
from outlast.errors import RemoteRefused, RemoteUnavailable, SessionEnded
from outlast.folder.layout import RunFolder
from outlast.remote import follow
from outlast.remote.folder import FolderRemote
from outlast.remote.outgoing import PushAbandoned
from outlast.report import read_run
from outlast.run import arguments, session
from outlast.run.following import FollowingRemote


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """What the address "there" is."""
    found = Watched(tmp_path / "remote")
    monkeypatch.setattr(arguments, "open_remote", lambda _: found)
    monkeypatch.setattr(follow, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(follow, "REFUSED_PAUSE", 0.02)
    return found


def train(
    root: Path,
    *,
    total: int = 10,
    stop: int = 0,
    pause: float = 0.0,
    remote: str | None = "there",
    at: Callable[[outlast.Run, int], Any] = lambda *_: None,
    **more: Any,
) -> outlast.Run:
    """Train with a checkpoint at every second step; returns the closed run."""
    thing, environment = Walk(), Environment("local", Limits(seconds=None, ram=2**34, cores=2))
    options = {"total_steps": total, "root": root, "save": "2 steps", "progress": "none", **more}
    try:
        with outlast.open_run("r", environment=environment, remote=remote, **options) as run:
            run.track(walk=thing)
            for step in run.steps():
                thing.count += 1
                thing.position = thing.position + step
                run.log(count=thing.count)
                time.sleep(pause)
                at(run, step)
                if step == stop:
                    run.session.request_stop("budget", "a test asks")
    except SessionEnded:
        pass
    return run


def lines(root: Path) -> list[int]:
    return [json.loads(line)["count"] for line in (root / "r/journal.jsonl").read_text().splitlines()]


def contents(root: Path) -> dict[str, bytes]:
    """Journal and arrays, which are the same for equal trainings."""
    found = [root / "r/journal.jsonl", *(root / "r/checkpoints").rglob("*.safetensors")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_a_run_continues_on_machine_after_machine(remote: Watched, tmp_path: Path) -> None:
    for number, stop in enumerate((3, 5, 8, 0)):
        run = train(tmp_path / f"machine{number}", stop=stop)
        assert run.resumed_from == (None, 3, 5, 8)[number]
        assert list(newest(remote.root)["checkpoints"])[-1] == f"step-{stop or 10:08d}"
    train(tmp_path / "twin", remote=None)
    assert lines(tmp_path / "machine3") == list(range(1, 11))
    last = "r/checkpoints/step-00000010/walk.safetensors"
    assert (tmp_path / "machine3" / last).read_bytes() == (tmp_path / "twin" / last).read_bytes()
    info = read_run(tmp_path / "machine3/r")
    assert [attempt["end"]["reason"] for attempt in info.attempts] == ["budget", "budget", "budget", "finished"]
    assert info.pushed["behind"] == []
    assert info.pushed["steps"] == steps(tmp_path / "machine3")
    assert remote.threads == {"outlast-follow"}


def test_the_end_of_an_attempt_is_there_too(remote: Watched, tmp_path: Path) -> None:
    train(tmp_path / "a", stop=3)
    assert not [path.name for path in (tmp_path / "a/r").iterdir() if path.name.startswith(".")]
    ((hash_, _),) = newest(remote.root)["files"]["attempts/0001.json"]
    record = json.loads((remote.root / "r/blobs" / hash_).read_text())
    assert record["end"]["reason"] == "budget"
    assert (remote.root / "r/blobs" / hash_).read_bytes() == (tmp_path / "a/r/attempts/0001.json").read_bytes()


def test_without_a_remote_no_thread_begins(tmp_path: Path) -> None:
    names: list[str] = []
    train(tmp_path, remote=None, at=lambda *_: names.extend(thread.name for thread in threading.enumerate()))
    assert "outlast-follow" not in names
    assert not (tmp_path / "r/pushed.json").exists()


def test_a_remote_that_is_down_for_a_while_costs_one_sentence(remote: Watched, tmp_path: Path) -> None:
    down = threading.Event()

    def fail(name: str) -> None:
        if down.is_set():
            raise RemoteUnavailable(f"{name}: no answer", "timed out")

    def at(_: outlast.Run, step: int) -> None:
        (down.set if 3 < step < 16 else down.clear)()

    remote.before = fail
    train(tmp_path / "a", total=24, pause=0.03, at=at)
    said = told(tmp_path / "a").splitlines()
    assert len([sentence for sentence in said if "no answer" in sentence]) == 1
    assert messages.times_said(said, "remote/takes-checkpoints-again") == 1
    assert list(newest(remote.root)["checkpoints"]) == [f"step-{step:08d}" for step in (20, 22, 24)]
    assert lines(tmp_path / "a") == list(range(1, 25))


def test_pauses_grow_and_a_service_may_ask_for_longer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pusher: Any = SimpleNamespace(sleep=None, steps=[], missing=list)
    follower, waited = follow.Follower(pusher, "there", RunFolder(tmp_path)), list[float | None]()
    monkeypatch.setattr(follower, "_wait", lambda _asked, seconds=None: waited.append(seconds))
    for after in (None, 120.0, None, 0.0):
        follower._failed(RemoteUnavailable("busy", "busy", after), 0)
    assert waited == [1.0, 120.0, 4.0, 8.0]
    waited.clear()
    for _ in range(12):
        follower._failed(RemoteRefused("no", "no"), 0)
    assert (waited[0], waited[-1]) == (480.0, 600.0)
    assert len(follower.told) == 2, "each kind is told once"


@pytest.mark.parametrize(
    ("trouble", "over", "settled"), [(None, False, True), ("busy", False, False), (None, True, False)]
)
def test_what_is_said_of_the_last_push(tmp_path: Path, trouble: str | None, over: bool, settled: bool) -> None:
    follower = follow.Follower(SimpleNamespace(sleep=None), "there", RunFolder(tmp_path))  # type: ignore[arg-type]
    follower._answered, follower.trouble, follower._over = 1, trouble, over
    assert follower.settle(5.0) is settled


@pytest.mark.parametrize(
    ("older", "heard", "cut", "abandoned"),
    [(True, True, False, True), (True, False, False, False), (False, True, False, False), (False, False, True, True)],
)
def test_a_newer_checkpoint_comes_before_an_older_one(
    tmp_path: Path, older: bool, heard: bool, cut: bool, abandoned: bool
) -> None:
    """And at the end of a session its records come before both."""
    follower = follow.Follower(SimpleNamespace(sleep=None), "there", RunFolder(tmp_path))  # type: ignore[arg-type]
    follower._sending, follower._older, follower._heard, follower._cut = True, older, heard, cut
    with pytest.raises(PushAbandoned) if abandoned else contextlib.nullcontext():
        follower._sleep(0)


def test_a_remote_that_is_down_from_beginning_to_end(remote: Watched, tmp_path: Path) -> None:
    def fail(name: str) -> None:
        raise RemoteUnavailable(f"{name}: no answer", "timed out")

    remote.before = fail
    begun = time.monotonic()
    train(tmp_path / "a")
    assert time.monotonic() - begun < 20, "it is tried once more, and not waited for"
    assert lines(tmp_path / "a") == list(range(1, 11))
    said = told(tmp_path / "a")
    assert said.count("no answer. ") + said.count("no answer Nothing") == 1
    push = f"outlast push r {tmp_path / 'remote'}"
    messages.said(said, "remote/checkpoints-are-not-at-the-remote", count=3, steps="6, 8, 10", command=push)
    info = read_run(tmp_path / "a/r")
    assert (info.status, info.pushed["behind"], info.pushed["steps"]) == ("finished", [6, 8, 10], [])
    assert "no answer" in info.pushed["trouble"]


@pytest.mark.parametrize(
    "error", [RemoteRefused("403: not allowed", "403"), OSError(28, "No space left"), KeyError("x")]
)
def test_training_continues_for_every_failure_of_a_remote(remote: Watched, tmp_path: Path, error: Exception) -> None:
    def fail(_: str) -> None:
        raise error

    remote.before = fail
    run = train(tmp_path / "a", pause=0.02)
    assert run.finished
    said = told(tmp_path / "a").splitlines()
    once = messages.says("remote/nothing-is-pushed-for-now", error=messages.ANY, remote=tmp_path / "remote")
    assert messages.times_said(said, once) == 1


def test_a_remote_that_cannot_be_listed_is_an_error_before_anything_is_trained(
    remote: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str = "") -> Any:
        raise RemoteRefused("there is no such bucket", "404")

    monkeypatch.setattr(remote, "list", refuse)
    with messages.raises(RemoteRefused, "remote/cannot-be-listed") as caught:
        train(tmp_path / "a")
    assert caught.value.reason == "404"
    assert steps(tmp_path / "a") == []


def test_a_slow_remote_gets_the_newest_and_the_session_ends_in_time(remote: Watched, tmp_path: Path) -> None:
    """Each blob takes a tenth of a second; a push takes longer than two saves."""
    remote.before = lambda name: time.sleep(0.1 if "/blobs/" in name else 0.0)
    begun = time.monotonic()
    train(tmp_path / "a", total=10_000, pause=0.02, budget=5.0, reserve=3.0, keep=outlast.Retention(last=2))
    took = time.monotonic() - begun
    assert took < 5.0 + 1.0
    there = [int(name[5:]) for name in newest(remote.root)["checkpoints"]]
    done = max(steps(tmp_path / "a"))
    assert there[-1] >= done - 40
    assert len(there) <= 2
    assert needed(newest(remote.root)) <= blobs(remote.root)
    assert len([name for name in remote.put if "/revisions/" in name]) < 20


def test_what_is_behind_at_the_budgets_end_is_reported(remote: Watched, tmp_path: Path) -> None:
    slow = threading.Event()
    remote.before = lambda name: slow.wait(0.5) if "/blobs/" in name else None
    begun = time.monotonic()
    train(tmp_path / "a", total=10_000, pause=0.02, budget=4.0, reserve=2.0, keep=outlast.Retention(last=2))
    assert time.monotonic() - begun < 5.0
    assert "not at" in told(tmp_path / "a")
    slow.set()
    train(tmp_path / "a", stop=max(steps(tmp_path / "a")) + 1, total=10_000)
    assert list(newest(remote.root)["checkpoints"])[-1] == f"step-{max(steps(tmp_path / 'a')):08d}"


@pytest.mark.parametrize(("seconds", "bound"), [(25.4, ", for 25 s at most"), (float("inf"), " or a try fails")])
def test_a_wait_for_a_remote_says_how_long_it_lasts(seconds: float, bound: str) -> None:
    said, silent = list[str](), list[object]()
    there = SimpleNamespace(tell_silence=silent.append)
    following = FollowingRemote(SimpleNamespace(remote=there), None, None, lambda _, words: said.append(words))  # type: ignore[arg-type]
    waited = list[float]()

    def settle(seconds: float) -> None:
        waited.append(seconds)
        silent[0]("no answer")  # type: ignore[operator]
        silent.clear()

    follower = SimpleNamespace(behind=[4], address="there", settle=settle)
    following._wait_visibly(follower, seconds)  # type: ignore[arg-type]
    messages.said(said[0], "remote/waiting-until-it-is-pushed", step=4, remote="there", bound=bound)
    assert (waited, said[1:]) == ([seconds], ["no answer"]), "now somebody waits, so a silent service is told"
    silent[0]("no answer")  # type: ignore[operator]
    assert len(said) == 2, "and then nobody does"


def test_a_push_is_part_of_the_reserve(tmp_path: Path) -> None:
    environment = Environment("local", Limits(seconds=None, ram=2**34, cores=2))
    found = session.Session(environment, budget=1000.0)
    before = found.reserve
    found.observe_push(20.0)
    assert found.reserve == before + 25.0
    found.observe_push(10_000.0)
    assert found.reserve == before + 100.0, "a tenth of the budget at most"
    assert session.Session(environment).ends is None
    assert found.ends == found.started + 1000.0


def test_of_two_that_train_the_one_that_came_last_pushes(remote: Watched, tmp_path: Path) -> None:
    """The first is not stopped: it is told, and what it saves stays where it is."""
    train(tmp_path / "a", stop=4)

    def overtake(_: outlast.Run, step: int) -> None:
        if step == 6:
            shutil.rmtree(tmp_path / "b", ignore_errors=True)
            assert train(tmp_path / "b", stop=8).resumed_from is not None

    run = train(tmp_path / "a", total=12, pause=0.02, at=overtake)
    assert run.finished
    messages.said(told(tmp_path / "a"), "remote/overtaken", run="r")
    ids = json.loads(max((tmp_path / "b/r/attempts").glob("*.json")).read_text())["id"]
    assert newest(remote.root)["attempt"] == ids
    assert list(newest(remote.root)["checkpoints"])[-1] == "step-00000008"
    again = train(tmp_path / "a", total=14)
    assert again.finished
    assert "holds another history of this run" in told(tmp_path / "a")
    assert newest(remote.root)["attempt"] == ids


def test_another_run_of_the_name_is_left_alone(remote: Watched, tmp_path: Path) -> None:
    train(tmp_path / "a", stop=4)
    train(tmp_path / "b", stop=4, remote=None)
    before = newest(remote.root)
    train(tmp_path / "b", stop=6)
    assert newest(remote.root) == before
    assert "holds another history of this run" in told(tmp_path / "b") or "another run of this name" in told(
        tmp_path / "b"
    )


def killed_before_its_first_checkpoint(remote: Watched, root: Path, **options: Any) -> None:
    """Leave in the remote what an attempt leaves that is killed early: its records."""
    kept = root / "kept"

    def look(_: outlast.Run, step: int) -> None:
        until = time.monotonic() + 20
        while step == 1 and not list(remote.root.glob("r/revisions/*.json")):
            assert time.monotonic() < until
            time.sleep(0.01)
        if step == 1:
            shutil.copytree(remote.root, kept)

    train(root, stop=2, at=look, **options)
    shutil.rmtree(remote.root)
    kept.rename(remote.root)
    assert newest(remote.root)["checkpoints"] == {}


def test_a_run_that_was_killed_before_its_first_checkpoint_is_pushed_by_the_next_machine(
    remote: Watched, tmp_path: Path
) -> None:
    killed_before_its_first_checkpoint(remote, tmp_path / "a")
    known = newest(remote.root)["run"]
    train(tmp_path / "b", stop=4)
    messages.said([told(tmp_path / "b")], "remote/begun-again", remote=remote.root)
    assert json.loads((tmp_path / "b/r/run.json").read_text())["uid"] == newest(remote.root)["run"] == known
    assert list(newest(remote.root)["checkpoints"]) == ["step-00000002", "step-00000004"]
    assert [each.name for each in sorted((tmp_path / "b/r/attempts").glob("*.json"))] == ["0001.json", "0002.json"]
    train(tmp_path / "c", stop=6)
    train(tmp_path / "whole", stop=6, remote=None)
    assert lines(tmp_path / "c") == lines(tmp_path / "whole")


@pytest.mark.parametrize("other", ["checkpoint", "recipe", "damaged"])
def test_it_is_left_alone_by_another_run(remote: Watched, tmp_path: Path, other: str) -> None:
    killed_before_its_first_checkpoint(remote, tmp_path / "a", **({"recipe": "other"} if other == "recipe" else {}))
    if other == "checkpoint":
        train(tmp_path / "b", stop=2, remote=None)
    elif other == "damaged":  # what a newer revision says is not known
        (remote.root / "r/revisions/00000099.json").write_bytes(b"{")
    before = newest(remote.root) if other != "damaged" else None
    train(tmp_path / "b", stop=4)
    assert "Nothing is pushed to" in told(tmp_path / "b")
    assert before is None or newest(remote.root) == before
    assert (
        json.loads((tmp_path / "a/r/run.json").read_text())["uid"]
        != json.loads((tmp_path / "b/r/run.json").read_text())["uid"]
    )


def test_a_run_that_began_without_a_remote_is_pushed_as_it_is(remote: Watched, tmp_path: Path) -> None:
    train(tmp_path / "a", stop=6, remote=None)
    train(tmp_path / "a", stop=7)
    assert list(newest(remote.root)["checkpoints"]) == [f"step-{step:08d}" for step in (4, 6, 7)]


def test_a_commit_does_not_wait_for_the_remote(remote: Watched, tmp_path: Path) -> None:
    go = threading.Event()
    remote.before = lambda name: go.wait(20) if "/blobs/" in name else None
    longest: list[float] = []

    def at(run: outlast.Run, step: int) -> None:
        longest.append(inside(run).attempt.watch.held)
        if step == 20:
            go.set()

    train(tmp_path / "a", total=20, at=at)
    assert max(longest) < 5.0
    assert list(newest(remote.root)["checkpoints"])[-1] == "step-00000020"


def test_only_one_warning_when_it_cannot_delete(
    remote: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outlast.remote.base import Capabilities

    able = Capabilities(writes=True, exclusive_put=True, conditional_delete=False, digest="sha256")
    monkeypatch.setattr(FolderRemote, "capabilities", able)
    train(tmp_path / "a", total=20, pause=0.01)
    assert told(tmp_path / "a").count("has no deletion that is safe") == 1
    assert len(list((remote.root / "r/revisions").glob("*.json"))) > 4


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with messages.raises(outlast.errors.UsageError, "run/remote-no-address", remote=3):
        outlast.open_run("r", root=tmp_path, total_steps=1, remote=3)
    with messages.raises(outlast.errors.UsageError, "run/remote-rate"):
        outlast.open_run("r", root=tmp_path, total_steps=1, remote="x", remote_rate=-1)
    assert not place(tmp_path).path.exists()


def test_the_variable_is_the_lowest_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_REMOTE", str(tmp_path / "there"))
    train(tmp_path / "a", stop=2, remote=None)
    assert list(newest(tmp_path / "there")["checkpoints"]) == ["step-00000002"]


def test_commands_have_the_address_as_it_was_typed(tmp_path: Path) -> None:
    typed = f"file://{tmp_path / 'there'}"
    train(tmp_path / "a", stop=2, remote=typed)
    assert read_run(tmp_path / "a/r").pushed["address"] == typed


def test_a_full_disk_frees_blobs_that_are_being_sent(
    remote: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention has deleted step 2, which is on its way, when the next checkpoint finds no room."""
    from outlast.checkpoint.prune import Pruner
    from outlast.errors import SaveFailed

    looks, held = list[int](), list[Any]()
    started, go = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        if held and held[0].open is not None and not go.is_set():
            started.set()
            assert go.wait(20)

    def full(_: Pruner, step: int, nbytes: int) -> None:
        looks.append(step)
        if step == 6 and looks.count(6) == 1:
            assert not place(tmp_path / "a").checkpoint(2).exists()
            raise SaveFailed("there is no room")

    def at(run: outlast.Run, step: int) -> None:
        if step == 1:
            held.append(inside(run).attempt.following._follower._pusher)
        elif step == 3:
            assert started.wait(20)  # the files of step 2 are open
        elif step == 7:
            go.set()

    remote.before = wait
    monkeypatch.setattr(Pruner, "check_space", full)
    train(tmp_path / "a", at=at, keep=outlast.Retention(last=1), background=False)
    assert looks == [2, 4, 6, 6, 8, 10]
    assert "no room" not in told(tmp_path / "a")
    assert list(newest(remote.root)["checkpoints"]) == ["step-00000010"]


def test_a_script_without_a_with_block_is_pushed_to_its_end(tmp_path: Path) -> None:
    """Its attempt ends while the interpreter shuts down."""
    script = """
import numpy as np
import outlast

class State(dict):
    def state_dict(self):
        return dict(self)

    def load_state_dict(self, state):
        self.update(state)

state = State(at=np.zeros(3))
run = outlast.open_run("r", total_steps=6, save="2 steps", progress="none", remote="there")
run.track(state=state)
for step in run.steps():
    state["at"] = state["at"] + step
"""
    done = processes.run([sys.executable, "-c", script], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    revision = newest(tmp_path / "there")
    assert list(revision["checkpoints"])[-1] == "step-00000006"
    ((hash_, _),) = revision["files"]["attempts/0001.json"]
    record = json.loads((tmp_path / "there/r/blobs" / hash_).read_text())
    assert record["end"]["reason"] == "finished"
    assert record["told"] == []
