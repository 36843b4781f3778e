"""Sessions on Colab: what is asked of the client, what a runtime leaves, what is refused. `colab` is a stand-in."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outlast.errors import AnswerLost, LaunchError, LaunchRefused, UsageError
from outlast.launch import providers
from outlast.launch.colab import client as clients
from outlast.launch.colab import mirror as mirrors
from outlast.launch.colab import startup
from outlast.launch.colab.client import Absent, Colab, Gone
from outlast.launch.colab.machine import Outbox
from outlast.launch.colab.mirror import Mirror
from outlast.launch.colab.provider import ColabProvider
from outlast.launch.colab.terms import OPTIONS, ColabTerms
from outlast.launch.fetch import fetch
from outlast.launch.process import identity
from outlast.launch.provider import Terms
from outlast.launch.records import all_launches
from outlast.launch.relay import Pace, relay
from outlast.launch.start import launch, request_for
from outlast.launch.watch import follow, state_of
from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry
from tests import messages, processes
from tests.launch.conftest import RECIPE
from tests.standins import colab

HANDLE = {"session": "outlast-walk-001"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/recipe.py").write_text(RECIPE.replace("from helper import STEP", "STEP = 0.5"))
    monkeypatch.chdir(tmp_path)
    yield colab.install(tmp_path / "colab", monkeypatch)
    for place in colab.servers():
        colab.take_back(place)


def walk(**flags: str) -> RecipeWork:
    given = {"experiment_name": "walk", **flags}
    return RecipeWork(prepare.prepare(registry.find("walk"), prepare.Request(flags=given)))


def terms(**options: object) -> Terms:
    return Terms(options={"runtime": "cpu", "auth": "adc", "lifetime": 120.0, **options})


def quick(every: float = 0.1) -> ColabProvider:
    made = ColabProvider(
        Path("runs").absolute() / ".colab", functools.partial(Colab, patience=0.0, sleep=lambda _: None), every=every
    )
    made.looks = (0.05, 0.2)
    return made


def calls(world: Path) -> list[list[str]]:
    place = world / "calls.jsonl"
    return [json.loads(line)[2:] for line in place.read_text().splitlines()] if place.exists() else []


def fault(world: Path, words: str, error: str, when: str = "before", code: int = 1) -> None:
    (world / "fault").write_text(f"{words}|{when}|{error}|{code}")


def wait_for(ready: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.05)


# what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"runtime": "cpu"}, []),
        ({}, ["--gpu", "T4"]),
        ({"runtime": "h100", "highmem": True}, ["--gpu", "H100", "--high-mem"]),
        ({"runtime": "v6e1"}, ["--tpu", "v6e1"]),
    ],
)
def test_the_flags_of_a_runtime(options: dict[str, object], flags: list[str]) -> None:
    assert ColabTerms.of(Terms(options=options)).flags == flags


def test_a_runtime_that_the_client_would_take_for_an_a100() -> None:
    with pytest.raises(ValueError, match="expected one of cpu, t4, l4, g4, a100, h100, v5e1, v6e1"):
        OPTIONS[0].read("t5")


def test_time_is_left_for_code_and_files() -> None:
    assert ColabTerms.of(Terms()).limits.training(Terms()) == 12 * 3600 - 1200
    assert ColabTerms.of(terms(lifetime=100.0)).training == 90.0


def test_a_dry_run_asks_nothing(world: Path, outlast_cli) -> None:
    done = outlast_cli("launch", "walk", "--on", "colab", "--dry-run", "--experiment-name", "walk", template="launch")
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout.splitlines(), "colab/dry-run")
    assert calls(world) == []
    text = Path("runs/outlast-walk-001.cell.py").read_text()
    about = re.search(r"^ABOUT = (.*)$", text, re.MULTILINE)
    assert about
    assert json.loads(json.loads(about[1]))["lifetime"] == 12 * 3600
    assert not Path("runs/.colab").exists()


def test_the_environment_file_says_which_runtime(world: Path, outlast_cli) -> None:
    place = Path("configs/environment/colab.yaml")
    place.parent.mkdir(parents=True)
    place.write_text("environment:\n  colab:\n    runtime: l4\n    highmem: yes\n    lifetime: 24h\n")
    done = outlast_cli("launch", "walk", "--on", "colab", "--dry-run", template="launch")
    assert done.returncode == 0, done.stderr
    assert "--gpu L4 --high-mem" in done.stdout
    assert "for 23h40m at most" in done.stdout


def test_there_is_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with messages.raises(UsageError, "colab/no-client"):
        Colab("adc").usage()
    place = tmp_path / ".local/bin/colab"
    place.parent.mkdir(parents=True)
    place.write_text("#!/bin/sh\necho Current balance: 1.00 compute units\necho Usage rate: 0.50/hr\n")
    place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert Colab("adc").usage() == (1.0, 0.5)


@pytest.mark.parametrize(
    "said",
    ["To authorize colab-cli, visit this URL in any browser:\n\n  https://a/?state=x", "No valid default credentials."],
)
def test_there_is_no_login(world: Path, said: str) -> None:
    fault(world, "usage", said)
    with messages.raises(UsageError, "colab/no-login"):
        launch(quick(), walk(), terms())
    assert not Path("runs/.colab").exists()


def test_the_login_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert clients._found_login() == "oauth2"
    gcloud = tmp_path / ".config/gcloud/application_default_credentials.json"
    gcloud.parent.mkdir(parents=True)
    gcloud.write_text("")
    assert clients._found_login() == "adc"
    own = tmp_path / ".config/colab-cli/token.json"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert clients._found_login() == "oauth2"


def test_a_remote_is_refused(world: Path) -> None:
    request = request_for(quick(), walk(), terms())
    asked = {**request.asked, "values": {**request.asked["values"], "remote": "hf://models/ada/runs"}}
    with messages.raises(UsageError, "colab/remote", remote="hf://models/ada/runs"):
        quick().plan(replace(request, asked=asked))
    assert calls(world) == []


def test_the_balance_as_hours(world: Path, outlast_cli) -> None:
    assert quick().quotas() == ()
    done = outlast_cli("quota", "--on", "colab", template="launch")
    assert len(done.stdout.splitlines()) == 1, "no table without a rate"
    Colab("adc").new("a", [])
    (quota,) = quick().quotas()
    assert (quota.kind, quota.left) == ("at 1.76 compute units an hour", 12.5 / 1.76 * 3600)
    done = outlast_cli("quota", "--on", "colab", template="launch")
    assert "7.1 h" in done.stdout
    messages.said(done.stdout.splitlines()[-1:], "colab/account")


# starting --------------------------------------------------------------------------------------------------------


def test_too_many_runtimes(world: Path) -> None:
    for name in "ab":
        Colab("adc").new(name, [])
    with messages.raises(LaunchRefused, "colab/full") as caught:
        launch(quick(), walk(), terms())
    assert caught.value.again == "full"
    assert not Path("runs/.colab/outlast-walk-001").exists()
    assert all_launches(walk().folder)[0].record["state"] == "refused"
    assert len(colab.servers()) == 2


def test_a_kind_that_the_account_does_not_get(world: Path) -> None:
    with messages.raises(LaunchRefused, "colab/not-entitled") as caught:
        launch(quick(), walk(), terms(runtime="a100"))
    assert caught.value.again == ""


def test_a_runtime_of_this_name_in_another_folder(world: Path) -> None:
    Colab("adc").new("outlast-walk-001", [])
    with messages.raises(LaunchRefused, "colab/name-taken"):
        launch(quick(), walk(), terms())
    assert len(colab.servers()) == 1


def test_a_lost_answer_of_a_runtime_that_is_there(world: Path) -> None:
    fault(world, "new", "Read timed out.", when="after")
    record = launch(quick(), walk(stop_every="0"), terms())
    assert record.record["state"] == "pushed"
    assert [words[0] for words in calls(world)].count("new") == 1


def test_a_lost_answer_of_a_runtime_that_is_not_there(world: Path) -> None:
    fault(world, "new", "Read timed out. (colab-runtime-proxy-token=canary-of-a-secret&x)")
    with messages.raises(LaunchRefused, "colab/not-started") as caught:
        launch(quick(), walk(), terms())
    assert "canary" not in str(caught.value)


def test_code_that_does_not_arrive_ends_the_runtime(world: Path) -> None:
    fault(world, "upload", "Upload failed: 413 Client Error")
    with messages.raises(LaunchError, "colab/no-answer"):
        launch(quick(), walk(), terms())
    assert colab.servers() == []
    assert quick().state(HANDLE) is None


def test_a_cell_that_is_lost_is_sent_again(world: Path) -> None:
    fault(world, "exec", "Connection was lost.")
    assert launch(quick(), walk(), terms()).record["state"] == "pushed"
    assert [words[0] for words in calls(world)].count("exec") == 2


def test_a_cell_that_was_sent_twice_has_begun(world: Path, tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text("print('::outlast again', flush=True)")
    Colab("adc").new("a", [])
    Colab("adc").start("a", tmp_path / "cell.py")


def test_a_cell_that_does_not_begin_ends_the_runtime(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_STARTS", 1)
    fault(world, "exec", "TimeoutError")
    with messages.raises(LaunchError, "colab/did-not-begin"):
        launch(quick(), walk(), terms())
    assert colab.servers() == []


def test_a_cell_that_may_have_begun_is_looked_up(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_STARTS", 1)
    fault(world, "exec", "TimeoutError")

    def stop(*_: object) -> None:
        raise LaunchError("no answer.")

    with monkeypatch.context() as broken:
        broken.setattr(Colab, "stop", stop)
        with pytest.raises(AnswerLost, match="It is unknown whether outlast-walk-001 has begun"):
            launch(quick(), walk(), terms())
    state = quick().state(HANDLE)
    assert state
    assert (state.word, state.message) == ("lost", "it was never started")
    assert colab.servers() == [], "it cannot begin later"


# a session -------------------------------------------------------------------------------------------------------


def test_a_session_leaves_its_files_here_and_no_secret_there(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "HF_TOKEN", "KAGGLE_KEY", "OUTLAST_GIT_TOKEN"):
        monkeypatch.setenv(name, "canary-of-a-secret")
    provider = quick()
    record = launch(provider, walk(stop_every="0"), terms())
    (place,) = colab.servers()
    wait_for((place / "content/outlast-walk-001/request.json").exists)
    sent = 0
    for path in place.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # the session goes on meanwhile
            assert b"canary-of-a-secret" not in path.read_bytes(), path
            sent += 1
    assert sent > 10
    assert not any("canary-of-a-secret" in word for words in calls(world) for word in words)
    lines = list(follow(provider, record, pause=0.05))
    assert "run walk is finished" in lines
    assert state_of(provider, record) == "succeeded"
    assert colab.servers() == [], "its runtime is ended once all is here"
    before = len(calls(world))
    fetch(provider, record)
    assert Path("runs/walk/artifacts/result.txt").exists()
    assert len(calls(world)) == before


@pytest.mark.slow
def test_a_runtime_that_is_taken_back_costs_what_was_not_copied(world: Path, tmp_path: Path) -> None:
    """The relay goes on from the copied checkpoints, and ends as an uninterrupted run does."""
    flags = ["--experiment-name", "walk", "--stop-every", "0", "--checkpoint-dir", "twin"]
    processes.run([sys.executable, "-m", "outlast.cli", "train", "walk", *flags], check=True, template="launch")
    provider, told, taken = quick(), [], []

    def tell(words: str) -> None:
        told.append(words)

    def seen(*_: object) -> None:
        here = list(Path("runs/.colab/outlast-walk-001/work").glob("runs/walk/checkpoints/step-*/MANIFEST.json"))
        if here and not taken:
            taken.append(len(here))
            colab.take_back(colab.servers()[0])

    look = provider._look

    def looked(handle: Any) -> Any:
        seen()
        return look(handle)

    provider._look = looked  # type: ignore[method-assign]
    relay(
        provider, lambda: walk(stop_every="0", pause="0.5", save_every="1 steps"), terms(), tell=tell,
        pace=Pace(ask=0.1, settles=3.0),
    )  # fmt: skip
    assert taken
    assert told[-1] == "walk is finished at step 9"
    first, second = all_launches(walk().folder)
    assert first.record["step"] > 0
    assert second.record["after"] == "outlast-walk-001"
    assert Path("runs/walk/journal.jsonl").read_bytes() == Path("twin/walk/journal.jsonl").read_bytes()


def test_a_launch_that_was_killed_before_the_cell_began(world: Path) -> None:
    """The runtime is there and idle; it is ended, and nothing begins in it later."""
    script = """
