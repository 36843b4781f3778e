"""Looking at a stranger's run runs nothing: no file is imported because a record names it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests import messages
from tests.cli.things import Thing

import outlast
from outlast.cli import main
from outlast.errors import UnknownName, UsageError
from outlast.recipe import registry

Ran = Callable[..., tuple[int, str]]

RECIPE = """
import pathlib, numpy as np, outlast
pathlib.Path("EXECUTED").touch()
class S:
    w = np.zeros(3)
    def state_dict(self): return {"w": self.w}
    def load_state_dict(self, state): self.w = state["w"]
def train(run, config):
    run.track(s=S())
    for step in run.steps(config.epochs):
        run.log(loss=1.0 / step)
recipe = outlast.Recipe(name="own", summary="own", Config=outlast.SupervisedConfig, train=train, metric="loss", mode="min", part="s")
"""  # noqa: E501 - code of a recipe


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ran:
    def call(*words: str) -> tuple[int, str]:
        registry._NAMED.clear()  # every call stands for a process of its own
        code = main(list(words))
        out = capsys.readouterr()
        return code, out.out + out.err

    return call


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A run whose records name a recipe file that lies in its own folder."""
    keep = outlast.Retention(best=1, metric="loss", mode="min")
    with outlast.open_run("evil", total_steps=3, save="1 steps", progress="none", keep=keep) as run:
        run.track(s=Thing())
        for step in run.steps():
            run.log(loss=1.0 / step)
    folder = tmp_path / "runs/evil"
    (folder / "recipe.py").write_text(RECIPE)
    name(folder, "runs/evil/recipe.py")
    (folder / "launches").mkdir()
    record = {
        "format": 1, "number": 1, "time": "2026-01-01T00:00:00Z", "on": "kaggle", "slug": "outlast-x-001",
        "accelerator": "cpu", "state": "fetched", "user": "ada", "after": None,
        "asked": {"source": "runs/evil/recipe.py", "recipe": "recipe", "values": {"epochs": 3}},
        "terms": {"seconds": None, "accelerator": "cpu", "internet": True, "secrets": False, "wheels": None,
            "datasets": []},
    }  # fmt: skip
    (folder / "launches/0001.json").write_text(json.dumps(record))
    return folder


def name(folder: Path, recipe: object) -> None:
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"recipe": recipe}))


VERBS = [
    ["status", "evil"], ["status", "evil", "--json"], ["runs"], ["checkpoints", "evil"], ["verify", "evil"],
    ["export", "evil"], ["export", "evil", "--part", "s"], ["export", "evil", "--step", "best", "--part", "s"],
    ["export", "evil", "--format", "onnx", "--part", "s"], ["archive", "evil"], ["archive", "evil", "--part", "s"],
    ["resume", "evil"], ["resume", "runs/evil"], ["launch", "evil"], ["relay", "evil"],
    ["resume", "runs/evil/checkpoints/step-00000002"], ["evaluate", "skeleton", "evil"],
    ["predict", "skeleton", "evil", "x.json"], ["train", "digits", "--resume", "evil", "--dry-run"],
    ["doctor", "digits", "--experiment-name", "evil"], ["config", "digits", "--resume", "evil"],
    ["notebook", "digits", "--experiment-name", "evil"], ["logs", "evil"], ["evil", "evil"], ["copy", "evil", "mine"],
]  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=[" ".join(words) for words in VERBS])
def test_no_verb_imports_what_a_record_names(evil: Path, ran: Ran, words: list[str]) -> None:
    code, said = ran(*words)
    assert not Path("EXECUTED").exists()
    assert code in (0, 1, 2)
    assert "Traceback" not in said
    works = (["status"], ["runs"], ["checkpoints"], ["verify"])
    if words[:1] in works or ("--part" in words and "--format" not in words):
        assert code == 0, said


@pytest.mark.parametrize("verb", ["export", "archive", "resume", "launch"])
def test_the_refusal_names_the_file_and_how_to_allow_it(evil: Path, ran: Ran, verb: str) -> None:
    code, said = ran(verb, "evil")
    assert code == 2
    command = re.compile(r".*--recipe runs/evil/recipe\.py.*?")
    messages.said(
        said,
        "recipe/is-a-file",
        said_by=messages.ANY,
        recipe="runs/evil/recipe.py",
        command=command,
        words=messages.ANY,
    )
    if verb in ("export", "archive"):
        assert "--part NAME writes a part without it." in said


def test_what_the_user_names_is_used(evil: Path, ran: Ran) -> None:
    code, said = ran("resume", "evil", "--recipe", "runs/evil/recipe.py", "--epochs", "4")
    assert code == 0, said
    assert Path("EXECUTED").exists()
    messages.said(said, "cli/step-of-finished", step=4, number=4)
    code, said = ran("export", "evil", "--recipe=runs/evil/recipe.py", "--step", "best")
    assert code == 0, said
    messages.said(
        said, "cli/tensors-of-the-part", file="evil-s-step-4.safetensors", tensors=1, name="s", step=4, size=152
    )
    assert ran("archive", "evil", "--recipe", "runs/evil/recipe.py")[0] == 0
    assert outlast.open_saved("evil", recipe="runs/evil/recipe.py").recipe.name == "own"


