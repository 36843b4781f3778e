"""A recipe with stages on another machine: each stage is a run with its own sessions, in order."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from outlast import cli
from outlast.folder.layout import RunFolder
from outlast.launch.records import all_launches
from tests import messages

PAIR = Path(__file__).parents[1] / "recipe/pair"
FLAGS = ("--device", "cpu", "--steps", "6")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipe, which is the current one."""
    folder = tmp_path / "project"
    shutil.copytree(PAIR, folder / "pair", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    return folder


def relay(*flags: str) -> int:
    return cli.main(["relay", "./pair", "--on", "local", "--session", "60s", "--ask-every", "0.1", *FLAGS, *flags])


def states(stage: str) -> list[str]:
    return [launch.record["state"] for launch in all_launches(RunFolder(Path(f"runs/pair.{stage}")))]


def final(root: str) -> dict[str, bytes]:
    """The newest checkpoint and the journal of both stages."""
    found = {}
    for stage in ("mean", "walk"):
        run = Path(root) / f"pair.{stage}"
        files = [path for path in (run / "checkpoints/step-00000006").iterdir() if path.name != "MANIFEST.json"]
        found |= {f"{stage}/{path.name}": path.read_bytes() for path in [*files, run / "journal.jsonl"]}
    return found


def train_twin(outlast_cli, project: Path) -> None:
    """Train without sessions, in a process with NumPy alone as theirs: what this one has imported would be state."""
    done = outlast_cli("train", "./pair", *FLAGS, "--checkpoint-dir", "twin", cwd=project, template="launch")
    assert done.returncode == 0, done.stderr


def test_a_relay_trains_stage_after_stage_and_ends_as_its_twin(
    project: Path, outlast_cli, capsys: pytest.CaptureFixture[str]
) -> None:
    train_twin(outlast_cli, project)
    assert relay("--stop-at", "walk:3") == 0
    assert states("mean") == ["fetched"]
    assert states("walk") == ["fetched", "fetched"]
    assert final("runs") == final("twin")
    said = capsys.readouterr().out
    assert "stage mean of pair" in said
    assert "pair.walk is finished at step 6" in said
    assert relay() == 0
    assert states("mean") == ["fetched"], "a finished stage is not trained again"


def test_the_number_of_sessions_is_that_of_the_command_and_not_of_a_stage() -> None:
    assert relay("--max-sessions", "1") == 75
    assert (states("mean"), states("walk")) == (["fetched"], [])
    assert relay("--max-sessions", "1") == 0
    assert (states("mean"), states("walk")) == (["fetched"], ["fetched"])


def test_a_launch_starts_the_next_stage(capsys: pytest.CaptureFixture[str]) -> None:
    named = (*FLAGS, "--experiment-name", "own")
    assert cli.main(["train", "./pair", *named, "--stage", "mean"]) == 0
    assert cli.main(["launch", "./pair", "--on", "local", *named]) == 0
    capsys.readouterr()
    assert cli.main(["train", "./pair", *named]) == 1
    messages.said(capsys.readouterr().err.rstrip("\n"), "launch/chain-launched")
    assert cli.main(["logs", "own.walk", "-f"]) == 0
    assert cli.main(["fetch", "own.walk"]) == 0
    for name in ("own.walk", "own"):
        capsys.readouterr()
        assert cli.main(["launch", name, "--recipe", "./pair", "--dry-run"]) == 0
        assert "would train own.walk for" in capsys.readouterr().out


def test_a_stage_is_not_launched_before_the_one_it_is_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", "./pair", "--on", "local", *FLAGS, "--stage", "walk"]) == 2
    messages.said(
        capsys.readouterr().err,
        "recipe/is-outlast-train-stage-mean",
        path="runs/pair.mean",
        value="not begun",
        PAIR="./pair",
    )
    assert not Path("runs/pair.walk/launches/0001.json").exists()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_trains_all_stages(project: Path, outlast_cli) -> None:
    assert cli.main(["notebook", "./pair", *FLAGS]) == 0
    book = nbformat.read("pair.ipynb", as_version=4)
    place = project / "elsewhere"
    place.mkdir()
    NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    outputs = {cell.id: cell.get("outputs", []) for cell in book.cells}
    assert not [output for found in outputs.values() for output in found if output.output_type == "error"]
    train_twin(outlast_cli, project)
    assert final("elsewhere/runs") == final("twin")
    assert sum("image/png" in output.get("data", {}) for output in outputs["curves"]) == 2
    assert sorted(path.name for path in place.glob("*.zip")) == ["pair.mean_outputs.zip", "pair.walk_outputs.zip"]


def test_a_notebook_of_one_stage_names_it() -> None:
    assert cli.main(["notebook", "./pair", *FLAGS, "--stage", "mean", "--output", "mean.ipynb"]) == 0
    (train,) = (cell for cell in nbformat.read("mean.ipynb", as_version=4).cells if cell.id == "train")
    assert "--stage=mean" in train.source