from tests.launch.colab.test_colab import *
Colab.start = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
launch(quick(), walk(), terms())
"""
    repository = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'src'}"}
    )
    assert done.returncode == -signal.SIGKILL
    assert len(colab.servers()) == 1
    (record,) = all_launches(walk().folder)
    assert record.record["state"] == "pushing"
    assert state_of(quick(), record) == "lost"
    assert colab.servers() == []


def test_a_session_that_waits_is_cancelled(world: Path) -> None:
    folder = Path("runs/.colab/outlast-walk-001")
    (folder / "work").mkdir(parents=True)
    Colab("adc").new("outlast-walk-001", [])
    (folder / "session.json").write_text('{"auth": "adc", "lifetime": 60.0}')
    (folder / "runtime").touch()
    (folder / "submit.json").write_text(json.dumps({"pid": os.getpid(), "began": identity(os.getpid())}))
    state = quick().state(HANDLE)
    assert state
    assert state.word == "queued"
    quick().cancel(HANDLE)
    state = quick().state(HANDLE)
    assert state
    assert state.word == "cancelled"
    assert colab.servers() == []


# the cell --------------------------------------------------------------------------------------------------------


def cell(folder: Path, monkeypatch: pytest.MonkeyPatch, **facts: object) -> tuple[Path, dict[str, Any]]:
    """Run the cell in this process; returns the session's folder there, and what it says about itself."""
    root = folder / "content"
    root.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("request.json", '{"ranks": false}')
    (root / "outlast-walk-001.send-000").write_bytes(whole.read_bytes())
    about = {
        "name": "outlast-walk-001", "parts": 1, "packages": [],
        "sha256": hashlib.sha256(whole.read_bytes()).hexdigest(),
        "seconds": 5.0, "lifetime": 0.0, "hold": None, "every": 0.1, **facts,
    }  # fmt: skip
    monkeypatch.setenv("OUTLAST_COLAB_ROOT", str(folder))
    monkeypatch.setattr(startup, "ABOUT", json.dumps(about))
    startup.main()
    session = root / "outlast-walk-001"
    return session, json.loads((session / "out/status.json").read_text())


