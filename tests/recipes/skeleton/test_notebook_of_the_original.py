"""The four cells of docs/reference/environments.md, with the original's file, in a session of the stand-in."""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")


import nbclient
import nbformat
import torch

from outlast.cli import main
from outlast.folder.layout import RunFolder
from outlast.report import read_run
from tests.config.kaggle_of_the_original import TEXT
from tests.conftest import REPOSITORY
from tests.recipes import skeletons
from tests.standins.kaggle import Standin, use

CELLS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/reference/environments.md").read_text(), re.DOTALL)
DEVICE = "" if torch.cuda.is_available() else " --device cpu"
"""The document's file says cuda."""


def clips(folder: Path) -> None:
    """Two training subjects with a batch of 24, five to choose by, and one of the test."""
    folder.mkdir(parents=True)
    people = [1, 2] * 13 + [4, 5, 8, 9, 13, 3]
    for number, person in enumerate(people):
        clip = replace(skeletons.clip(number), subject=person)
        name = f"S001C001P{person:03d}R{number:03d}A{clip.label + 1:03d}.skeleton"
        (folder / name).write_text(skeletons.skeleton_text(clip))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A Kaggle session whose /kaggle is a folder, with the document's file, a login, and the document's input."""
    root = tmp_path / "kaggle"
    for name in ("working", "input"):
        (root / name).mkdir(parents=True)
    clone = root / "working/clone"
    clone.mkdir()
    for name in ("scripts", "configs"):
        shutil.copytree(REPOSITORY / name, clone / name)
    text = TEXT.replace("/kaggle/", f"{root}/").replace('      teacher_logits: "', '      other: "')
    (clone / "configs/environment/kaggle.yaml").write_text(text)
    clips(tmp_path / "files")
    store = root / "input/ntu-rgbd-120-skeletons"
    assert main(["data", "prepare", "skeleton", str(tmp_path / "files"), "--to", str(store), "--workers", "1"]) == 0
    with Standin(tmp_path / "service") as running:
        use(running, tmp_path / "home", monkeypatch)
        monkeypatch.setenv("OUTLAST_KAGGLE_ROOT", str(tmp_path))
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
        monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield running, clone


def test_there_are_four_cells() -> None:
    assert len(CELLS) == 4
    assert "--env kaggle" in CELLS[2]


def test_the_third_cell_checks_out(session, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    _, clone = session
    monkeypatch.chdir(clone)
    monkeypatch.setattr("outlast.environment.base.ram", lambda _: 30 * 10**9)
    words = CELLS[2].partition("scripts/train.py")[2].replace("\\\n", " ").split()
    assert main(["train", "skeleton", *words, *DEVICE.split(), "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"publish.title +LAST Training Results - NTU-120 +environment configs/environment/kaggle.yaml", said
    )
    assert re.search(r"memory +13.0 GB +environment .*kaggle.yaml:\d+ \(30.0 GB measured\)", said)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_four_cells(session) -> None:
    """Cell 1 installs from PyPI, so here pip only says what it would install."""
    standin, clone = session
    install = CELLS[0].replace("'.[", f"'{REPOSITORY}[").replace("install -q", "install -q --dry-run --no-deps")
    train = CELLS[2].rstrip() + DEVICE
    cells = [install, CELLS[1], train, CELLS[3].replace("/kaggle/", f"{clone.parents[1]}/")]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(
        book, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(clone)}}
    ).execute()
    said = ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in book.cells]
    assert "ERROR" not in said[0], said[0]
    assert said[1].startswith("Environment: kaggle\nKaggle metadata: {'kernel': 'Interactive'"), said[1]
    place = clone.parent / "checkpoints/skeleton"
    assert read_run(place).status == "finished", said[2]
    folder = RunFolder(place)
    assert len(list(folder.checkpoints.glob("step-*"))) <= 3 + 2
    dataset = standin.world.datasets["ada", "last-training-results"]
    assert dataset.private
    assert dataset.title == "LAST Training Results - NTU-120"
    assert any(name.endswith("last.safetensors") for name in dataset.versions[-1].files)
    assert "model_final.safetensors" in zipfile.ZipFile(clone / "last_results.zip").namelist()
