"""The sections of the original's document, each as it is done here: CONFIG, resume, troubleshooting, advanced usage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from safetensors.numpy import load_file

import outlast
from outlast.checkpoint.listing import steps_in
from outlast.cli import main
from outlast.config import resolve
from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.config import Config
from outlast_recipes.dungeon.saved import load_sampler, open_generator
from tests import messages
from tests.recipes.dungeons import LATENT, flags

VQVAE = ["train", "dungeon", "--stage", "vqvae"]

CONFIG = """
batch_size: 32
num_epochs: 100
learning_rate: 1e-4
weight_decay: 1e-5
checkpoint_every: 5
latent_dim: 64
num_embeddings: 512
num_timesteps: 1000
embedding_dim: 256
data_dir: zelda
checkpoint_root: checkpoints
output_dir: outputs
auto_resume: true
use_amp: true
log_every: 10
val_every: 1
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain, with a checkpoint after each epoch."""
    root = tmp_path_factory.mktemp("trained") / "runs"
    small = LATENT | {"save_every": "1", "keep_last": "9"}
    assert main(["train", "dungeon", *flags(small), "--checkpoint-dir", str(root)]) == 0
    return root


def run_of(trained: Path, tmp_path: Path) -> Path:
    """A copy of the first stage's run."""
    return Path(shutil.copytree(trained / "dungeon.vqvae", tmp_path / "runs/dungeon.vqvae"))