def test_changed_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    session, status = cell(tmp_path, monkeypatch, sha256="0" * 64)
    assert status["end"]["word"] == "failed"
    assert (session / "out/log-000001").read_text() == "The code did not arrive as it was sent. Launch the run again.\n"
    assert capfd.readouterr().out == "::outlast begun\n"
    startup.main()
    assert capfd.readouterr().out == "::outlast again\n", "one attempt"


def test_packages_that_cannot_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, status = cell(tmp_path, monkeypatch, packages=["./no-such-package==1"])
    assert status["end"]["exit"] == 1
    assert (
        (session / "out/log-000001").read_text().endswith("The packages that the recipe needs cannot be installed.\n")
    )


def test_the_cell_ends_when_its_training_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup.sys, "executable", "/bin/false")
    monkeypatch.setattr(startup, "NEEDED", {})
    _, status = cell(tmp_path, monkeypatch)
    assert status["end"]["message"] == "The session broke off with 1."


@pytest.mark.parametrize(("lifetime", "hold", "waits"), [(40.0, None, 40.0), (40.0, 3.0, 3.0), (2.0, 30.0, 2.0)])
def test_the_cell_holds_the_kernel_until_its_files_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lifetime: float, hold: float | None, waits: float
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(startup, "train", lambda *_: None)
    monkeypatch.setattr(startup.time, "sleep", slept.append)
    cell(tmp_path, monkeypatch, lifetime=lifetime, hold=hold)
    assert slept == [pytest.approx(waits, abs=1.0)]


