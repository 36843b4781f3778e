"""A command that is launched: what is sent, what stays, and what the user is told."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.cli import main
from outlast.cli.commands import parse
from outlast.cli.launch import provider_flags
from outlast.errors import SecretFound, UsageError
from outlast.folder import durable
from outlast.launch import bundle, command, inside
from outlast.launch.local.provider import LocalProvider
from outlast.launch.provider import Terms
from outlast.launch.records import LaunchRecord
from outlast.launch.start import request_for
from tests import messages
from tests.launch import commands

TOKEN = "hf_" + "abcdefghij" * 4


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the command, its outputs, data, and files that must stay."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    commands.write(folder)
    for path, text in {
        "out/state": "1",
        "out/log.txt": "x",
        "data/big.bin": "data",
        "lib/vocab.model": "words",
        "lib/secrets.json": "{}",
        "secrets.json": "{}",
        "runs/old/run.json": "{}",
        ".git/config": "x",
        "table.json": "1" * (command.LARGEST_TEXT + 1),
        "requirements.txt": "numpy\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return folder


def sent(*words: str, **more: object) -> set[str]:
    work = commands.work(["python", "count.py", *words], **more)
    return {name.removeprefix("command/") for name in work.files().paths}


CODE = {"count.py", "lib/total.py", "requirements.txt"}


def test_code_is_sent_and_files_that_the_words_name(here: Path) -> None:
    assert sent() == CODE
    assert commands.work().files().left_out == ("lib/secrets.json", "secrets.json")
    assert sent("--vocab", "lib/vocab.model") == CODE | {"lib/vocab.model"}
    assert sent("--vocab=./lib/../lib/vocab.model") == CODE | {"lib/vocab.model"}
    assert sent(send=["table.json"]) == CODE | {"table.json"}
    assert sent("table.json") == CODE | {"table.json"}
    assert sent("table.json", links=True) == CODE  # the session has a link to it
    # Outputs, keys and what lies elsewhere stay, although they are named.
    assert sent("--resume", "out/state", "--keys=secrets.json", "runs/old/run.json", "/etc/hostname", "..") == CODE
    assert sent(left=lambda path: path.startswith("lib/")) == CODE - {"lib/total.py"}
    (here / "named.bin").symlink_to("/etc/hostname")
    assert sent("named.bin") == CODE


def test_code_that_is_too_large_is_refused_and_the_largest_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "LARGEST", 100)
    with messages.raises(
        UsageError, "launch/too-much-code", largest="count.py (345 B), lib/total.py (10 B), requirements.txt (6 B)"
    ):
        commands.work().files()


def test_keys_are_not_sent(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with messages.raises(UsageError, "launch/send-of-keys", name="secrets.json"):
        sent(send=["secrets.json"])
    with messages.raises(SecretFound, "launch/secret-in-words", kind="a Hugging Face token"):
        commands.work(["python", "count.py", f"--token={TOKEN}"])
    monkeypatch.setenv("MY_API_KEY", "swordfish-swordfish")
    with messages.raises(SecretFound, "launch/secret-in-words", kind="the value of MY_API_KEY"):
        commands.work(["sh", "-c", "echo swordfish-swordfish"])
    (here / "count.py").write_text(f"TOKEN = '{TOKEN}'\n")
    provider = LocalProvider(here / "runs/.sessions")
    assert request_for(provider, commands.work(), Terms()).bundle.files  # it stays on this machine
    far = pytest.MonkeyPatch()
    with far.context() as patched:
        patched.setattr(LocalProvider, "capabilities", LocalProvider.capabilities.__class__(folders=False))
        with messages.raises(SecretFound, "launch/secret-in-code", file="command/count.py"):
            request_for(provider, commands.work(), Terms())


def test_what_lies_beside_the_code_is_linked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = commands.work(links=True).asked(budget=9.0)["links"]
    assert links == {
        path: str(here / path)
        for path in (".git", "data", "lib/secrets.json", "lib/vocab.model", "secrets.json", "table.json")
    }
    assert commands.work().asked(budget=9.0)["links"] == {}
    assert "out/state" in commands.work(keep=["lib"], links=True).asked(budget=9.0)["links"]
    # A folder in which a pattern names something may have outputs; `**` names all of them, and data is needed.
    assert "out" not in commands.work(keep=["out/*.pt"], links=True).asked(budget=9.0)["links"]
    assert "data" in commands.work(keep=["**/*.pt"], links=True).asked(budget=9.0)["links"]
    monkeypatch.setattr(command, "MOST_LINKS", 3)
    with messages.raises(UsageError, "launch/too-many-links"):
        commands.work(links=True).asked(budget=9.0)


def test_words_that_name_what_is_not_sent() -> None:
    words = ["python", "count.py", "--data", "data", "--out=out", "lib", "/etc/hostname", "--x=../here/data", ".", "no"]
    assert sorted(commands.work(words).stays_here()) == ["../here/data", "/etc/hostname", "data"]


def test_a_record_holds_no_words_and_tells_commands_apart(here: Path) -> None:
    provider = LocalProvider(here / "runs/.sessions")
    asked = request_for(provider, commands.work(), Terms(seconds=50.0)).asked
    assert (asked["command"], asked["budget"], asked["flags"]) == (["python", "count.py"], 50.0, ["--keep=out"])
    one, other = (commands.work(["python", "count.py", *more]).recorded(budget=1.0) for more in ((), ("x",)))
    assert one != other
    assert "count.py" not in json.dumps([one, other])


def test_a_session_finds_the_code_and_the_links_and_ends_as_the_command(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The far end, with the bundle unpacked as a provider does it."""
    code = tmp_path / "code"
    work = commands.work(["python", "count.py"], links=True, flags=["--keep=out", "--signal=INT"])
    with zipfile.ZipFile(BytesIO(bundle.make(work.files()).data)) as archive:
        archive.extractall(code)
    monkeypatch.setattr(inside.outlast, "__file__", str(code / "outlast/__init__.py"))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    asked = work.asked(budget=60.0)
    (tmp_path / "request.json").write_text(json.dumps(asked))
    assert inside.main(tmp_path / "request.json", tmp_path / "work") == 75
    assert "counted to 1" in capfd.readouterr().out
    assert (code / "command/data/big.bin").read_text() == "data"
    folder = tmp_path / "work/runs/walk"
    assert CheckpointStore(commands.RunFolder(folder)).newest_step() == 1
    (tmp_path / "request.json").write_text(json.dumps({**asked, "step": 5, "links": {}}))
    assert inside.main(tmp_path / "request.json", tmp_path / "work") == inside.MISSING_CHECKPOINT
    messages.said(capfd.readouterr().out, "launch/missing-step", step=5, here=1)


