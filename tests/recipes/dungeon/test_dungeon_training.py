"""The stages of dungeon in miniature: a chain that is trained at once, one with interruptions, and what they leave."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import outlast
import outlast.recipe.prepare as recipes
from outlast.cli import main
from outlast.config import resolve
from outlast_recipes.dungeon.conditions import INSIDE, RoomCondition, encode
from outlast_recipes.dungeon.config import Config
from outlast_recipes.dungeon.corpus import room_digest
from outlast_recipes.dungeon.dungeon_file import read_dungeon
from outlast_recipes.dungeon.evaluation import described
from outlast_recipes.dungeon.networks import generator_of, masked_of
from outlast_recipes.dungeon.room_data import load_rooms, without
from outlast_recipes.dungeon.saved import load_sampler, open_generator, sampler_of
from outlast_recipes.dungeon.tiles import decode
from tests import messages
from tests.durability.digits import final
from tests.recipes.dungeon import brute
from tests.recipes.dungeons import LATENT, MASKED, flags

STAGES = ("vqvae", "diffusion", "joint")


def typed(root: Path, *words: str) -> list[str]:
    return [*words, "--checkpoint-dir", str(root)]


def train(root: Path, *more: str, at: str = "", end: Callable[[outlast.Run], None] | None = None) -> int:
    """Train the chain; `at` is "stage:step", where `end` is called."""
    original = recipes.open_run

    def opened(*words: Any, **options: Any) -> outlast.Run:
        run = original(*words, **options)
        log = run.log

        def logged(**metrics: Any) -> None:
            log(**metrics)
            if end and f"{run.id.rpartition('.')[2]}:{run.step}" == at:
                end(run)

        run.log = logged
        return run

    recipes.open_run = opened
    try:
        return main(typed(root, "train", "dungeon", *flags(LATENT), *more))
    finally:
        recipes.open_run = original


def stop(run: outlast.Run) -> None:
    run.session.request_stop("preempted", "a test asks")


def kill(_run: outlast.Run) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain without interruption, in half precision, and a masked run beside it."""
    root = tmp_path_factory.mktemp("twin") / "runs"
    assert train(root, "--use-amp") == 0
    assert main(typed(root, "train", "dungeon", *flags(MASKED | {"epochs": "1"}))) == 0
    return root


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_interrupted_in_every_stage_it_ends_as_if_it_had_not_been(twin: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "runs"
    assert train(root, "--use-amp", at="vqvae:3", end=stop) == 75
    assert not (root / "dungeon.diffusion").exists()
    child = os.fork()
    if child == 0:
        train(root, "--use-amp", "--save-every=2 steps", at="diffusion:5", end=kill)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    first = everything(root / "dungeon.vqvae")
    assert train(root, "--use-amp", at="joint:2", end=stop) == 75
    assert everything(root / "dungeon.vqvae") == first, "the first stage is never trained again"
    assert train(root, "--use-amp") == 0
    assert "run dungeon.diffusion, attempt 2 continues after step 4 of 6" in capsys.readouterr().err
    for stage in STAGES:
        assert final(root, f"dungeon.{stage}") == final(twin, f"dungeon.{stage}"), stage


def test_what_a_run_leaves(twin: Path, tmp_path: Path) -> None:
    figures = json.loads((twin / "dungeon.joint/artifacts/test.json").read_text())
    assert (figures["corpus"], figures["rooms"], figures["doors_as_asked"]) == ("synthetic", 4, 1.0)
    assert figures["held_out"] == ["4", "8"]
    packed = tmp_path / "out.zip"
    assert main(typed(twin, "archive", "dungeon.joint", "-o", str(packed))) == 0
    with zipfile.ZipFile(packed) as zipped:
        assert {"config.json", "training_history.json", "training_curves.png", "model_final.safetensors"} <= {
            *zipped.namelist()
        }
        for name in ("sample_rooms.png", "sample_dungeon.png"):
            with zipped.open(name) as file, Image.open(file) as picture:
                assert picture.size > (400, 250)
    with Image.open(twin / "dungeon.vqvae/artifacts/sample_reconstructions.png") as picture:
        assert picture.height == 6 * (16 * 16 + 8) + 8, "three rows of rooms, and below each what its codes give"


@pytest.mark.parametrize(("run", "drawn_by"), [("dungeon", "dungeon.joint, step 6"),
                                               ("dungeon.masked", "dungeon.masked, step 2")])  # fmt: skip
def test_a_trained_run_draws_whole_dungeons(twin: Path, run: str, drawn_by: str, capsys) -> None:
    words = typed(twin, "generate", "dungeon", "--run", run, "--rooms", "20", "--keys", "3", "--seed", "7")
    assert main([*words, "-o", "made"]) == 0
    made = read_dungeon(Path("made/dungeon.json"))
    assert made.about["sampled_by"] == drawn_by
    assert f"the rooms are drawn by {drawn_by}\n" in capsys.readouterr().out
    assert (len(made.rooms), sum(step.key for step in made.certificate)) == (20, 3)
    assert brute.tiles_can_be_finished(json.loads(Path("made/dungeon.json").read_text()))


def test_evaluate_says_what_the_training_said(twin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = typed(twin, "evaluate", "dungeon", "dungeon", "--samples", "4", "--seed", "42", "-o", "figures.json")
    assert main(words) == 0
    assert "dungeon.joint, step 6: 4 rooms, seed 42" in capsys.readouterr().out
    now, then = (json.loads(path.read_text()) for path in (
        Path("figures.json"), twin / "dungeon.joint/artifacts/test.json"))  # fmt: skip
    assert {name: now[name] for name in ("valid", "copies", "tpkl_3", "new_interiors")} == {
        name: then[name] for name in ("valid", "copies", "tpkl_3", "new_interiors")
    }


def test_what_is_refused(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed(twin, "generate", "dungeon", "--run", "dungeon.vqvae")) == 1
    messages.said(capsys.readouterr().err, "dungeon/draws-no-rooms", place=twin / "dungeon.vqvae", what="stage vqvae")
    assert main(typed(twin, "evaluate", "dungeon", "dungeon", "--samples", "1")) == 1
    messages.said(capsys.readouterr().err, "dungeon/few-samples", number=1)
    shutil.copytree(twin / "dungeon.vqvae", tmp_path / "runs/dungeon.vqvae")
    assert main(typed(tmp_path / "runs", "train", "dungeon", "--stage", "vqvae", "--no-auto-resume")) == 2
    messages.said(capsys.readouterr().err, "dungeon/auto-resume-off", place=tmp_path / "runs/dungeon.vqvae")
    assert main(typed(twin, "train", "dungeon", "--stage", "vqvae", "--validation", "2")) == 1
    assert "validation" in capsys.readouterr().err


def config(**values: str) -> Config:
    return resolve(Config, flags={name.replace("__", "."): value for name, value in values.items()}).config


def test_sizes_that_cannot_be_are_refused() -> None:
    with messages.raises(outlast.ConfigError, "dungeon/fsq-codes", number=100):
        generator_of(config(vq__quantizer="fsq", num_embeddings="100"))
    with messages.raises(outlast.ConfigError, "dungeon/width-and-heads", width=40, heads=3):
        generator_of(config(diffusion__width="40", diffusion__heads="3"))


def shape(values: Config) -> str:
    """All that networks and samplers are made of."""
    generator, masked = generator_of(values), masked_of(values)
    parts = [dataclasses.asdict(generator.autoencoder.config), dataclasses.asdict(generator.denoiser.config)]
    samplers = [sampler_of(network, values, []) for network in (generator, masked)]
    drawn = [{name: each for name, each in vars(part).items() if isinstance(each, int | float)}
             for sampler in samplers for part in (sampler, sampler.once)]  # fmt: skip
    return f"{parts} {masked} {drawn}"


@pytest.mark.parametrize(("key", "value"), [
    ("latent_dim", "8"), ("num_embeddings", "64"), ("num_timesteps", "40"), ("embedding_dim", "64"),
    ("condition_dropout", "0.2"), ("vq.quantizer", "fsq"), ("vq.halvings", "1"), ("vq.width", "32"),
    ("vq.decay", "0.9"), ("vq.commitment", "1"), ("vq.restart_after", "7"), ("vq.rare_weight", "2"),
    ("diffusion.width", "64"), ("diffusion.layers", "2"), ("diffusion.heads", "2"), ("diffusion.dropout", "0"),
    ("diffusion.min_snr", "3"), ("diffusion.sampling_steps", "9"), ("diffusion.guidance", "2"),
    ("masked.width", "16"), ("masked.layers", "2"), ("masked.dropout", "0"), ("masked.at_once", "4"),
    ("masked.entropy", "0"),
    ("masked.temperature", "0.8"), ("masked.guidance", "2"), ("redraws", "0"),
])  # fmt: skip
def test_every_option_of_a_network_or_sampler_reaches_it(key: str, value: str) -> None:
    assert shape(config(**{key: value})) != shape(config())


@pytest.mark.parametrize(("key", "value"), [
    ("vq.epochs", "1"), ("vq.learning_rate", "0.01"), ("warmup", "1"), ("neighbour_dropout", "0"),
    ("weight_decay", "9"), ("val_every", "2"), ("held_out", "1"),
])  # fmt: skip
def test_other_options_change_the_first_stage(twin: Path, tmp_path: Path, key: str, value: str) -> None:
    small = LATENT | {"epochs": "2", key: value}
    assert main(typed(tmp_path / "runs", "train", "dungeon", "--stage", "vqvae", *flags(small))) == 0
    assert final(tmp_path / "runs", "dungeon.vqvae") != final(twin, "dungeon.vqvae")


def test_mirror_images_keep_what_was_asked() -> None:
    data = load_rooms(config())
    rooms, asked = (tensor.numpy() for tensor in data.train.tensors)
    assert len(rooms) == 4 * len(data.known)
    own = encode([RoomCondition.of(room.astype(np.uint8)) for room in rooms])
    assert (asked[:, :6] == own[:, :6]).all(), "doors and stairs are those of the image"
    beside = asked[:, 6:].reshape(len(asked), 4, -1)
    north, east, south, west = (beside[:, side] for side in range(4))
    assert (north[0::4] == south[1::4]).all()
    assert (east[0::4] == east[1::4]).all()
    assert (east[0::4] == west[2::4]).all()
    assert (north[2::4] == south[3::4]).all()
    assert beside[:, :, 0].any()


def test_what_is_dropped_is_dropped_for_a_share() -> None:
    torch.manual_seed(0)
    left = without(torch.ones(1000, 5), slice(2, None), 0.3)
    assert (left[:, :2] == 1).all()
    assert 0.25 < 1 - float(left[:, 4].mean()) < 0.35
    assert (left[:, 2] == left[:, 4]).all()


def test_new_interiors_are_told_from_known_ones() -> None:
    data = load_rooms(config(samples="4"))
    rooms = data.known[: len(data.asked)].copy()
    assert described(rooms, data)["new_interiors"] == 0
    rooms[0, INSIDE[0].start, INSIDE[1].start] = 4
    assert described(rooms, data)["new_interiors"] == pytest.approx(1 / len(rooms))


def test_a_checkpoint_draws_as_the_run_did(twin: Path) -> None:
    saved = open_generator("dungeon", twin)
    data = load_rooms(saved.config)
    sampler = load_sampler(saved)
    assert sampler._known == {room_digest(room) for room in data.known}, "training rooms are drawn again"
    rooms = sampler.once.sample(data.asked[:4], saved.config.seed)
    text = "\n\n".join("\n".join(decode(room)) for room in rooms) + "\n"
    assert (twin / "dungeon.joint/artifacts/sample_rooms.txt").read_text() == text


def test_a_number_alone_is_epochs() -> None:
    assert config(save_every="5").save_interval.epochs == 5
    assert config(save_every="10m").save_interval.seconds == 600