# what a runtime leaves -------------------------------------------------------------------------------------------


@pytest.fixture
def outbox(tmp_path: Path) -> tuple[Path, Outbox]:
    folder = tmp_path / "session"
    save(folder, 1)
    (folder / "out").mkdir()
    (folder / "log.txt").write_text("one\n")
    return folder, Outbox(folder, 60.0, time.time())


def save(folder: Path, step: int) -> None:
    """A checkpoint, and a journal that grows."""
    place = folder / f"work/x/checkpoints/{step}"
    place.mkdir(parents=True)
    (place / "MANIFEST.json").write_text("{}")
    with (folder / "work/x/journal").open("a") as journal:
        journal.write("a line\n")


def left(folder: Path, box: Outbox) -> tuple[dict[str, Any], set[str]]:
    """What the box says, and the names in its zip."""
    box._say(None)
    status = json.loads((folder / "out/status.json").read_text())
    parts = sorted((folder / "out").glob("files-*"))
    if not parts:
        return status, set()
    (folder / "whole").write_bytes(b"".join(path.read_bytes() for path in parts))
    return status, set(zipfile.ZipFile(folder / "whole").namelist())


FIRST, SECOND = ("x/checkpoints/1/MANIFEST.json", "x/checkpoints/2/MANIFEST.json")


