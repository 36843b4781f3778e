"""The notebook is run as a browser would run it; the archive holds what the original's did."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from safetensors.numpy import load

from tests import messages

WANTED = ["config.json", "training_history.json", "model_final.safetensors", "training_curves.png"]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_trains_stops_continues_draws_and_packs(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli(
        "notebook", "digits", "--epochs", "150", "--data.samples", "128", "--batch-size", "32", "--num-workers", "0"
    )
    assert done.returncode == 0, done.stderr
    place = tmp_path / "digits.ipynb"
    book = nbformat.read(place, as_version=4)
    nbformat.validate(book)
    place = tmp_path / "elsewhere"
    place.mkdir()
    train = next(cell for cell in book.cells if cell.id == "train")
    short = nbformat.v4.new_code_cell(train.source.replace("FLAGS = [", 'FLAGS = ["--budget=3s", '))
    book.cells.insert(book.cells.index(train), short)
    NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    outputs = {cell.id: cell.get("outputs", []) for cell in book.cells}
    texts = {name: "".join(output.get("text", "") for output in found) for name, found in outputs.items()}
    assert not [output for found in outputs.values() for output in found if output.output_type == "error"]
    messages.said(texts["setup"], "launch/outlast-is-ready-digits")
    messages.said(texts[short.id], "launch/stopped-cleanly-with-work-left-run")
    assert texts["train"].endswith("finished\n")
    assert any("image/png" in output.get("data", {}) for output in outputs["curves"])
    messages.said(texts["archive"], "launch/digits-outputs-zip", file="config.json")
    packed = zipfile.ZipFile(place / "digits_outputs.zip")
    # The picture that the notebook drew is an artifact; the archive draws one of its own under that name.
    assert sorted(packed.namelist()) == sorted([*WANTED, "artifacts/training_curves.png"])


def test_an_archive_of_a_run(outlast_cli, tmp_path: Path) -> None:
    flags = ["--epochs", "2", "--data.samples", "64", "--batch-size", "32", "--num-workers", "0"]
    assert outlast_cli("train", "digits", *flags).returncode == 0
    (tmp_path / "runs/digits/artifacts").mkdir(exist_ok=True)
    (tmp_path / "runs/digits/artifacts/sample_0.png").write_bytes(b"a picture")
    done = outlast_cli("archive", "digits")
    assert done.returncode == 0, done.stderr
    packed = zipfile.ZipFile(tmp_path / "digits_outputs.zip")
    assert packed.namelist() == [*WANTED, "sample_0.png"]
    history = json.loads(packed.read("training_history.json"))
    assert history[-1].keys() >= {"step", "test_accuracy"}
    assert json.loads(packed.read("config.json"))
    assert packed.read("training_curves.png").startswith(b"\x89PNG")
    outlast_cli("export", "digits", "-o", "model.safetensors")
    ours, exported = load(packed.read("model_final.safetensors")), load((tmp_path / "model.safetensors").read_bytes())
    assert ours.keys() == exported.keys()
    assert all((ours[name] == exported[name]).all() for name in ours)
    assert outlast_cli("archive", "digits", "--step", "best", "-o", "best.zip").returncode == 0
    messages.said(
        outlast_cli("archive", "digits", "--step", "999999").stderr,
        "cli/no-checkpoint-at-the-step",
        step=999999,
        steps="2, 4",
    )
    messages.said(outlast_cli("archive", "nothing").stderr, "launch/archive-no-run", run="nothing")