def test_a_file_named_once_in_a_process_is_known(evil: Path) -> None:
    with messages.raises(
        UsageError,
        "recipe/is-a-file",
        said_by=messages.ANY,
        recipe="runs/evil/recipe.py",
        command=messages.ANY,
        words=messages.ANY,
    ):
        registry.stored("runs/evil/recipe.py", evil / "run.json")
    registry.find(str(evil))  # the folder of it, by another path
    assert registry.stored("runs/evil/recipe.py", evil / "run.json").name == "own"
    registry._NAMED.clear()


@pytest.mark.parametrize(
    "stored",
    ["../../evil", "/etc/passwd", "signs", "digits\x00", "a" * 3000, "outlast_recipes.digits", "digits ", "os:system"],
)
def test_other_names_in_a_record(evil: Path, ran: Ran, stored: str) -> None:
    name(evil, stored)
    for verb in ("export", "resume", "archive"):
        code, said = ran(verb, "evil")
        assert code == 2, said
        assert said.startswith("error: ")
        assert len(said) < 1000
        assert "recipe" in said


def test_open_saved_of_such_a_run_gives_its_parts(evil: Path) -> None:
    saved = outlast.open_saved("evil", step="best")
    assert saved.step == 3
    assert saved.part("s")["w"].tolist() == [0, 0, 0]
    assert saved.part()["w"].tolist() == [0, 0, 0]
    for ask in (lambda: saved.recipe, lambda: saved.config):
        with messages.raises(
            UsageError,
            "recipe/is-a-file",
            said_by=messages.ANY,
            recipe="runs/evil/recipe.py",
            command=messages.ANY,
            words=messages.ANY,
        ):
            ask()
    assert not Path("EXECUTED").exists()


def test_a_launch_record_gives_values_and_no_other_flag(evil: Path, ran: Ran) -> None:
    record = json.loads((evil / "launches/0001.json").read_text())
    record["asked"] = {"source": "digits", "recipe": "digits", "values": {"wheels": "/somewhere", "epochs": 3}}
    (evil / "launches/0001.json").write_text(json.dumps(record))
    code, said = ran("launch", "evil")
    assert code == 2
    messages.said(said, "cli/gives-which-the-recipe-digits-does", gives="wheels")
    record["asked"]["values"] = {"epochs": 3}
    record["terms"]["wheels"] = "runs/evil/wheels"
    (evil / "launches/0001.json").write_text(json.dumps(record))
    code, said = ran("launch", "evil")
    assert code == 2
    messages.said(said, "cli/error-the-last-launch", path="runs/evil/wheels")


def test_the_next_command_is_complete(ran: Ran) -> None:
    Path("my recipes").mkdir()
    Path("my recipes/recipe.py").write_text(
        RECIPE.replace("run.log(loss", "run.session.request_stop('budget', 'x'); run.log(loss")
    )
    code, said = ran("train", "my recipes", "--checkpoint-dir", "a b")
    assert code == 75, said
    line = "outlast resume own --recipe 'my recipes' --checkpoint-dir 'a b'"
    messages.said(said, "cli/go-on-with", line=line)
    import shlex

    assert ran(*shlex.split(line)[1:])[0] == 75
    assert "outlast resume 'a b/own' --recipe 'my recipes'" in ran("status", "own", "--checkpoint-dir", "a b")[1]


def test_the_working_folder_is_not_on_the_path(tmp_path: Path, outlast_cli) -> None:
    """`python -m outlast.cli` in a stranger's folder: neither its modules nor its entry points are imported."""
    (tmp_path / "xxhash.py").write_text("import pathlib; pathlib.Path('EXECUTED').touch()\n")
    (tmp_path / "pydantic.py").write_text("import pathlib; pathlib.Path('EXECUTED').touch()\n")
    folder = tmp_path / "evil-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[outlast.recipes]\nevil = evil:recipe\n")
    done = outlast_cli("train", "evil", cwd=tmp_path)
    messages.said(done.stderr, "cli/there-is-no-recipe", recipe="evil")
    assert not (tmp_path / "EXECUTED").exists()