def test_files_are_left_again_when_those_before_are_here(outbox: tuple[Path, Outbox]) -> None:
    folder, box = outbox
    box.look()
    status, names = left(folder, box)
    assert (status["log"], status["files"]["number"], names) == (4, 1, {FIRST, "x/journal"})
    save(folder, 2)
    (folder / "work/x/.tmp-c").write_text("c")
    box.look()
    assert left(folder, box)[1] == {FIRST, "x/journal"}, "outlast may be reading it"
    (folder / "ack").write_text("1")
    box.look()
    status, names = left(folder, box)
    assert (status["files"]["number"], names) == (2, {SECOND, "x/journal"})
    assert status["files"]["names"] == [FIRST, SECOND, "x/journal"]
    (folder / "ack").write_text("2")
    (folder / "work" / FIRST).unlink()
    box.look()
    status, names = left(folder, box)
    assert (status["files"]["names"], names) == ([SECOND, "x/journal"], set())
    (folder / "ack").write_text("3")
    (folder / "work/x/journal").write_text("more\n")
    box.look()
    assert left(folder, box)[0]["files"]["number"] == 3, "no other checkpoint"


def test_at_the_end_all_that_is_not_here_is_left(outbox: tuple[Path, Outbox]) -> None:
    folder, box = outbox
    box.look()
    (folder / "work/x/b").write_text("b")
    box.look(last=True)
    status, names = left(folder, box)
    assert (status["files"]["number"], names) == (2, {FIRST, "x/b", "x/journal"})


