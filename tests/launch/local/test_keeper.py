"""What a keeper, a power cut or a killed delete leaves: no training without a limit, and no record that is an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outlast.folder.layout import RunFolder
from outlast.launch.keeper import write
from outlast.launch.local.provider import LocalProvider, connect
from outlast.launch.process import identity
from outlast.launch.provider import Line, State
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.watch import follow, state_of
from tests.launch.local.test_local import HANDLE, begin, session, until_over

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def provider() -> LocalProvider:
    return connect(Path("runs"))


def until(found, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


FAILING = """
import sys
from pathlib import Path
import outlast.launch.keeper as keeper
import outlast.launch.local.session as session
written = keeper.write
def write(path, record):
    if path.name == sys.argv[2]:
        raise OSError(28, "No space left on device")
    written(path, record)
keeper.write = session.write = write
sys.exit(session.main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("failing", ["keeper.json", "training.json", "end.json"])
def test_no_training_outlives_a_keeper_that_cannot_write(provider: LocalProvider, failing: str) -> None:
    pid = Path("pid").absolute()
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    folder = session(provider, code, seconds=1.0, grace=0.5)
    subprocess.run([sys.executable, "-c", FAILING, str(folder), failing], check=False, stderr=subprocess.DEVNULL)
    if failing == "keeper.json":
        time.sleep(0.5)
        assert not pid.exists()
        return
    if failing == "end.json":
        until(pid.exists)
    until(lambda: provider.state(HANDLE).over)
    assert provider.state(HANDLE).word == "lost"
    assert not pid.exists() or not identity(int(pid.read_text() or 2**31 - 1))


def test_a_command_that_is_missing_is_a_failure_with_its_reason(provider: LocalProvider) -> None:
    folder = session(provider, "")
    about = json.loads((folder / "session.json").read_text())
    write(folder / "session.json", {**about, "command": ["/nowhere/python"]})
    begin(folder)
    state = until_over(provider)
    assert (state.word, state.exit) == ("failed", 127)
    assert "No such file" in state.message


@pytest.mark.parametrize("damage", ["", "{", '{"pid": 1}', "[]"])
@pytest.mark.parametrize("record", ["keeper.json", "end.json", "session.json"])
def test_a_torn_record_is_a_session_that_is_lost_and_is_deleted(
    provider: LocalProvider, record: str, damage: str
) -> None:
    folder = session(provider, "")
    (folder / "begun").touch()
    write(folder / "keeper.json", {"pid": 2**31 - 1, "began": "long ago"})
    (folder / "work/kept").write_text("x")
    (folder / record).write_text(damage)
    for name in ("begun", "session.json"):
        os.utime(folder / name, (1.0, 1.0))
    state = provider.state(HANDLE)
    assert (state.word, state.over) == ("lost", True)
    assert [output.name for output in provider.outputs(HANDLE)] == ["kept"]
    assert provider.delete(HANDLE) == [folder.name]


@pytest.mark.parametrize("gone", [("session.json",), ("begun", "session.json"), ("session.json", "keeper.json")])
def test_a_session_of_which_records_are_gone_is_lost(provider: LocalProvider, gone: tuple[str, ...]) -> None:
    folder = session(provider, "")
    (folder / "begun").touch()
    write(folder / "keeper.json", {"pid": 2**31 - 1, "began": "long ago"})
    os.utime(folder / "session.json", (1.0, 1.0))
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    state = provider.state(HANDLE)
    assert state.word == ("queued" if "keeper.json" in gone else "lost")  # queued: claimed at this look, for a while
    assert state.seconds is None or state.seconds < 60
    if state.word == "queued":  # a delete waits until it is lost
        os.utime(folder / "begun", (time.time() - 29, time.time() - 29))
    assert provider.delete(HANDLE) == [folder.name]
    assert provider.state(HANDLE) is None


def test_a_delete_that_was_killed_is_completed_by_the_next_one(provider: LocalProvider) -> None:
    folder = session(provider, "")
    going = folder.with_name(f".tmp-{folder.name}")
    folder.rename(going)
    assert provider.state(HANDLE) is None
    assert provider.delete(HANDLE) == []
    assert not going.exists()


def test_a_session_with_folders_a_thousand_deep_is_deleted(provider: LocalProvider) -> None:
    folder = session(provider, "")
    (folder / "begun").touch()
    write(folder / "end.json", {"word": "completed", "message": "", "exit": 0, "seconds": 1.0})
    place = os.open(folder / "work", os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    assert provider.delete(HANDLE) == [folder.name]
    assert list(provider.root.iterdir()) == []


@pytest.mark.parametrize("written", ["", "300", "-1", "abc", "9" * 5000])
def test_an_exit_code_that_no_process_can_have_does_not_count(provider: LocalProvider, written: str) -> None:
    folder = session(provider, "")
    (folder / "exit").write_text(written)
    begin(folder)
    state = until_over(provider)
    assert (state.word, state.exit) == ("completed", 0)


def test_a_session_from_a_future_time_is_not_waited_for(provider: LocalProvider) -> None:
    folder = session(provider, "")
    os.utime(folder / "session.json", (time.time() + 86400,) * 2)
    (folder / "begun").touch()
    os.utime(folder / "begun", (time.time() + 86400,) * 2)
    assert provider.state(HANDLE).word == "lost"


def test_a_cancel_lets_a_training_save_whose_keeper_was_killed(provider: LocalProvider) -> None:
    saved = Path("saved").absolute()
    code = f"""
import signal, sys, time
def save(*_):
    time.sleep(0.3)
    open({str(saved)!r}, "w").write("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("up", flush=True)
while True: time.sleep(0.05)
"""
    folder = session(provider, code)
    begin(folder)
    until(lambda: list(provider.log(HANDLE)))
    os.kill(json.loads((folder / "keeper.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: not identity(json.loads((folder / "keeper.json").read_text())["pid"]))
    assert provider.state(HANDLE).word == "running"
    provider.cancel(HANDLE)
    until_over(provider)
    assert saved.read_text() == "saved"


def test_a_log_without_an_end_is_read_in_lines_of_bounded_length(provider: LocalProvider) -> None:
    folder = session(provider, "")
    write(folder / "end.json", {"word": "completed", "message": "", "exit": 0, "seconds": 1.0})
    (folder / "log.txt").write_bytes(b"a\n\nb\rc\n" + b"x" * 150_000 + b"\nlast")
    lines = [line.text for line in provider.log(HANDLE)]
    assert lines[:4] == ["a", "", "b", "c"]
    assert lines[-1] == "last"
    assert max(map(len, lines)) <= 1 << 16
    assert "".join(lines[4:-1]) == "x" * 150_000
    assert [line.text for line in provider.log(HANDLE, since=2)] == lines[2:]


class _Provider:
    """Of one session, which has ended and printed some lines."""

    def __init__(self, state: State, *lines: str) -> None:
        self.ended, self.lines = state, lines

    def state(self, _handle: object) -> State:
        return self.ended

    def log(self, _handle: object, **_: object):
        return iter([Line(0.0, line) for line in self.lines])


@pytest.mark.parametrize(
    ("state", "line", "expected"),
    [
        (State("failed", exit=1), "::outlast exit 0", "failed(1)"),
        (State("completed", exit=75), "::outlast exit 1", "stopped"),
        (State("failed"), "::outlast exit 0", "failed(1)"),
        (State("completed"), "::outlast exit 75", "stopped"),
        (State("completed"), "::outlast exit " + "7" * 9, "succeeded"),
    ],
)
def test_how_a_session_ended_its_provider_says_first(state: State, line: str, expected: str) -> None:
    record = LaunchRecord.begin(
        RunFolder(Path("runs/x")), 1, provider="local", name="outlast-x-001", handle=HANDLE, accelerator="cpu"
    )
    device = "::outlast device " + "d" * 100_000
    provider = _Provider(state, line, device, "::outlast device a card")
    assert device in list(follow(provider, record))
    assert state_of(provider, record) == expected
    (kept,) = all_launches(record.folder)
    assert kept.record["device"] == "a card"
    assert record.path.stat().st_size < 1000
