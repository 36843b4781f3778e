"""`outlast run`: a command that knows nothing of outlast outlives its session."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import messages

import outlast
from outlast.checkpoint import CheckpointStore, verify
from outlast.cli import main
from outlast.errors import OutlastError
from outlast.folder import lock, reading
from outlast.folder.layout import RunFolder
from outlast.integrations import before, child, command, keeper, log
from outlast.integrations.log import OutputLog
from outlast.integrations.patterns import Found, Patterns

TRAIN = """
import os, pathlib, signal, sys, time
total, pause = int(sys.argv[1]), float(sys.argv[2])
state = pathlib.Path("out/state")
state.parent.mkdir(exist_ok=True)
step, stop = int(state.read_text()) if state.exists() else 0, []
for name in sys.argv[3:]:
    signal.signal(getattr(signal, name), lambda *_: stop.append(name))
print("from", step)
while step < total and not stop and not pathlib.Path(os.environ["OUTLAST_STOP_FILE"]).exists():
    step += 1
    pathlib.Path("out/part").write_text(str(step))
    pathlib.Path("out/part").replace(state)
    time.sleep(pause)
print("to", step)
sys.exit(0 if step == total else 75)
"""
"""A training that counts, continues from its file, and stops at a signal and at the file."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the training in it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text(TRAIN)
    for name in ("OUTLAST_RUN", "OUTLAST_ROOT", "OUTLAST_BUDGET", "OUTLAST_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def run(*words: object, flags: tuple[str, ...] = ("--keep", "out")) -> int:
    """`outlast run` in this process, with the interpreter before the words."""
    return main(["run", *flags, "--", sys.executable, *map(str, words)])


def shell(text: str, *flags: str) -> int:
    return main(["run", "--name", "x", *flags, "--", "/bin/sh", "-c", text])


def start(*words: str) -> subprocess.Popen[str]:
    """`outlast run` in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "outlast", "run", *words], stderr=subprocess.PIPE, text=True)


def attempt(number: int, name: str = "x") -> dict[str, Any]:
    return dict(reading.read_json(RunFolder(Path("runs") / name).attempt(number)))


def steps(name: str = "x") -> list[tuple[int, str]]:
    """Step and reason of each checkpoint; all verify."""
    found = CheckpointStore(RunFolder(Path("runs") / name)).committed()
    return [(verify(each.path).step, each.reason) for each in found]


def wait_for(seen: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < until
        time.sleep(0.01)


def count() -> int:
    return int(Path("out/state").read_text()) if Path("out/state").exists() else 0


def test_a_finished_run_is_not_started_again(capfd: pytest.CaptureFixture[str], here: Path) -> None:
    assert run("train.py", 3, 0) == 0
    assert "to 3" in capfd.readouterr().out
    assert steps("train") == [(1, "final")]
    assert attempt(1, "train")["end"]["reason"] == "finished"
    shutil.rmtree("out")
    assert run("train.py", 3, 0) == 0
    out, err = capfd.readouterr()
    assert "from" not in out
    messages.said(err, "integrations/is-finished")
    assert count() == 3
    assert run("train.py", 5, 0) == 0  # another command
    assert "from 3" in capfd.readouterr().out
    assert steps("train") == [(1, "final"), (2, "final")]


def test_the_usual_verbs_work(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("train.py", 3, 0) == 0
    capfd.readouterr()
    assert main(["status", "train", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert (shown["status"], shown["step"], shown["grade"]) == ("finished", 1, command.GRADE)
    assert main(["verify", "train"]) == 0
    assert main(["checkpoints", "train"]) == 0
    place = next(Path("runs/train/checkpoints").glob("step-*/files.safetensors"))
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    assert main(["verify", "train"]) == 1


def test_a_remote_brings_the_files_to_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ("--keep", "out", "--name", "x", "--remote", str(tmp_path / "remote"))
    (tmp_path / "remote").mkdir()
    assert shell("mkdir out; echo half > out/state; exit 75", *flags) == 75
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert shell("cat out/state", *flags) == 0
    assert "half" in capfd.readouterr().out
    assert main(["pull", "x", str(tmp_path / "remote"), "--checkpoint-dir", "third"]) == 0
    assert len(CheckpointStore(RunFolder(Path("third/x"))).committed()) == 1


def test_a_session_without_any_output_is_continued_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--keep", "out", "--remote", str(tmp_path / "remote"))
    (tmp_path / "remote").mkdir()
    assert shell("exit 75", *flags) == 75
    for name, content in (("other", "1"), ("third", "2")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert shell(f"mkdir -p out; echo {content} >> out/state; exit 75", *flags) == 75
    assert Path("out/state").read_text() == "1\n2\n"
    assert [number for number, _ in steps()][-1] == 3


@pytest.mark.parametrize("name", ["TERM", "USR1", "none"])
def test_budget(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    listening = () if name == "none" else (f"SIG{name}",)
    flags = ("--keep", "out", "--name", "x", "--budget", "2s", "--grace", "0.6s", "--signal", name)
    begun = time.monotonic()
    assert run("train.py", 10**6, 0.01, *listening, flags=flags) == 75
    assert time.monotonic() - begun < 2
    assert attempt(1)["end"]["reason"] == "budget"
    assert f"to {count()}" in capfd.readouterr().out
    assert steps() == [(1, "budget")]
    assert not Path("runs/x/stop").exists()


def test_a_command_that_stops_with_0_when_told_to_has_not_finished() -> None:
    text = 'trap "exit 0" TERM; while true; do sleep 0.05; done'
    assert shell(text, "--budget", "2s", "--grace", "0.5s") == 75
    assert attempt(1)["end"]["reason"] == "budget"


def test_sigterm(here: Path) -> None:
    process = start("--keep", "out", "--name", "x", "--", sys.executable, "train.py", "1000000", "0.01", "SIGTERM")
    wait_for(lambda: count() > 3)
    process.terminate()
    assert process.wait(30) == 75
    end = attempt(1)["end"]
    assert (end["reason"], end["signal"]) == ("preempted", "SIGTERM")
    assert steps() == [(1, "preempted")]
    process.stderr.close()  # type: ignore[union-attr]


def test_an_ignored_signal_ends_in_time_and_keeps_what_was_written(capfd: pytest.CaptureFixture[str]) -> None:
    text = 'trap "" TERM; mkdir out; echo last > out/state; while true; do sleep 0.05; done'
    begun = time.monotonic()
    assert shell(text, "--keep", "out", "--budget", "2s", "--grace", "0.5s") == 75
    assert time.monotonic() - begun < 2
    messages.said(capfd.readouterr().err, "integrations/killed")
    assert steps() == [(1, "budget")]


def test_kill_9_of_the_wrapper(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--keep", "out", "--name", "x", "--", sys.executable, "train.py", "1000000", "0.01")
    process = start(*words)
    wait_for(lambda: count() > 3 and len(attempt(1).get("command", {}).get("processes", ())) == 1)
    pid, began = attempt(1)["command"]["processes"][0]
    process.kill()
    process.wait()
    process.stderr.close()  # type: ignore[union-attr]
    if not shutil.which("setpriv"):
        os.killpg(pid, signal.SIGKILL)
    wait_for(lambda: lock.start_of(pid) != began)
    reached = count()
    assert run("train.py", reached + 2, 0, flags=("--keep", "out", "--name", "x")) == 0
    assert f"from {reached}\n" in capfd.readouterr().out
    assert attempt(1)["end"]["reason"] == "lost"
    assert count() == reached + 2


def test_what_a_killed_attempt_wrote_is_newer_than_the_checkpoint(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("mkdir out; echo 1 > out/state; echo 1 > out/more; exit 75", "--keep", "out") == 75
    assert shell("exit 75", "--keep", "out") == 75
    record = attempt(2)
    del record["end"]
    record["command"]["collected"] = False
    RunFolder(Path("runs/x")).attempt(2).write_text(json.dumps(record))
    Path("out/state").write_text("2\n")
    Path("out/more").unlink()
    Path("out/more").mkdir()
    assert shell("true", "--keep", "out") == 1  # an attempt that does not come as far as the command
    Path("out/more").rmdir()
    assert shell("cat out/state out/more", "--keep", "out") == 0
    out, err = capfd.readouterr()
    assert out.split() == ["2", "1"]
    messages.said(err, "integrations/newer", step=1, files="out/state")


def test_an_orphan_is_not_joined(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(before, "_DYING", 0.2)
    assert shell("exit 75") == 75
    record = attempt(1)
    del record["end"]
    record["command"]["processes"] = [[os.getpid(), lock.start_of(os.getpid())]]
    RunFolder(Path("runs/x")).attempt(1).write_text(json.dumps(record))
    assert shell("true") == 1
    messages.said(capfd.readouterr().err, "integrations/orphan", pid=os.getpid())
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    record["command"]["processes"] = [[zombie.pid, lock.start_of(zombie.pid)]]
    RunFolder(Path("runs/x")).attempt(1).write_text(json.dumps(record))
    assert shell("exit 75") == 75
    zombie.wait()
    record["command"]["processes"] = [[os.getpid(), lock.start_of(os.getpid()) + 1]]  # another process of this number
    RunFolder(Path("runs/x")).attempt(2).write_text(json.dumps(record | {"number": 2}))
    assert shell("true") == 0


def test_kill_9_of_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("mkdir out; echo 1 > out/state; kill -9 $$", "--keep", "out") == 75
    messages.said(capfd.readouterr().err, "integrations/ended-by", words="killed by SIGKILL")
    assert steps() == [(1, "preempted")]


def test_a_command_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("mkdir out; echo 1 > out/state; exit 3", "--keep", "out") == 1
    end = attempt(1)["end"]
    assert end["reason"] == "failed"
    messages.said([end["error"]], "integrations/failed", code=3)
    assert steps() == [(1, "failed")]
    assert shell("kill -SEGV $$") == 1


def test_interrupted_once_and_twice(here: Path) -> None:
    stopping = (sys.executable, "train.py", "1000000", "0.01", "SIGTERM")
    process = start("--keep", "out", "--name", "x", "--", *stopping)
    wait_for(lambda: count() > 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stderr.close()  # type: ignore[union-attr]
    assert steps() == [(1, "cancelled")]
    process = start("--keep", "out", "--name", "y", "--", "/bin/sh", "-c", 'trap "" TERM; echo > begun; sleep 60')
    wait_for(lambda: Path("begun").exists() and "processes" in attempt(1, "y").get("command", {}))
    pid = attempt(1, "y")["command"]["processes"][0][0]
    process.send_signal(signal.SIGINT)
    wait_for(Path("runs/y/stop").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stderr.close()  # type: ignore[union-attr]
    assert lock.start_of(pid) == 0
    assert attempt(1, "y")["end"]["reason"] == "cancelled"
    assert steps("y") == []


def test_full_disk(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("mkdir out; echo 1 > out/state; exit 75", "--keep", "out") == 75
    with monkeypatch.context() as full:
        usage = namedtuple("usage", "total used free")
        full.setattr("shutil.disk_usage", lambda _path: usage(1, 1, 0))
        assert shell("echo 2 > out/state; exit 75", "--keep", "out") == 1
    assert "free space" in capfd.readouterr().err.lower()
    assert attempt(2)["end"]["reason"] == "failed"
    assert steps() == [(1, "preempted")]
    assert shell("cat out/state", "--keep", "out") == 0  # the folder has what could not be saved
    assert capfd.readouterr().out == "2\n"
    assert steps() == [(1, "preempted"), (2, "final")]


def test_a_changed_output_is_replaced_and_copied(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("mkdir out; echo 1 > out/state; exit 75", "--keep", "out") == 75
    Path("out/state").write_text("damaged")
    Path("out/stale").write_text("stale")
    assert shell("cat out/state", "--keep", "out") == 0
    out, err = capfd.readouterr()
    assert out == "1\n"
    messages.said(err, "integrations/replaced", step=1, file="out/state")
    messages.said(err, "integrations/more", step=1, file="out/stale")
    assert Path("runs/x/set-aside/files-0002/out/state").read_text() == "damaged"


def test_a_pattern_that_names_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("mkdir out; echo 1 > out/state", "--keep", "outt") == 0
    messages.said(capfd.readouterr().err, "integrations/nothing-kept")
    assert shell("true") == 0
    messages.unsaid(capfd.readouterr().err, "integrations/nothing-kept")


def test_a_file_that_no_pattern_names_any_more(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("mkdir out; echo 1 > out/state; echo 1 > out/more; exit 75", "--keep", "out") == 75
    shutil.rmtree("out")
    assert shell("ls out", "--keep", "out/state") == 0
    out, err = capfd.readouterr()
    assert out == "state\n"
    messages.said(err, "integrations/unnamed", step=1, file="out/more")


def test_saves_while_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_QUIET", 0.0)
    monkeypatch.setattr(command, "_LOOK", 0.05)
    done = "runs/x/checkpoints/step-00000001/MANIFEST.json"
    text = f"mkdir out; echo 1 > out/state; while [ ! -e {done} ]; do sleep 0.02; done"
    assert shell(text, "--keep", "out", "--save-every", "0.1s") == 0
    assert steps() == [(1, "time")]  # nothing has changed since, so there is no second one
    assert shell("mkdir -p out; echo 1 > out/other; sleep 0.5", "--keep", "out", "--save-every", "never") == 0
    assert steps() == [(1, "time"), (2, "final")]


def test_until_finished() -> None:
    text = "n=$(cat out/n 2>/dev/null || echo 0); mkdir -p out; echo $((n + 1)) > out/n; [ $n = 2 ] || exit 75"
    assert shell(text, "--keep", "out", "--until-finished") == 0
    assert [attempt(number)["end"]["reason"] for number in (1, 2, 3)] == ["preempted", "preempted", "finished"]


def test_until_finished_ends_without_progress(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("exit 75", "--until-finished") == 1
    messages.said(capfd.readouterr().err, "integrations/idle")
    assert len(RunFolder(Path("runs/x")).attempt_numbers()) == 3


RANK = """
import os, pathlib, sys, time
rank, names = int(os.environ["RANK"]), ("WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
print(rank, *(os.environ[name] for name in names), os.environ["MASTER_PORT"].isdecimal(), flush=True)
pathlib.Path(f"printed-{rank}").touch()
while not pathlib.Path("printed-0").exists():
    time.sleep(0.01)  # else rank 1 may fail before rank 0 is there, which is then asked to stop
code = int(sys.argv[1 + rank])
if code < 0:
    time.sleep(60)
if code > 100:
    time.sleep(0.5)
sys.exit(code % 100)
"""


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0), 0),
        ((75, 75), 75),
        ((0, 75), 75),
        ((75, -1), 75),
        ((3, -1), 1),
        ((75, 3), 1),
        ((0, 175), 75),
        ((0, 103), 1),
    ],
)
def test_nproc(codes: tuple[int, int], expected: int, capfd: pytest.CaptureFixture[str]) -> None:
    Path("rank.py").write_text(RANK)
    grace = "1s" if -1 in codes else "20s"  # a rank that ends by itself has the time to start
    flags = ("--nproc", "2", "--name", "x", "--grace", grace)
    assert run("rank.py", *codes, flags=flags) == expected
    assert "0 2 0 2 127.0.0.1 True" in capfd.readouterr().out


SAVES = """
import os, pathlib, signal, sys, time
rank = int(os.environ["RANK"])
if rank == 0:
    sys.exit(75)
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("asked").touch())
time.sleep(float(sys.argv[1]))
pathlib.Path("saved").touch()
sys.exit(75)
"""


def test_a_rank_that_still_saves_is_not_disturbed_by_one_that_has(capfd: pytest.CaptureFixture[str]) -> None:
    Path("rank.py").write_text(SAVES)
    assert run("rank.py", 0.8, flags=("--nproc", "2", "--name", "x", "--grace", "20s")) == 75
    assert Path("saved").exists()
    assert not Path("asked").exists()
    Path("saved").unlink()
    assert run("rank.py", 60, flags=("--nproc", "2", "--name", "x", "--grace", "0.5s")) == 75  # asked, then killed
    assert Path("asked").exists()
    assert not Path("saved").exists()
    messages.said(capfd.readouterr().err, "integrations/ranks-did-not-follow", rank=0, code=75)


FIRST = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
rank = int(os.environ["RANK"])
while rank == 1 and not pathlib.Path("dead").exists():
    time.sleep(0.01)
if rank == 0:
    pathlib.Path("dead").touch()
    os.kill(os.getpid(), 9)
time.sleep(0.5)  # long enough to be seen alive after the other
sys.exit(1)
"""


def test_the_rank_that_ended_first_counts(capfd: pytest.CaptureFixture[str]) -> None:
    """What the others make of its death is a consequence. A rank that is killed has not failed."""
    Path("rank.py").write_text(FIRST)
    assert run("rank.py", flags=("--nproc", "2", "--name", "x")) == 75
    messages.said(capfd.readouterr().err, "integrations/rank-ended", rank=0, code="SIGKILL")
    assert attempt(1)["end"]["reason"] == "preempted"


def test_the_variables_are_those_of_torchrun(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_CACHE_DIR"):  # torch sets the second in its process
        monkeypatch.delenv(name, raising=False)
    Path("env.sh").write_text("env | grep -E '^(TORCH|MASTER|GROUP|ROLE|LOCAL|WORLD|RANK|OMP)' | sed 's/^/'$RANK' /'")
    assert main(["run", "--nproc", "2", "--", "/bin/sh", "env.sh"]) == 0
    given: dict[str, dict[str, str]] = {rank: {} for rank in "01"}
    for line in capfd.readouterr().out.splitlines():
        name, _, value = line[2:].partition("=")
        given[line[0]][name] = value
    same = {
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": given["0"]["MASTER_PORT"],
        "OMP_NUM_THREADS": "1",
        "ROLE_NAME": "default",
        "ROLE_WORLD_SIZE": "2",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_RUN_ID": "outlast",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "WORLD_SIZE": "2",
    }
    for rank in "01":
        assert given[rank] == {**same, "RANK": rank, "LOCAL_RANK": rank, "ROLE_RANK": rank}


def test_torchrun_is_told_about(capfd: pytest.CaptureFixture[str]) -> None:
    Path("torchrun").write_text("#!/bin/sh\nexit $1\n")
    Path("torchrun").chmod(0o755)
    assert main(["run", "--name", "x", "--", "./torchrun", "1"]) == 1
    messages.said(capfd.readouterr().err, "integrations/torchrun", code=75)
    assert main(["run", "--name", "x", "--", "./torchrun", "2"]) == 1
    assert main(["run", "--name", "x", "--", "/bin/sh", "-c", "exit 1"]) == 1
    assert "torchrun returns" not in capfd.readouterr().err


DDP = """
import datetime, os, pathlib, signal, sys, time
import torch
import torch.distributed as dist

torch.manual_seed(0)
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=120))
rank, stop = dist.get_rank(), []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
step, place = 0, pathlib.Path("out/last.pt")
if place.exists():
    saved = torch.load(place, weights_only=True)
    step = saved.pop("step")
    model.module.load_state_dict(saved)
while step < 40:
    step += 1
    x = torch.full((2, 4), float(step + rank)) / 40
    loss = model(x).square().mean()
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad
    time.sleep(float(sys.argv[1]))
    asked = torch.tensor(float(len(stop)))
    dist.all_reduce(asked)
    if rank == 0 and (asked or step % 5 == 0):
        place.parent.mkdir(exist_ok=True)
        torch.save({"step": step, **model.module.state_dict()}, "out/part")
        os.replace("out/part", place)
    pathlib.Path(f"at-{rank}").write_text(f"{step} {os.getpid()}")
    if asked and step < 40:
        sys.exit(75)
if rank == 0:
    print("ends with", model.module.weight.tolist(), model.module.bias.tolist())
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_ddp_in_sessions_ends_as_one(capfd: pytest.CaptureFixture[str], here: Path) -> None:
    """Two ranks on the CPU: the end of a budget, a rank that is killed while the other waits for it, and a SIGTERM."""

    def end() -> str:
        return next(line for line in capfd.readouterr().out.splitlines() if line.startswith("ends with"))

    def at(rank: int) -> tuple[int, int]:
        step, pid = (here / f"at-{rank}").read_text().split()
        return int(step), int(pid)

    def started() -> subprocess.Popen[str]:
        (here / "at-1").unlink()
        process = start(*argv)
        until = time.monotonic() + 120
        while not (here / "at-1").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        return process

    Path("train.py").write_text(DDP)
    words = ("--nproc", "2", "--keep", "out", "--grace", "10s")
    assert run("train.py", 0, flags=(*words, "--name", "twin")) == 0
    twin = end()
    shutil.rmtree("out")
    argv = [*words, "--name", "x", "--", sys.executable, "train.py", "1"]
    assert start("--budget", "45s", *argv).wait(120) == 75  # the ranks are asked after about 33 s
    assert 0 < at(0)[0] < 40
    assert steps() == [(1, "budget")]
    process = started()
    os.kill(at(1)[1], signal.SIGKILL)
    begun = time.monotonic()
    assert process.wait(120) == 75
    assert time.monotonic() - begun < 30  # and not the 120 s of the process group
    assert attempt(2)["end"]["reason"] == "preempted"
    process = started()
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 75
    assert run("train.py", 0, flags=(*words, "--name", "x")) == 0
    assert end() == twin


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_not_needed_is_not_imported(resumed: bool, here: Path) -> None:
    """It would be waited for before the command starts, and at its end."""
    (here / "out").write_text("kept")
    if resumed:
        assert shell("exit 75", "--keep", "out") == 75
    words = ["run", "--name", "x", *(("--keep", "out") if resumed else ()), "--", "true"]
    text = f"import sys; from outlast.cli import main; code = main({words!r}); print(code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    code, *modules = done.stdout.split()
    never = {
        "numpy",
        "torch",
        "pydantic",
        "yaml",
        "outlast.remote.gather",
        "outlast.tracking.csvview",
        "concurrent.futures",
    }
    new = {"outlast.state", "outlast.checkpoint.reading", "outlast.integrations.restore", "outlast.remote.place"}
    assert code == "0"
    assert not {*modules} & (never if resumed else never | new)


LATE = """
import sys
from outlast.cli import main
from outlast.integrations.child import Command
ended = Command.finish_output
def finish_output(command):
    ended(command)
    known.update(sys.modules)
Command.finish_output, known = finish_output, set()
main(["run", "--name", "x", "--keep", "out", "--", "sleep", "1"])
print(*(name for name in sys.modules if name not in known))
"""


def test_what_the_end_needs_is_imported_while_the_command_runs(here: Path) -> None:
    (here / "out").write_text("kept")
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
    assert steps() == [(1, "final")]
    assert done.stdout.split() == []


def test_a_command_that_deletes_its_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("while [ -e runs ]; do rm -rf runs; done; echo kept > out", "--keep", "out") == 1
    messages.said(capfd.readouterr().err, "integrations/run-gone")


def test_what_the_command_has_left_running_still_writes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Patterns.find

    def found(patterns: Patterns, folder: Path) -> Found:
        seen = find(patterns, folder)
        with Path("out").open("a") as file:
            file.write("more")
        return seen

    monkeypatch.setattr(keeper, "_PAUSE", 0.01)
    monkeypatch.setattr(Patterns, "find", found)
    assert shell("echo begun > out", "--keep", "out") == 1
    messages.said(capfd.readouterr().err, "integrations/still-writes")
    assert steps() == []


def test_what_python_prints_is_not_held_back() -> None:
    assert child.variables_of({}, Path("stop")) == {"PYTHONUNBUFFERED": "1", child.STOP_FILE: "stop"}
    given = {"PYTHONUNBUFFERED": "", child.STOP_FILE: "another"}
    assert child.variables_of(given, Path("stop")) == {"PYTHONUNBUFFERED": "", child.STOP_FILE: "stop"}


def test_what_the_command_gets(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in child.OWN:
        monkeypatch.setenv(name, "4h" if name == "OUTLAST_BUDGET" else "named")
    monkeypatch.delenv("OUTLAST_REMOTE")
    assert main(["run", "--", "/bin/sh", "-c", "env"]) == 0
    given = dict(line.split("=", 1) for line in capfd.readouterr().out.splitlines() if "=" in line)
    assert not given.keys() & set(child.OWN)
    assert given["OUTLAST_STOP_FILE"] == str(Path("runs/named/stop").resolve())
    assert Path("runs/named/run.json").exists()


def test_output_is_passed_on_and_logged(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("echo to out; echo to err >&2") == 0
    out, err = capfd.readouterr()
    assert out == "to out\n"
    assert "to err\n" in err
    assert sorted(Path("runs/x/logs/0001.log").read_text().splitlines()) == ["to err", "to out"]


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LARGEST", 10)
    folder = RunFolder(tmp_path / "x")
    for number in range(1, 13):
        each = OutputLog(folder, number)
        for line in (b"one 567\n", b"two 567\n", b"three\n"):
            each.write(line)
        each.close()
    assert len(list(folder.logs.glob("*.log"))) == log.KEPT
    assert (folder.logs / "0012.log").read_bytes() == b"three\n"
    assert (folder.logs / "0012.log.old").read_bytes() == b"two 567\n"


def test_a_log_that_cannot_be_written_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("true") == 0
    shutil.rmtree("runs/x/logs")
    Path("runs/x/logs").mkdir()
    Path("runs/x/logs/0002.log").mkdir()
    (Path("runs/x/logs/0002.log") / "x").mkdir()
    assert shell("echo said; exit 75") == 75
    assert capfd.readouterr().out == "said\n"


def test_the_run_of_a_script_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with outlast.open_run("x", total_steps=1, progress="none") as script:
        script.restore({"a": 1.0})
        for _ in script.steps():
            script.offer({"a": 2.0})
    assert shell("echo started") == 1
    out, err = capfd.readouterr()
    assert out == ""
    messages.said(err, "integrations/of-another", parts="state")


def test_a_script_does_not_continue_the_run_of_a_command() -> None:
    assert shell("mkdir out; echo 1 > out/state; exit 75", "--keep", "out") == 75
    with pytest.raises(OutlastError), outlast.open_run("x", total_steps=1, progress="none") as script:
        script.restore({"a": 1.0})
        next(script.steps())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), messages.says("integrations/no-command")),
        (("--", "no-such-program"), messages.says("integrations/no-program", program="no-such-program")),
        (("--", "./train.py"), messages.says("integrations/no-program", program="./train.py")),
        (("--budget", "10s", "--grace", "10s", "--", "true"), messages.says("integrations/budget", budget=10)),
        (("--", "..."), messages.says("integrations/no-name", program="...")),
        (("--nproc", "0", "--", "true"), messages.says("integrations/ranks", number=0)),
    ],
)
def test_usage(words: tuple[str, ...], message: messages.Message, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *words]) == 2
    messages.said(capfd.readouterr().err, message)
    assert not list(Path().glob("runs/*/checkpoints"))


def test_a_budget_of_the_environment(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OUTLAST_BUDGET", "soon")
    assert shell("true") == 2
    messages.said(capfd.readouterr().err, "integrations/budget-variable", budget="soon")
    monkeypatch.setenv("OUTLAST_BUDGET", "2s")
    assert shell("sleep 30", "--grace", "0.5s") == 75


def test_no_framework_is_imported() -> None:
    names = "'numpy', 'torch', 'jax', 'pydantic', 'rich', 'http.client'"
    code = f"import sys, outlast.cli.run; print({{{names}}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