def test_a_long_log_is_left_in_pieces_of_which_the_last_grows(
    world: Path, outbox: tuple[Path, Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, box = outbox
    for module in (startup, mirrors):
        monkeypatch.setattr(module, "PIECE", 10)
    Colab("adc").new("outlast-walk-001", [])
    (colab.servers()[0] / "content/outlast-walk-001").symlink_to(folder)
    here = Mirror(Colab("adc", 0.0), Path("runs/.colab/outlast-walk-001").absolute())
    said = b""
    for words in ("one\n", "two\n", "three and four\n", "", "five\n"):
        said += words.encode()
        (folder / "log.txt").write_bytes(said)
        box.look()
        here._copy_log(left(folder, box)[0]["log"])
        assert here.log() == said
    assert len(list((folder / "out").glob("log-*"))) == 3
    assert sum(words[0] == "download" for words in calls(world)) == 6, "only what is new"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ["../../escaped"]}, "names a file '../../escaped'"),
        ({"names": ["/etc/passwd"]}, "names a file '/etc/passwd'"),
        ({"names": [FIRST, "x/never"]}, "x/never is not here"),
        ({"parts": [["../secret", "0"]]}, "names a part '../secret'"),
        ({"parts": [["files-0001-000", "0" * 64]]}, "files-0001-000 was changed on its way"),
    ],
)
def test_what_a_runtime_says_is_not_trusted(
    world: Path, outbox: tuple[Path, Outbox], change: dict[str, Any], words: str
) -> None:
    folder, box = outbox
    box.look()
    status, _ = left(folder, box)
    status["files"] |= change
    Colab("adc").new("outlast-walk-001", [])
    far = colab.servers()[0] / "content/outlast-walk-001"
    far.parent.joinpath("outlast-walk-001").symlink_to(folder)
    here = Path("runs/.colab/outlast-walk-001")
    here.mkdir(parents=True)
    with pytest.raises(LaunchError, match=re.escape(words)):
        Mirror(Colab("adc", 0.0), here).copy(status)
    assert not (here / "mirror.json").exists()
    (far / "out/status.json").write_text('{"log": "many"}')
    with pytest.raises(LaunchError, match="cannot be read"):
        Mirror(Colab("adc", 0.0), here).status()


# the client ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_and_a_runtime_that_is_gone(world: Path, tmp_path: Path) -> None:
    asked = Colab("adc", 0.0)
    asked.new("a", [])
    with pytest.raises(Absent, match=r"content/x is not in the runtime a"):
        asked.download("a", "content/x", tmp_path / "x")
    colab.take_back(colab.servers()[0])
    with pytest.raises(Gone, match="There is no runtime a"):
        asked.download("a", "content/x", tmp_path / "x")
    asked.stop("a")
    with pytest.raises(Gone):
        asked.upload("a", Path(__file__), "content/x")


def test_a_runtime_that_is_not_reached_for_a_moment_is_not_ended(world: Path) -> None:
    """The client says of any 404 that there is no such file."""
    provider = ColabProvider(
        Path("runs").absolute() / ".colab", functools.partial(Colab, patience=60.0, sleep=lambda _: None), every=0.1
    )
    record = launch(provider, walk(stop_every="0", pause="60"), terms())
    fault(world, "download", "Download failed: File or directory not found: content/outlast-walk-001/out/status.json")
    state = provider.state(record.handle)
    assert state
    assert state.word == "running"
    colab.servers()[0].joinpath("content/outlast-walk-001").rename("elsewhere")
    state = quick().state(record.handle)
    assert state
    assert (state.word, state.message) == ("lost", "its runtime has lost its files")
    assert colab.servers() == []


def test_without_a_login_no_runtime_counts_as_gone(world: Path, tmp_path: Path) -> None:
    """The client lists no session then, and ends with 0."""
    fault(world, "usage", "No valid default credentials found.")
    with messages.raises(UsageError, "colab/no-login"):
        Colab("adc", 0.0).download("a", "content/x", tmp_path / "x")


def test_no_token_of_a_runtime_is_in_a_message(world: Path, tmp_path: Path) -> None:
    asked = Colab("adc", 0.0)
    asked.new("a", [])
    fault(world, "download", "url: http://h/x?authuser=0&colab-runtime-proxy-token=canary&content=1 Bearer canary")
    with pytest.raises(LaunchError, match="had no answer for 0 s") as caught:
        asked.download("a", "content/x", tmp_path / "x")
    assert "canary" not in str(caught.value)


def test_another_colab_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colab").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "colab").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with messages.raises(LaunchError, "colab/another-program"):
        Colab("adc", 0.0).usage()


def test_it_is_a_provider_of_the_table(world: Path) -> None:
    made = providers.connect("colab", Path("runs"))
    assert isinstance(made, ColabProvider)
    assert made.root == Path("runs").absolute() / ".colab"
    assert [made.metered(each) for each in ("cpu", "t4", "v5e1")] == [None, "GPU", "TPU"]
