"""One writer per run, and no run locked for ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests import messages

from outlast.errors import RunBusy
from outlast.folder import flock, lock
from outlast.folder.lock import Lock, holder

HOLD = """
import sys, time
from pathlib import Path
from outlast.folder.lock import Lock
Lock(Path(sys.argv[1])).take("attempt 7")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused(tmp_path: Path, owner) -> None:
    with messages.raises(
        RunBusy, "folder/being-written-by-attempt-process", pid=owner.pid, hostname=socket.gethostname(), attempt=7
    ):
        Lock(tmp_path / "lock").take("attempt 8")
    assert (holder(tmp_path / "lock") or {})["pid"] == owner.pid


def test_a_killed_owners_lock_is_taken_over_at_once(tmp_path: Path, owner) -> None:
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert holder(tmp_path / "lock") is None
    mine = Lock(tmp_path / "lock")
    messages.said([mine.take("attempt 8") or ""], "folder/owner-was-killed", owner="attempt 7", process=owner.pid)
    mine.release()


def test_released_is_free(tmp_path: Path) -> None:
    one = Lock(tmp_path / "lock")
    assert one.take("attempt 1") is None
    one.release()
    one.release()
    two = Lock(tmp_path / "lock")
    assert two.take("attempt 2") is None
    two.release()


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    """A data loader's worker outlives a killed trainer for seconds."""
    mine = Lock(tmp_path / "lock")
    mine.take("attempt 1")
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    mine.release()
    other = Lock(tmp_path / "lock")
    assert other.take("attempt 2") is None, "given back, not taken over"
    other.release()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def record(path: Path, **facts) -> None:
    path.write_text(
        json.dumps(
            {
                "attempt": "attempt 1",
                "pid": os.getppid(),
                "host": socket.gethostname(),
                "boot": lock._boot(),
                "beat": time.time(),
                **facts,
            }
        )
    )


def test_another_machines_heartbeat_counts(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    record(path, host="elsewhere", boot="another boot")
    with messages.raises(RunBusy, "folder/is-being-written-by-attempt-process"):
        Lock(path).take("attempt 2")
    record(path, host="elsewhere", boot="another boot", beat=time.time() - lock.STALE - 1)
    mine = Lock(path)
    assert "elsewhere" in (mine.take("attempt 2") or "")
    mine.release()


@pytest.mark.parametrize("kernel", [True, False], ids=["flock", "no-flock"])
def test_after_a_reboot(tmp_path: Path, monkeypatch, kernel: bool) -> None:
    if not kernel:
        monkeypatch.setattr(flock, "fcntl", None)
    path = tmp_path / "lock"
    record(path, boot="another boot")
    mine = Lock(path)
    assert mine.take("attempt 2")
    mine.release()


def test_without_kernel_locks_the_process_id_decides(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(flock, "fcntl", None)
    path = tmp_path / "lock"
    record(path)
    with pytest.raises(RunBusy):
        Lock(path).take("attempt 2")
    record(path, pid=2**22 - 3)
    mine = Lock(path)
    assert mine.take("attempt 2")
    mine.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "\0" * 512])
def test_a_damaged_lock_file_blocks_no_attempt(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    mine = Lock(tmp_path / "lock")
    assert mine.take("attempt 1") is None
    assert (holder(tmp_path / "lock") or {})["attempt"] == "attempt 1"
    mine.release()


def test_the_heart_beats(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    mine = Lock(tmp_path / "lock")
    mine.take("attempt 1")
    first = json.loads((tmp_path / "lock").read_text())["beat"]
    time.sleep(0.3)
    assert json.loads((tmp_path / "lock").read_text())["beat"] > first
    mine.release()


def test_a_restarted_container_with_another_name_is_not_waited_for(tmp_path: Path) -> None:
    record(tmp_path / "lock", host="old-container")
    mine = Lock(tmp_path / "lock")
    assert mine.take("attempt 2")
    mine.release()


def test_asking_who_holds_the_lock_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [holder(path) for _ in iter(stop.is_set, True)])
    thread.start()
    try:
        for _ in range(50):
            mine = Lock(path)
            assert mine.take("attempt 1") is None
            mine.release()
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "facts",
    [
        {"pid": 10**30}, {"pid": -1}, {"pid": 0}, {"pid": True}, {"pid": "1"}, {"pid": 1.5}, {"beat": "now"},
        {"beat": 10**400}, {"host": 3}, {"boot": []}, {"attempt": {"deep": 1}}, {"released": "no"},
    ],
)  # fmt: skip
def test_a_forged_lock_record_blocks_no_attempt_and_queries_no_process(
    tmp_path: Path, monkeypatch, facts: dict
) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process was asked"))
    record(tmp_path / "lock", **{"host": "elsewhere", "boot": "another boot", **facts})
    assert holder(tmp_path / "lock") is None
    mine = Lock(tmp_path / "lock")
    assert mine.take("attempt 2") is None
    mine.release()


def test_a_huge_lock_file_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("wb") as file:
        file.truncate(2**40)
    assert holder(tmp_path / "lock") is None
    mine = Lock(tmp_path / "lock")
    assert mine.take("attempt 1") is None
    mine.release()


def test_a_beat_from_the_future_is_judged_by_when_the_file_was_written(tmp_path: Path) -> None:
    """A clock that jumped: the machine that wrote it is gone, and nobody waits for its clock to come true."""
    path, ahead = tmp_path / "lock", time.time() + 30 * 86400
    record(path, host="elsewhere", boot="another boot", beat=ahead)
    assert (holder(path) or {})["host"] == "elsewhere", "written just now, by one whose clock is ahead"
    for when in (ahead, time.time() - lock.STALE - 5):
        os.utime(path, (when, when))
        assert holder(path) is None
    mine = Lock(path)
    assert "elsewhere" in (mine.take("attempt 2") or "")
    mine.release()


def test_a_process_id_that_another_program_has_now_is_not_the_owner(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(flock, "fcntl", None)
    path = tmp_path / "lock"
    record(path, pid=os.getpid(), start=lock.start_of(os.getpid()))
    with pytest.raises(RunBusy):
        Lock(path).take("attempt 2")
    record(path, pid=os.getpid(), start=lock.start_of(os.getpid()) + 1)
    mine = Lock(path)
    assert mine.take("attempt 2")
    mine.release()


def test_a_lock_file_replaced_while_it_is_taken_is_not_ours(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "lock"
    path.touch()
    real = lock._flock_patiently

    def meanwhile(descriptor: int):
        (tmp_path / "new").touch()
        (tmp_path / "new").replace(path)
        return real(descriptor)

    monkeypatch.setattr(lock, "_flock_patiently", meanwhile)
    with messages.raises(RunBusy, "folder/lock-was-replaced"):
        Lock(path).take("attempt 1")
