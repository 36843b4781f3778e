"""The recipe as a user types it: the document's commands, and measure, ablate and render."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from outlast.cli import main
from outlast.folder.artifact import manifest_of, verify_artifact
from outlast_recipes.emergence import pictures
from outlast_recipes.emergence.trackers import Book
from tests import messages
from tests.conftest import REPOSITORY
from tests.durability.digits import train
from tests.recipes.colonies import TINY, begin, config

FLAGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", value)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of two kinds of food, `colony`."""
    place = tmp_path_factory.mktemp("emergence")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = [
            "--experiment-name",
            "colony",
            "--env.food-kinds",
            "2",
            "--field.signals",
            "1",
            "--save-every",
            "6 steps",
        ]
        assert main(["train", "emergence", *FLAGS, *words]) == 0
    return place


def lines(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(words) == 0
    return capsys.readouterr().out.splitlines()


def test_a_run_leaves_pictures(folder: Path) -> None:
    from PIL import Image

    artifacts = folder / "runs/colony/artifacts"
    for name in ("curves.png", "phylogeny.png"):
        picture = np.asarray(Image.open(artifacts / name).convert("RGB"))
        assert picture.shape[1] > 1000
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50  # something is drawn


def test_measure(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    said = lines(["measure", "emergence", "colony", "--gardens", "2", "--lives", "lives.csv"], capsys)
    assert said[0].startswith("colony at step 12: 1,536 slot-steps")
    assert any(line.startswith("common garden, meals in an agent-step: ") for line in said)
    assert any(line.startswith("  heredity ") for line in said)
    assert any(line.startswith("change of course of population: ") for line in said)
    assert said[-1] == "Next: outlast ablate emergence --checkpoint colony, or outlast render emergence colony"
    table = (folder / "lives.csv").read_text().splitlines()
    assert table[0].startswith("world,uid,parent,root")
    rows = [[int(cell) for cell in row.split(",")] for row in table[1:]]
    assert rows
    assert all(row[6] >= row[5] for row in rows)  # who died was born before


def test_ablate_the_checkpoint_of_the_document(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    checkpoint = "runs/colony/checkpoints/step-00000006"
    said = lines(["ablate", "emergence", "--checkpoint", checkpoint, "--chunks", "1", "--repeats", "3"], capsys)
    assert said[0].startswith("| condition | meals in an agent-step |")
    names = [line.split("|")[1].strip() for line in said[2:-1]]
    assert names[0] == "as it is"
    assert {"field not seen", "genomes: exchanged among the living", "food not seen", "scripted forager"} <= set(names)
    place = folder / "runs/colony/artifacts/ablation-00000006"
    assert "Command: outlast ablate emergence" in (place / "ablation.md").read_text()
    assert (place / "ablation.svg").read_text().startswith("<?xml")
    assert verify_artifact(manifest_of(place))["step"] == 6


def test_render(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    monkeypatch.chdir(folder)
    said = lines(["render", "emergence", "colony", "--ticks", "6", "--world", "1", "--to", "film"], capsys)
    assert said[0].startswith("film/world.gif: world 1 for 6 ticks after step 12")
    film = Image.open(folder / "film/world.gif")
    assert film.n_frames == 12
    assert film.size == (8 * 18, 8 * 18)
    assert verify_artifact(folder / "film/world.gif.manifest.json")["step"] == 12
    first = np.asarray(film.convert("RGB"), float)
    film.seek(11)
    assert np.abs(first - np.asarray(film.convert("RGB"), float)).max() > 50  # something moves
    assert main(["render", "emergence", "colony", "--world", "2"]) == 1
    messages.said(capsys.readouterr().err, "emergence/unknown-world", value=2, first=0, last=1)


def test_commands_are_for_runs_of_emergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", "emergence", "nothing"]) == 2
    messages.said(capsys.readouterr().err, "cli/no-runs-yet", run="nothing")
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "runs")
    for words in (["measure", "emergence", "digits"], ["ablate", "emergence", "--checkpoint", "digits"]):
        assert main(words) == 1
        messages.said(capsys.readouterr().err, "emergence/run-of-another-recipe", run="digits", expected="emergence")


@pytest.mark.parametrize(
    "words",
    [
        ["measure", "emergence", "colony", "--gardens", "0"],
        ["ablate", "emergence", "--checkpoint", "colony", "--chunks", "0"],
        ["ablate", "emergence", "--checkpoint", "colony", "--repeats", "-1"],
        ["render", "emergence", "colony", "--ticks", "0"],
        ["render", "emergence", "colony", "--cell", "0.5"],
    ],
    ids=" ".join,
)
def test_counts_are_at_least_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    facts = {"verb": words[0], "flag": words[-2], "value": words[-1], "least": 1}
    messages.said(capsys.readouterr().err, "emergence/count-too-small", **facts)


def test_a_film_is_simulated_in_chunks_as_training_is() -> None:
    values = config(evolution__births_per_chunk=1, env__max_age=0, env__slots=16, env__reproduce_threshold=60)
    frames = pictures.record(begin(values), values, 1, 40, 0)  # chunks are of 8 ticks
    assert frames.alive.shape == (40, 16)
    born = [int(frames.uid[t].max()) for t in (0, 39)]
    assert born[1] >= born[0] + 4  # one in each chunk, where one long chunk would have had room for one
    assert np.array_equal(frames.pos, pictures.record(begin(values), values, 1, 40, 0).pos)


def test_a_family_is_the_living_and_their_ancestors() -> None:
    book = Book(config())
    rows = np.zeros((3, 13), np.int64)
    # world, uid, parent, ..., birth, death: 0 -> 1 -> 2; and 9, whose line ended.
    rows[:, 1], rows[:, 2], rows[:, 5], rows[:, 6] = [0, 1, 9], [-1, 0, -1], [0, 5, 0], [10, 20, 3]
    book.lives = [rows]
    worlds = begin(config()).worlds
    alive = np.zeros((2, 8), bool)
    alive[0, 4] = True
    uid, parent, birth = (np.full((2, 8), -1) for _ in range(3))
    uid[0, 4], parent[0, 4], birth[0, 4] = 2, 1, 15
    import dataclasses

    import jax.numpy as jnp

    worlds = dataclasses.replace(
        worlds,
        alive=jnp.array(alive),
        uid=jnp.array(uid),
        parent=jnp.array(parent),
        birth=jnp.array(birth),
        t=jnp.array([30, 30]),
    )
    found = pictures.family(book, worlds, 0)
    assert [(life.uid, life.parent, life.birth, life.death, life.lives) for life in found] == [
        (0, -1, 0, 10, False), (1, 0, 5, 20, False), (2, 1, 15, 30, True),
    ]  # fmt: skip


DOCUMENT = [
    ["--train.total-steps", "10000000"],
    ["--train.total-steps", "10_000_000", "--train.num-envs", "16"],
    ["--train.diversity-bonus", "0.1", "--train.niche-pressure", "0.05"],
    ["--env.num-food", "20", "--evolution.starting-energy", "200", "--evolution.food-energy", "100"],
    ["--evolution.reproduce-threshold", "120", "--evolution.reproduce-cost", "50", "--train.num_envs", "32"],
    ["--train.training-mode", "freeze-evolve", "--evolution.mutation-std", "0.01"],
    ["--save-every", "1 step", "--keep-last", "5"],
]


@pytest.mark.parametrize("words", DOCUMENT, ids=" ".join)
def test_the_documents_flags(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "emergence", *words, "--dry-run"]) == 0
    messages.said(capsys.readouterr().out, "cli/dry-run")


def test_the_documents_defaults() -> None:
    from outlast.config import resolve
    from outlast_recipes.emergence.config import Config

    values = resolve(Config).config
    env, train = values.env, values.train
    assert (env.num_food, env.starting_energy, env.food_energy, env.reproduce_threshold, env.reproduce_cost) == (
        20,
        200,
        100,
        120,
        50,
    )
    assert (train.num_envs, train.total_steps, train.diversity_bonus, train.niche_pressure) == (
        32,
        10_000_000,
        0.1,
        0.05,
    )
    assert values.chunks == 77


def test_resume_from_continues_or_begins_from_an_old_state(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert (
        main(
            [
                "train",
                "emergence",
                "--train.resume-from",
                "runs/colony/checkpoints/step-00000006",
                "--experiment-name",
                "other",
            ]
        )
        == 0
    )
    assert "other" in capsys.readouterr().out
    assert (folder / "runs/other/checkpoints/step-00000012").is_dir()
    assert main(["train", "emergence", "--train.resume-from", "kaggle_output/checkpoints/latest.pkl"]) == 2
    assert "latest.pkl" in capsys.readouterr().err


def test_no_package_of_the_originals_name_is_installed() -> None:
    code = "import importlib.util as u; print([n for n in ('src', 'training', 'analysis') if u.find_spec(n)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "[]"
    assert importlib.util.find_spec("outlast_recipes.emergence")


def _said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_the_script_of_the_project_trains_it_too() -> None:
    words = ["--recipe", "emergence", "--train.total-steps", "10000000", "--train.num-envs", "16", "--dry_run"]
    done = subprocess.run(
        [sys.executable, "scripts/train.py", *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "emergence/doctor-data", worlds=16, side=20, slots=32)


@pytest.mark.parametrize("name", ["lean", "soft", "two_resource"])
def test_the_economies_make_sense(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "train",
                "emergence",
                "--train-config",
                str(REPOSITORY / f"configs/train/emergence_{name}.yaml"),
                "--dry-run",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    messages.said(said, "emergence/doctor-data-economy", worlds=16, side=32, sizes=messages.ANY, agents=messages.ANY)
    assert "All slots will be used" not in said  # in all three something selects
    assert "configs/train/emergence_lean.yaml" in _said(
        ["train", "emergence", "--dry-run"], capsys
    )  # in the document's nothing does
