"""What is sent to a tracker: each line of the journal once, whenever an attempt or the process that sends is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests import messages
from tests.counting import Counter
from tests.tracking.sinks.runs import Left, kill, points, send, train

import outlast
from outlast.errors import OutlastError, UsageError
from outlast.folder.layout import RunFolder
from outlast.tracking.sinks import client as clients
from outlast.tracking.sinks import feed as feeds
from outlast.tracking.sinks import feeder, marks, tracker
from outlast.tracking.sinks.client import Sent, client_of
from outlast.tracking.sinks.feed import Feed
from outlast.tracking.sinks.feeder import Feeder


class Kept:
    """A tracker that can only be added to. It outlives the process that sends, as a server does.

    Args:
        forgetful: it cannot say what it has.
        broken: errors that it raises before it takes anything.
    """

    final = True

    def __init__(self, *, forgetful: bool = False, broken: int = 0) -> None:
        self.lines, self.ends, self.pictures = [], [], []
        self.forgetful, self.broken = forgetful, broken
        self.notes: list[str] = []

    def begin(self, run, state, known, last):
        if self.forgetful:
            return last
        step = self.lines[-1]["step"] if self.lines else -1
        return Sent(step, sum(line["step"] == step for line in self.lines))

    def send(self, records) -> None:
        if self.broken:
            self.broken -= 1
            raise ConnectionError("no route")
        self.lines += [dict(record) for record in records]

    def picture(self, picture) -> None:
        self.pictures.append((picture.name, picture.step))

    def flush(self):
        return {}

    def ended(self, reason, step) -> None:
        self.ends.append((reason, step))

    def close(self) -> None:
        pass

    def points(self):
        found: dict = {}
        for line in self.lines:
            for key, value in line.items():
                if key not in ("step", "epoch"):
                    found.setdefault(key, []).append((line["step"], value))
        return found


def test_a_tracker_that_cannot_take_back_gets_only_what_no_attempt_repeats(opened, tmp_path: Path) -> None:
    tracker = Kept()
    train(opened, 20, leave_at=8)
    feed = send(tmp_path, tracker, "kept")
    assert tracker.lines[-1]["step"] == 6, "the checkpoint at 6 is the newest, and 7 and 8 are logged again"
    assert feed.waiting
    train(opened, 20, leave_at=14, add=0.5)
    send(tmp_path, tracker, "kept")
    train(opened, 20, add=0.25)
    assert not send(tmp_path, tracker, "kept").waiting
    assert tracker.points() == points(tmp_path)
    assert [step for step, _ in tracker.points()["value"]] == list(range(1, 21))
    assert tracker.ends[-1] == ("finished", 20)


def test_each_step_once_if_the_process_that_sends_is_killed_before_it_remembers(opened, tmp_path: Path) -> None:
    tracker = Kept()
    for leave_at in (5, 9, 13, None):
        train(opened, 16, leave_at=leave_at)
        send(tmp_path, tracker, "kept", keep=False)
    assert not (tmp_path / "r/trackers/kept.json").exists()
    assert tracker.points() == points(tmp_path)


def test_sending_again_sends_nothing(opened, tmp_path: Path) -> None:
    tracker = Kept(forgetful=True)
    train(opened, 10)
    assert send(tmp_path, tracker, "kept").lines == 12
    before = (tmp_path / "r/trackers/kept.json").read_bytes()
    assert send(tmp_path, tracker, "kept").lines == 0
    assert (tmp_path / "r/trackers/kept.json").read_bytes() == before


def test_lines_of_one_step_that_come_later_are_sent_too(opened, tmp_path: Path) -> None:
    tracker = Kept(forgetful=True)
    train(opened, 6)
    send(tmp_path, tracker, "kept")
    with (tmp_path / "r/journal.jsonl").open("a") as journal:
        journal.write('{"step": 6, "test": 0.5}\n')
    assert send(tmp_path, tracker, "kept").lines == 1
    assert tracker.lines[-1] == {"step": 6, "test": 0.5}


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 1}', b'{"format": 1, "run": "ff", "marks": [[]]}'])
def test_a_damaged_memory_is_as_none(opened, tmp_path: Path, damage: bytes) -> None:
    tracker = Kept()
    train(opened, 6)
    send(tmp_path, tracker, "kept")
    (tmp_path / "r/trackers/kept.json").write_bytes(damage)
    train(opened, 9)
    send(tmp_path, tracker, "kept")
    assert tracker.points() == points(tmp_path)


def test_a_memory_that_names_other_bytes_than_the_journal_s_holds_for_none_of_it(opened, tmp_path: Path) -> None:
    train(opened, 9)
    send(tmp_path, Kept(), "kept")
    path = tmp_path / "r/trackers/kept.json"
    uid = json.loads((tmp_path / "r/run.json").read_text())["uid"]
    memory = marks.read(path, uid)
    assert marks.newest_that_holds(memory.marks, tmp_path / "r/journal.jsonl")[0] == memory.marks[-1]
    journal = tmp_path / "r/journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"value": 1.0}', b'"value": 2.0}'))
    assert marks.newest_that_holds(memory.marks, journal)[0] is None


def test_marks_stay_few(tmp_path: Path) -> None:
    many = tuple(marks.Mark(step, "0" * 32, Sent(step, 1), step + 1, "0" * 32) for step in range(5000))
    marks.write(tmp_path / "t/m.json", "ff", marks.Memory(many, {}, {}))
    kept = marks.read(tmp_path / "t/m.json", "ff").marks
    assert len(kept) <= marks.MOST
    assert kept[-1] == many[-1]
    assert kept[0] == many[0]


def test_only_one_process_sends(opened, tmp_path: Path) -> None:
    train(opened, 3)
    first, second = (Feed(RunFolder(tmp_path / "r"), "kept", Kept()) for _ in range(2))
    assert first.take()
    assert not second.take()
    first.close()
    assert second.take()
    second.close()


def test_a_picture_is_sent_once_and_again_when_it_changes(opened, tmp_path: Path) -> None:
    tracker = Kept()
    for step, data in ((3, b"one"), (6, b"two")):
        with opened(total_steps=step, save="3 steps") as run:
            run.track(counter=Counter())
            for _ in run.steps():
                pass
            with run.artifact("plots/a.png") as path:
                path.write_bytes(data)
            with run.artifact("weights.bin") as path:
                path.write_bytes(data)
        for _ in range(2):
            send(tmp_path, tracker, "kept")
    assert tracker.pictures == [("plots/a.png", 3), ("plots/a.png", 6)]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with messages.raises(UsageError, "tracking/not-a-run-folder", folder=tmp_path):
        feeds.mirrored(RunFolder(tmp_path))


def test_a_journal_that_is_cut_while_it_is_sent_is_noticed(opened, tmp_path: Path) -> None:
    train(opened, 6)
    feed = Feed(RunFolder(tmp_path / "r"), "kept", tracker := Kept())
    feed.take()
    feed.begin()
    feed.catch_up()
    journal = tmp_path / "r/journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.index(b"\n") + 1])
    with pytest.raises(feeds.Rewound):
        feed.catch_up()
    journal.write_bytes(whole)
    feed.begin()
    feed.catch_up()
    feed.close()
    assert tracker.points() == points(tmp_path)


def test_an_error_of_the_tracker_is_told_once_and_sending_continues(opened, tmp_path: Path, monkeypatch) -> None:
    train(opened, 6)
    tracker, told = Kept(broken=2), []
    monkeypatch.setattr("outlast.tracking.sinks.feeder.client_of", lambda name, options: tracker)
    monkeypatch.setattr("outlast.tracking.sinks.feeder.FIRST_PAUSE", 0.01)
    request = {"run": str(tmp_path / "r"), "to": "tensorboard", "options": {}}
    feeder = Feeder(request, lambda *words: told.append(words))
    thread = threading.Thread(target=feeder.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not tracker.lines and time.monotonic() < deadline:
        time.sleep(0.01)
    feeder.hear("end")
    thread.join(20)
    assert tracker.points() == points(tmp_path)
    assert [level for level, _ in told] == ["warning"]
    messages.said(told[0][1], "tracking/tracker-failed", error="ConnectionError: no route", folder=tmp_path / "r")


def test_a_library_that_is_not_installed_is_named(monkeypatch) -> None:
    loaded = [name for name in sys.modules if name.startswith("tensorboard.")]  # by tests before this one
    for name in ("tensorboard", *loaded):
        monkeypatch.setitem(sys.modules, name, None)
    with messages.raises(UsageError, "tracking/library-not-installed", tracker="TensorBoard", package="tensorboard"):
        client_of("tensorboard", {})


def test_a_run_without_the_library_trains_and_says_how_to_send_it_later(
    opened, tmp_path: Path, monkeypatch, capfd
) -> None:
    (tmp_path / "without/tensorboard").mkdir(parents=True)
    (tmp_path / "without/tensorboard/__init__.py").write_text("raise ModuleNotFoundError('no', name='tensorboard')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))
    monkeypatch.setattr("outlast.tracking.sinks.tracker.WAIT", 60)
    monkeypatch.setattr("outlast.tracking.fanout.DEADLINE", 60)
    train(opened, 4, sinks=[outlast.sinks.TensorBoard()])
    told = json.loads(next((tmp_path / "r/attempts").glob("*[0-9].json")).read_text())["told"]
    assert any("outlast sync" in sentence and "not installed" in sentence for sentence in told)
    assert points(tmp_path)["value"][-1] == (4, 4.0)


def test_importing_the_sinks_imports_no_tracker() -> None:
    code = f"import sys, outlast.sinks; print([n for n in {[*clients.TRACKERS]!r} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_rewound_is_an_error_of_ours() -> None:
    assert issubclass(feeds.Rewound, OutlastError)


def test_a_killed_attempt_has_no_end_to_tell(opened, tmp_path: Path) -> None:
    train(opened, 9, leave_at=5)
    kill(tmp_path)
    tracker = Kept()
    send(tmp_path, tracker, "kept")
    assert tracker.ends == []
    assert tracker.lines[-1]["step"] == 3


def test_a_process_that_dies_is_started_again_and_said(opened, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "fakes/tensorboard").mkdir(parents=True)
    (tmp_path / "fakes/tensorboard/__init__.py").write_text("import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "fakes"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("outlast.tracking.sinks.tracker.WAIT", 60)
    monkeypatch.setattr("outlast.tracking.fanout.DEADLINE", 60)
    sink, seen = outlast.sinks.TensorBoard(), []
    with opened(total_steps=40, save="5 steps", background=False, sinks=[sink]) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(value=step)
            if step % 5 == 4:
                died(sink, seen)
    told = json.loads(next((tmp_path / "r/attempts").glob("*[0-9].json")).read_text())["told"]
    again = [sentence for sentence in told if "ended unexpectedly" in sentence]
    messages.said(again[0], "tracking/process-died", status=9)
    assert sink._starts == tracker.MOST_STARTS
    assert points(tmp_path)["value"][-1] == (40, 40)


def died(sink, seen: list) -> None:
    """Wait until another process of the sink than those that were seen has ended; not for one beyond the most."""
    deadline = time.monotonic() + 30
    while len(seen) < tracker.MOST_STARTS:
        if sink._process is not None and sink._process not in seen and sink._process.poll() is not None:
            seen.append(sink._process)
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_library_that_is_missing_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_CODE", f"import sys; sys.exit({feeder.UNUSABLE})")
    sink = outlast.sinks.TensorBoard()
    sink._start()
    died(sink, [])
    sink.saved(None)
    assert (sink._starts, list(sink.notes)) == (1, [])


def test_a_process_that_goes_on_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_CODE", "import time; time.sleep(60)")
    monkeypatch.setattr(tracker, "WAIT", 0.2)
    sink = outlast.sinks.TensorBoard()
    sink._run = "runs/r"
    sink._start()
    process = sink._process
    begun = time.monotonic()
    sink.closed()
    assert time.monotonic() - begun < 20
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    ((level, sentence),) = sink.notes
    assert level == "info"
    messages.said(sentence, "tracking/sends-the-rest")


def test_a_memory_of_another_run_is_none(opened, tmp_path: Path) -> None:
    train(opened, 6)
    send(tmp_path, Kept(), "kept")
    path = tmp_path / "r/trackers/kept.json"
    assert marks.read(path, json.loads((tmp_path / "r/run.json").read_text())["uid"]).marks
    assert marks.read(path, "ff") == marks.Memory((), {}, {})


def test_pictures_wait_for_the_checkpoint_too(opened, tmp_path: Path) -> None:
    kept = Kept()
    with contextlib.suppress(Left), opened(total_steps=9, save="3 steps", background=False) as run:
        run.track(counter=Counter())
        for step in run.steps():
            if step in (2, 5):
                with run.artifact(f"{step}.png") as path:
                    path.write_bytes(b"picture")
            if step == 5:
                raise Left
    send(tmp_path, kept, "kept")
    assert kept.pictures == [("2.png", 2)], "the checkpoint at 3 is the newest, and step 5 is made again"
    train(opened, 9)
    send(tmp_path, kept, "kept")
    assert [name for name, _ in kept.pictures] == ["2.png", "5.png"]


def test_pictures_that_a_tracker_takes_back_are_sent_again(opened, tmp_path: Path) -> None:
    class TakesBack(Kept):
        final = False
        has = Sent(10**9, 1)

        def begin(self, run, state, known, last):
            return min(known, self.has)

    with opened(total_steps=9, save="3 steps") as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(value=step)
            if step in (3, 8):
                with run.artifact(f"{step}.png") as path:
                    path.write_bytes(b"picture")
    kept = TakesBack()
    send(tmp_path, kept, "kept")
    assert sorted(kept.pictures) == [("3.png", 3), ("8.png", 8)]
    kept.has = Sent(5, 1)
    send(tmp_path, kept, "kept")
    assert kept.pictures[2:] == [("8.png", 8)]


def fed(folder: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Feeder:
    """A feeder of a run that sends to `kept` and looks often."""
    monkeypatch.setattr(feeder, "client_of", lambda name, options: kept)
    monkeypatch.setattr(feeder, "LOOK", 0.01)
    return Feeder({"run": str(folder), "to": "tensorboard", "options": {}}, lambda *_: None)


def test_the_end_of_the_training_is_told(opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(opened, 6)
    kept = Kept()
    feeding = fed(tmp_path / "r", kept, monkeypatch)
    feeding.hear("look")
    feeding.hear("end")
    assert feeding.run() == 0
    assert kept.ends == [("finished", 6)]
    assert kept.points() == points(tmp_path)


def test_what_was_sent_is_remembered_though_the_training_goes_on(
    opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(opened, 6)
    monkeypatch.setattr(feeder, "KEEP", 0.0)
    feeding = fed(tmp_path / "r", Kept(), monkeypatch)
    thread = threading.Thread(target=feeding.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not (there := (tmp_path / "r/trackers/tensorboard.json").exists()) and time.monotonic() < deadline:
        time.sleep(0.01)
    feeding.hear("end")
    thread.join(20)
    assert there


def test_the_process_ends_with_a_training_that_is_killed(tmp_path: Path) -> None:
    """Though another process still holds its pipe, as one that the training forked may."""
    code = (
        "import subprocess, sys\n"
        "feeder = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=sys.stdin, stdout=subprocess.DEVNULL)\n"
        "print(feeder.pid, flush=True)\n"
    )
    feeds_on = (
        "from outlast.tracking.sinks import feeder\n"
        "feeder.LINGER = 0.1\n"
        "feeder.Feeder.run = lambda self: __import__('time').sleep(100)\n"
        "feeder.main()\n"
    )
    training = subprocess.Popen(
        [sys.executable, "-c", code, feeds_on], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    request = {"run": str(tmp_path), "to": "tensorboard", "options": {}, "parent": training.pid}
    training.stdin.write(json.dumps(request) + "\n")
    training.stdin.flush()
    pid = int(training.stdout.readline())
    assert training.wait() == 0
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/fd/0").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    training.stdin.close()
    training.stdout.close()