def test_configuration_options(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(CONFIG)
    config = resolve(Config, train_file=tmp_path / "train.yaml").config
    assert (config.epochs, config.batch_size, config.learning_rate, config.weight_decay) == (100, 32, 1e-4, 1e-5)
    assert (config.save_every, config.data_root, config.results_dir) == ("5 epochs", Path("zelda"), Path("outputs"))
    assert (config.mixed_precision, config.auto_resume, config.log_every, config.val_every) == (True, True, 10, 1)
    usual = Config()
    named = ("latent_dim", "num_embeddings", "num_timesteps", "embedding_dim", "epochs", "batch_size", "weight_decay")
    assert all(getattr(config, name) == getattr(usual, name) for name in named), "the document's are the defaults"


def test_checkpoint_every_counts_epochs(trained: Path) -> None:
    assert sorted(steps_in(trained / "dungeon.vqvae/checkpoints")) == [2, 4, 6]


def test_resume_from_a_checkpoint(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(trained, tmp_path)
    assert main(["train", "dungeon", "--resume-from", str(run / "checkpoints/step-00000002")]) == 0
    anew, step = run.with_name("dungeon.vqvae-from-2"), "checkpoints/step-00000006/model.safetensors"
    assert (anew / step).read_bytes() == (run / step).read_bytes()
    capsys.readouterr()
    Path("checkpoint_epoch_50.pt").write_bytes(b"")
    assert main(["train", "dungeon", "--resume-from", "checkpoint_epoch_50.pt"]) == 2
    messages.said(capsys.readouterr().err, "dungeon/resume-from-pickle", file="checkpoint_epoch_50.pt")


def test_out_of_memory_and_large_files(trained: Path, tmp_path: Path) -> None:
    """A smaller batch, full precision and fewer checkpoints, in a run that goes on."""
    run = run_of(trained, tmp_path)
    words = ["--epochs", "4", "--batch-size", "16", "--no-use-amp", "--checkpoint-every", "10", "--keep-last", "1"]
    assert main([*VQVAE, *words, "--keep-best", "0", "--device", "cpu"]) == 0
    assert len(steps_in(run / "checkpoints")) == 1
    assert max(steps_in(run / "checkpoints")) > 6


def test_start_fresh(trained: Path, tmp_path: Path) -> None:
    run_of(trained, tmp_path)
    small = flags(LATENT | {"epochs": "1"})
    assert main([*VQVAE, *small, "--no-auto-resume", "--experiment-name", "fresh"]) == 0
    assert max(steps_in(Path("runs/fresh.vqvae/checkpoints"))) == 2
    shutil.rmtree("runs/dungeon.vqvae")
    assert main([*VQVAE, *small]) == 0, "a deleted run begins anew"
    assert max(steps_in(Path("runs/dungeon.vqvae/checkpoints"))) == 2


def test_checkpoint_integrity(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(trained, tmp_path)
    assert main(["verify", "dungeon.vqvae"]) == 0
    weights = run / "checkpoints/step-00000006/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-9] ^= 1
    weights.write_bytes(data)
    assert main(["verify", "dungeon.vqvae"]) == 1
    assert "step-00000006" in capsys.readouterr().out
    assert main([*VQVAE, "--device", "cpu"]) == 0, "it goes on from the one before"
    assert weights.read_bytes() == (trained / "dungeon.vqvae/checkpoints/step-00000006/model.safetensors").read_bytes()


def test_export_for_inference(trained: Path) -> None:
    """Without the optimizer's state; config and metrics are in the header of the file."""
    words = ["export", "dungeon.joint", "--checkpoint-dir", str(trained), "-o", "model_inference_only.safetensors"]
    assert main(words) == 0
    weights = load_file("model_inference_only.safetensors")
    saved = open_generator("dungeon", trained)
    assert weights.keys() == saved.part("ema").keys()
    assert not any("exp_avg" in name for name in weights)


def test_the_best_model_draws_samples(trained: Path) -> None:
    """`model.generate(num_samples=10)`."""
    saved = open_generator("dungeon", trained, "best")
    rooms = load_sampler(saved).sample([RoomCondition(frozenset("NESW"[: number % 5])) for number in range(10)], seed=3)
    assert rooms.shape == (10, 16, 11)


def test_custom_checkpoint_logic(opened) -> None:
    """The document's criterion: `val_loss < best_loss and val_accuracy > 0.95`."""
    losses, accuracies = [3.0, 2.0, 1.0, 2.5, 0.5], [0.9, 0.96, 0.97, 0.99, 0.9]
    with opened("custom", save="never", keep=outlast.Retention(last=9), total_steps=5) as run:
        run.track(model=torch.nn.Linear(1, 1))
        best = float("inf")
        for step in run.steps():
            val_loss, val_accuracy = losses[step - 1], accuracies[step - 1]
            run.log(val_loss=val_loss, val_accuracy=val_accuracy)
            if val_loss < best and val_accuracy > 0.95:
                best = val_loss
                run.save()
    assert sorted(steps_in(run.folder / "checkpoints")) == [2, 3, 5], "and the last one, of every run"


def test_training_history(trained: Path) -> None:
    assert main(["archive", "dungeon.diffusion", "--checkpoint-dir", str(trained), "-o", "h_molqd_outputs.zip"]) == 0
    shutil.unpack_archive("h_molqd_outputs.zip", "out")
    history = json.loads(Path("out/training_history.json").read_text())
    assert [row["step"] for row in history if "val_loss" in row] == [2, 4, 6]
    assert json.loads(Path("out/config.json").read_text())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "more"), [("train_h_molqd_kaggle", []), ("test_checkpoint_resume", ["--resume-test"])]
)
def test_the_documents_notebooks(name: str, more: list[str], outlast_cli, tmp_path: Path) -> None:
    made = outlast_cli("notebook", "dungeon", *flags(LATENT | {"epochs": "6"}), *more, "--output", f"{name}.ipynb")
    assert made.returncode == 0, made.stderr
    book = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    (tmp_path / "there").mkdir()
    place = {"metadata": {"path": str(tmp_path / "there")}}
    NotebookClient(book, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = {cell.id: cell.get("outputs", []) for cell in book.cells}
    assert not [output for found in outputs.values() for output in found if output.output_type == "error"]
    texts = {cell: "".join(output.get("text", "") for output in found) for cell, found in outputs.items()}
    if more:
        assert texts["verify"].endswith("All tests pass.\n")
        return
    assert texts["train"].endswith("finished\n")
    assert sum("image/png" in output.get("data", {}) for output in outputs["samples"]) == 5
    assert (tmp_path / "there/dungeon.joint_outputs.zip").is_file()