def test_scripts_find_their_best_again(capsys: pytest.CaptureFixture[str]) -> None:
    keep = outlast.Retention(last=1, best=1, metric="error", mode="min")
    thing = Thing()
    with outlast.open_run("mine", total_steps=5, save="1 steps", progress="none", keep=keep) as run:
        run.track(s=thing)
        for step in run.steps():
            thing.w = np.full(3, float(step))
            run.log(error=abs(step - 2.0), other=1.0)
            with messages.raises(UsageError, "cli/while-the-run-goes"):
                run.load_best()
        with messages.raises(UsageError, "run/load-best-finds-no-model", part="s"):
            run.load_best()
        with messages.raises(UnknownName, "cli/is-not-tracked-tracked", name="t"):
            run.load_best("t")
        assert run.load_best("s") == 2
        assert thing.w.tolist() == [2, 2, 2]
    assert outlast.open_saved("mine").part()["w"].tolist() == [5, 5, 5], "what was loaded is not saved as the newest"
    assert outlast.open_saved("mine", step="best").part("s")["w"].tolist() == [2, 2, 2]
    fresh = Thing()
    outlast.open_saved("runs/mine/checkpoints/step-00000002").load_into(fresh)
    assert fresh.w.tolist() == [2, 2, 2]
    assert main(["export", "mine", "--step", "best", "--part", "s", "-o", "best.safetensors"]) == 0
    messages.said(capsys.readouterr().out, "cli/best-safetensors-the-tensors", step=2)
    assert main(["archive", "mine", "--step", "best", "--part", "s"]) == 0
    with messages.raises(UnknownName, "cli/no-part", part="w"):
        outlast.open_saved("mine").part("w")


def test_the_newest_attempt_says_by_what_the_best_is_chosen() -> None:
    for total, metric in ((2, "loss"), (4, "error")):
        keep = outlast.Retention(last=4, best=1, metric=metric, mode="min")
        with outlast.open_run("again", total_steps=total, save="1 steps", progress="none", keep=keep) as run:
            run.track(s=Thing())
            for step in run.steps():
                run.log(loss=step, error=-step)
    assert outlast.open_saved("again", step="best").step == 4


def test_the_best_is_not_loaded_over_a_last_step_that_is_not_saved_yet() -> None:
    """In a loop that outlast does not run, all steps may be done before the last save."""
    keep = outlast.Retention(best=1, metric="error", mode="min")
    thing = Thing()
    with outlast.open_run("foreign", progress="none", keep=keep) as run:
        run.track(s=thing)
        run.begin(total_steps=2)
        run.log(error=1.0, step=1)
        run.save()
        thing.w = np.full(3, 2.0)
        run.log(error=2.0, step=2)
        assert run.finished
        with messages.raises(UsageError, "cli/while-the-run-goes"):
            run.load_best("s")
    assert outlast.open_saved("foreign").part()["w"].tolist() == [2, 2, 2]


def test_without_a_metric_or_with_one_that_was_never_logged() -> None:
    for run_id, keep in (("none", None), ("never", outlast.Retention(best=1, metric="losss"))):
        with outlast.open_run(run_id, total_steps=1, progress="none", keep=keep) as run:
            run.track(s=Thing())
            for _ in run.steps():
                run.log(loss=1.0, b=2.0)
    with messages.raises(UsageError, "cli/has-no-metric-to-choose", path="runs/none"):
        outlast.open_saved("none", step="best")
    with messages.raises(UnknownName, "cli/no-checkpoint-that-logged", logged="losss", mean="loss"):
        outlast.open_saved("never", step="best")
    with messages.raises(UsageError, "cli/is-the-run-of-script", path="runs/none"):
        _ = outlast.open_saved("none").config


def test_the_best_weights_of_a_torch_script() -> None:
    import torch

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    run = outlast.open_run(
        "net", total_steps=3, save="1 steps", progress="none", keep=outlast.Retention(best=1, metric="acc")
    )
    seen = {}
    with run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            run.log(acc=-abs(step - 2))
            seen[step] = model.weight.detach().clone()
    before = optimizer.state_dict()["state"][0]["momentum_buffer"].clone()
    assert run.load_best() == 2
    assert torch.equal(model.weight, seen[2])
    assert not torch.equal(model.weight, seen[3])
    assert torch.equal(optimizer.state_dict()["state"][0]["momentum_buffer"], before)
    other = torch.nn.Linear(2, 1)
    outlast.open_saved("net", step="best").load_into(other, part="model")
    assert torch.equal(other.weight, seen[2])
    assert outlast.open_saved("net").parts == ["model", "optimizer"]


def test_the_path_is_as_it_was() -> None:
    assert "outlast.cli.__main__" not in sys.modules


@pytest.mark.parametrize("attempts", ["empty", "gone", "folder", "link"])
def test_the_status_of_a_run_without_a_readable_attempt(
    attempts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that was killed before it wrote its first record."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "runs/r"
    place.mkdir(parents=True)
    (place / "run.json").write_text('{"format": 2, "id": "r", "uid": "ab", "recipe": null, "grade": "exact"}')
    if attempts != "gone":
        (place / "attempts").mkdir()
    if attempts == "folder":
        (place / "attempts/0001.json").mkdir()
    elif attempts == "link":
        (place / "attempts/0001.json").symlink_to("/etc/passwd")
    assert main(["status", "r"]) == 0
    messages.said(capsys.readouterr().out, "cli/pending-run-recipe-script-resume-grade")
