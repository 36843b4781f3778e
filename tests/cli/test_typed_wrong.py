"""Every verb, typed wrong: one sentence on stderr, no traceback, and nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests import messages, processes
from tests.cli.things import Thing

import outlast
from outlast.cli import VERBS, main

WRONG = [
    "", " ", ".", "/", "nope", "plain", "a dir", "link", "loop1", "pipe", "other", "bad", "binary.yaml", "syntax.py",
    "runs/mine/run.json", "runs/mine/checkpoints", "runs/mine/checkpoints/step-00000009", "-1", "0", "1e400",
    "x" * 5000, "\udcff", "--", "-", "~", "*", "null",
]  # fmt: skip
"""Names, paths and numbers that mean nothing, or something else than a verb expects."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    with outlast.open_run("mine", root=folder / "runs", total_steps=3, save="1 steps", progress="none") as run:
        run.track(s=Thing())
        for _ in run.steps():
            run.log(loss=1.0)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A working folder with one good run and much that is none."""
    shutil.copytree(made / "runs", "runs")
    Path("plain").write_text("x")
    Path("a dir").mkdir()
    os.symlink("nowhere", "link")
    os.symlink("loop1", "loop2")
    os.symlink("loop2", "loop1")
    os.mkfifo("pipe")
    for name, text in (("other", "{}"), ("bad", "[1")):
        Path(name).mkdir()
        Path(name, "run.json").write_text(text)
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    Path("syntax.py").write_text("def (:\n")
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Run a verb; returns exit code and the one sentence."""

    def call(*words: str) -> tuple[int, str]:
        try:
            code = main(list(words))
        except SystemExit as ended:  # argparse's --help
            code = int(ended.code or 0)
        out = capsys.readouterr()
        sentences = [line for line in out.err.splitlines() if line.startswith("error: ")]
        assert code in (0, 1, 2), words
        assert "Traceback" not in out.out + out.err
        assert (len(sentences) == 1) or (code in (0, 1) and not sentences), (words, out)
        assert all(len(line) < 2200 for line in sentences)
        return code, sentences[0] if sentences else ""

    return call


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"board", "kaggle", "quota", "train", "relay"}))
def test_a_wrong_name(place: Path, refused, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast.integrations.prove.run_process", processes.run_into)  # one for nearly every word
    for word in WRONG:
        refused(verb, word)
        refused(verb, "mine", word)
    refused(verb)
    refused(verb, "--nope")
    refused(verb, "mine", "extra", "words")


@pytest.mark.parametrize("verb", ["config", "doctor"])
def test_what_starts_nothing_has_no_dry_run(place: Path, refused, verb: str) -> None:
    assert refused(verb, "digits", "--dry-run")[0] == 2


@pytest.mark.parametrize("words", [("--port", "x"), ("--port", "-1"), ("--port", "65536"), ("--nope",), ("mine",)])
def test_a_wrong_board(place: Path, refused, words: tuple[str, ...]) -> None:
    """It serves until Ctrl-C when nothing is wrong."""
    assert refused("board", *words)[0] == 2


@pytest.mark.parametrize(
    "verb", ["status", "runs", "checkpoints", "verify", "export", "archive", "resume", "logs", "fetch"]
)
def test_a_wrong_folder_of_runs(place: Path, refused, verb: str) -> None:
    for word in WRONG:
        refused(verb, *([] if verb == "runs" else ["mine"]), "--checkpoint-dir", word)


@pytest.mark.parametrize("flag", ["--step", "--part", "--recipe", "--format", "--output"])
def test_a_wrong_flag_of_export(place: Path, refused, flag: str) -> None:
    for verb in ("export", *([] if flag == "--format" else ["archive"])):
        for word in WRONG:
            if flag != "--output" or word not in ("nope", "-1", "0", "1e400", "null", "*", "-", "--", "~", "\udcff"):
                refused(verb, "mine", *([] if flag == "--part" else ["--part", "s"]), flag, word)


@pytest.mark.parametrize("flag", [
    "--train-config", "--resume", "--checkpoint-dir", "--experiment-name", "--budget", "--epochs", "--batch-size",
    "--lr", "--seed", "--num-workers", "--save-every", "--log-csv", "--data-root", "--env", "--model.width",
])  # fmt: skip
def test_a_wrong_value(place: Path, refused, flag: str) -> None:
    for word in WRONG:
        code, _ = refused("config", "digits", flag, word)
        if flag in ("--budget", "--epochs", "--batch-size", "--lr", "--env", "--save-every") and word not in (
            "--",
            "-",
        ):
            assert code == 2 or (flag, word) == ("--lr", "0"), (flag, word)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["status", "mien"], messages.says("cli/typed-no-such-run", run="mien", mean="mine")),
        (["status", "mine", "--checkpoint-dir", "plain"],
            messages.says("cli/typed-no-runs-in-a-file", run="mine", folder="plain")),
        (["export", "mine", "--step", "7"], messages.says("cli/typed-no-such-step", step="7")),
        (["export", "mine", "--step", "-1"], messages.says("cli/typed-no-such-step", step="-1")),
        (["export", "mine", "--step", "³"], messages.says("cli/typed-no-such-step", step="³")),
        (["export", "mine", "--part", "t"], messages.says("cli/typed-no-such-part", part="t")),
        (["export", "mine", "--part", "s", "-o", "a dir"],
            messages.says("cli/typed-output-is-a-folder", path="a dir", example="mine-s-step-3.safetensors")),
        (["export", "mine", "--part", "s", "-o", "pipe"],
            messages.says("cli/typed-output-is-no-file", path="pipe", example="mine-s-step-3.safetensors")),
        (["archive", "mine", "--part", "s", "-o", ""],
            messages.says("cli/typed-output-is-a-folder", path=".", example="mine_outputs.zip")),
        (["archive", "mine", "--part", "s", "-o", "plain/x.zip"],
            messages.says("cli/typed-folder-is-a-file", folder="plain")),
        (["notebook", "digits", "--output", "/dev/full"],
            messages.says("cli/typed-output-is-no-file", path="/dev/full", example="digits.ipynb")),
        (["config", "digits", "--log-csv", "a dir"], messages.says("cli/typed-log-csv-is-a-folder", path="a dir")),
        (["train", "digits", "--epochs", "0"], messages.says("cli/typed-too-few-epochs", value="0", least=1)),
        (["train", "syntax.py"], messages.says("cli/typed-recipe-is-no-python", line="syntax.py:1")),
        (["train", "a dir"], messages.says("cli/typed-no-recipe-in-a-folder", folder="a dir")),
        (["resume", "mine", "--recipe"], messages.says("cli/typed-flag-needs-a-value", flag="--recipe")),
        (["resume", "mine"], messages.says("cli/typed-begun-by-a-script")),
        (["config", "digits", "--checkpoint-dir", "plain"], messages.says("cli/typed-runs-below-a-file")),
        (["copy", "digits", "plain"], messages.says("cli/typed-copy-to-a-file", folder="plain")),
        (["status", "mine", "--interval", "0"], messages.says("cli/typed-interval-of-nothing", flag="--interval")),
    ],
)  # fmt: skip
def test_the_sentence_says_what_is_wrong(place: Path, refused, words: list[str], sentence: messages.Message) -> None:
    before = everything()
    code, said = refused(*words)
    assert code in (1, 2)
    messages.said(said, sentence)
    assert everything() == before