def test_what_a_user_is_told_before_a_launch(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--on", "local", "--dry-run", "--name", "walk"]
    assert main(["launch", *flags, "--keep", "out", "--", "python", "count.py"]) == 0
    out, err = capsys.readouterr()
    messages.said(out, "cli/command-sent", files="count.py, lib/total.py, requirements.txt")
    messages.said(err, "cli/command-begins-without", kept="out/log.txt, out/state")
    assert main(["launch", *flags, "--", "python", "count.py"]) == 0
    messages.said([capsys.readouterr().err.strip()], "cli/command-without-keep")
    assert main(["launch", *flags[2:], "--on", "slurm", "--", "python", "count.py", "data"]) in (0, 1, 2)
    assert "which are not sent" not in capsys.readouterr().err  # Slurm sees this folder
    flags[1] = "kaggle"
    assert main(["launch", *flags, "--keep", "out", "--", "python", "count.py", "data", "/etc/hostname"]) == 0
    messages.said(capsys.readouterr().err, "cli/command-names-what-stays", names="data, /etc/hostname")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["relay", "--keep", "out", "--", "python", "count.py"], messages.says("cli/command-no-place")),
        (["relay", "--on", "local", "--"], messages.says("cli/command-no-words")),
        (["relay", "digits", "--on", "local", "--", "python"], messages.says("cli/recipe-and-command")),
        (["relay", "--on", "local", "--kep", "out", "--", "x"], messages.says("cli/command-typo")),
        (["launch", "--on", "local", "--send", "no", "--", "x"], messages.says("cli/command-send-nothing")),
        (["launch", "--on", "local", "--leave-out", "/a", "--", "x"], messages.says("cli/command-leave-out")),
        (["relay", "--on", "local", "--max-gpu-hours", "2", "--", "python"], messages.says("cli/command-no-quota")),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)  # fmt: skip
def test_typed_wrong(argv: list[str], message: messages.Message, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    messages.said([capsys.readouterr().err.strip().splitlines()[-1]], message)


def test_flags_of_the_command_reach_the_session() -> None:
    more = provider_flags()
    given = ["--nproc", "2", "--signal", "USR1", "--grace", "5s", "--save-every", "never", "--keep", "a", "--keep", "b"]
    values, words = parse("outlast launch", [*given, "--", "x", "--", "y"], more)
    from outlast.cli.wrapped import flags_of

    assert flags_of(values) == [
        "--keep=a", "--keep=b", "--signal=USR1", "--save-every=never", "--nproc=2", "--grace=5s"
    ]  # fmt: skip
    assert words == ["x", "--", "y"]
    values, _ = parse("outlast launch", ["--save-every", "90s", "--", "x"], more)
    assert flags_of(values) == ["--save-every=90s"]
    assert flags_of(parse("outlast launch", ["--", "x"], more)[0]) == []


def test_a_relay_brings_the_files_home(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    durable.remove_any(here / "out/log.txt")
    relay = ["relay", "--on", "local", "--session", "1m", "--name", "walk", "--keep", "out", "--ask-every", "0.1"]
    assert main([*relay, "--max-sessions", "1", "--", "python", "count.py"]) == 75
    assert (here / "out/state").read_text() == "1"  # not yet
    capsys.readouterr()
    assert main(["run", "--name", "walk", "--keep", "out", "--", "python", "count.py", "x"]) == 75  # here, meanwhile
    assert main([*relay, "--", "python", "count.py"]) == 0
    out, err = capsys.readouterr()
    messages.said(out, "cli/command-restored", step=3, files="out/state")
    messages.said(err, "cli/command-replaced", files="out/state")
    assert (here / "out/state").read_text() == "3"
    assert main(["relay", "walk", "--on", "local"]) == 2
    messages.said([capsys.readouterr().err.strip()], "cli/command-words-not-recorded")
    assert main([*relay, "--", "python", "count.py"]) == 0
    assert "restored here" not in capsys.readouterr().out
    assert commands.work().is_finished()
    assert not commands.work(["python", "count.py", "more"]).is_finished()


def test_a_command_is_not_run_here_while_its_session_is_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    folder = commands.work().folder
    facts = {"name": "outlast-walk-001", "handle": {"session": "outlast-walk-001"}, "accelerator": "none"}
    LaunchRecord.begin(folder, 1, provider="local", **facts).learn(state="pushed")
    assert main(["run", "--name", "walk", "--", "true"]) == 1
    messages.said([capsys.readouterr().err.strip()], "cli/command-launched", session="outlast-walk-001")
    assert folder.attempt_numbers() == []