def everything() -> list[str]:
    return sorted(
        str(path) for path in Path().rglob("*") if path.parts[0] != "home"
    )  # where libraries keep their caches


def test_epochs_0_is_no_finished_run(place: Path, refused) -> None:
    assert refused("train", "digits", "--epochs", "0")[0] == 2
    assert not Path("runs/digits").exists()


def test_a_dead_attempt_is_never_shown_as_running(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(Path("runs/mine/attempts/0001.json").read_text())
    del record["end"]
    Path("runs/mine/attempts/0001.json").write_text(json.dumps(record))
    Path("runs/mine/attempts/0002.json").write_text(json.dumps(record | {"number": 2}))
    assert main(["status", "mine"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("interrupted run mine")
    assert "running" not in said
    assert said.count(" lost ") == 2
    assert main(["runs"]) == 0
    assert "running" not in capsys.readouterr().out


def test_a_signal_is_shown_by_its_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(Path("runs/mine/attempts/0001.json").read_text())
    record["end"] |= {"reason": "preempted", "signal": "SIGTERM"}
    Path("runs/mine/attempts/0001.json").write_text(json.dumps(record))
    assert main(["status", "mine"]) == 0
    said = capsys.readouterr().out
    assert "SIGTERM received" in said
    assert "preempted" not in said


def test_the_only_network_of_a_script_is_the_model(opened, tmp_path: Path, capsys) -> None:
    import torch

    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    with opened("lone", total_steps=1) as run:
        run.track(net=net, optimizer=optimizer)
        for _ in run.steps():
            net(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    assert main(["export", "lone", "--checkpoint-dir", str(tmp_path)]) == 0
    messages.said(
        capsys.readouterr().out,
        "cli/tensors-of-the-part",
        file="lone-net-step-1.safetensors",
        tensors=2,
        name="net",
        step=1,
        size=204,
    )
    assert main(["archive", "lone", "--checkpoint-dir", str(tmp_path)]) == 0
    with opened("two", total_steps=1) as run:
        run.track(one=net, other=torch.nn.Linear(2, 1))
        for _ in run.steps():
            pass
    assert main(["export", "two", "--checkpoint-dir", str(tmp_path)]) == 2
    messages.said(capsys.readouterr().err, "cli/holds-one-other-choose-one")


def test_a_budget_of_nothing(capsys) -> None:
    assert main(["config", "digits", "--budget", "0"]) == 2
    assert "write 0s" not in capsys.readouterr().err
    assert main(["config", "digits", "--budget", "0s"]) == 2
    messages.said(capsys.readouterr().err, "cli/budget-of-nothing", value="0s")
