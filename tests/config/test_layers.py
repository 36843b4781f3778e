"""Layers, priorities, origins, and sentences about what is wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Literal

import pytest
from tests import messages

from outlast.config import Config, Section, SupervisedConfig, resolve, setting
from outlast.config.units import format_bytes, format_seconds, parse_interval, parse_seconds
from outlast.errors import ConfigError, ResumeRefused


class Model(Section):
    width: int = setting(8, "width", ge=1)
    kind: Literal["a", "b"] = setting("a", "kind")


class Data(Section):
    split: str = setting("xsub", "split")
    cameras: tuple[int, ...] = setting((1, 2), "cameras")


class Example(SupervisedConfig):
    model: Model = setting(Model(), "model", on_resume="fixed")
    data: Data = setting(Data(), "data", on_resume="fixed")
    clip: float | None = setting(None, "gradient norm")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture
def seed_files(tmp_path: Path) -> dict[str, Path]:
    """The example of seeds/000 section 13, as it stands there."""
    return {
        "environment_file": write(
            tmp_path / "configs/environment/kaggle.yaml", "training_overrides:\n  batch_size: 32\n"
        ),
        "train_file": write(
            tmp_path / "configs/train/baseline.yaml", "training:\n  batch_size: 64  # This overrides kaggle.yaml\n"
        ),
    }


def test_priority_of_the_original(seed_files: dict[str, Path]) -> None:
    environment = {"environment_file": seed_files["environment_file"]}
    assert resolve(Example).config.batch_size == 64
    assert resolve(Example).origins["batch_size"].layer == "default"
    only = resolve(Example, **environment)
    assert (only.config.batch_size, only.origins["batch_size"].layer) == (32, "environment")
    both = resolve(Example, **seed_files)
    assert (both.config.batch_size, both.origins["batch_size"].layer) == (64, "train")
    all_ = resolve(Example, **seed_files, flags={"batch_size": "16"})
    assert (all_.config.batch_size, str(all_.origins["batch_size"])) == (16, "flag --batch-size")


def test_origins_name_file_and_line(seed_files: dict[str, Path]) -> None:
    messages.said([str(resolve(Example, **seed_files).origins["batch_size"])], "config/train", path="baseline.yaml:2")


def test_zero_and_false_are_values(tmp_path: Path) -> None:
    train = write(tmp_path / "t.yaml", "seed: 0\nmixed_precision: false\nlearning_rate: 0\n")
    environment = write(tmp_path / "e.yaml", "hardware: {mixed_precision: true, seed: 9, num_workers: 2}\n")
    found = resolve(Example, environment_file=environment, train_file=train, flags={"num_workers": "0"})
    assert (found.config.seed, found.config.mixed_precision, found.config.learning_rate, found.config.num_workers) == (
        0,
        False,
        0,
        0,
    )
    assert [found.origins[key].layer for key in ("seed", "mixed_precision", "learning_rate", "num_workers")] == [
        "train",
        "train",
        "train",
        "flag",
    ]
    assert (
        resolve(Example, environment_file=environment, flags={"mixed_precision": False}).config.mixed_precision is False
    )


def test_sections_and_names_of_the_originals(tmp_path: Path) -> None:
    found = resolve(
        Example,
        environment_file=write(
            tmp_path / "e.yaml",
            """
            environment:
              name: kaggle
              platform: kaggle
              paths: {data_root: /kaggle/working/data, checkpoint_root: /kaggle/working/checkpoints}
              hardware: {device: cuda, num_workers: 2}
              training_overrides: {log_frequency: 20, keep_best_k: 2}
            """,
        ),
        train_file=write(tmp_path / "t.yaml", "training: {max_epochs: 7, lr: 1e-3}\n"),
        data_file=write(tmp_path / "d.yaml", "data: {split: xset, cameras: [3], dataloader: {batch_size: 24}}\n"),
        model_file=write(tmp_path / "m.yaml", "width: 16\n"),
    )
    config = found.config
    assert str(config.checkpoint_dir) == "/kaggle/working/checkpoints"
    assert (config.epochs, config.learning_rate, config.log_every, config.keep_best) == (7, 1e-3, 20, 2)
    assert (config.data.split, config.data.cameras, config.batch_size, config.model.width) == ("xset", (3,), 24, 16)
    assert found.origins["batch_size"].layer == "data"
    assert resolve(Example, flags={"data.cameras": "2,3", "clip": "none"}).config.data.cameras == (2, 3)


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        (
            "train",
            "epochs: 3\nbatchsize: 3\n",
            messages.says("config/has-an-unknown-key-did-you", path="f.yaml:2", key="batchsize", mean="batch_size"),
        ),
        (
            "train",
            "training:\n  epochs: ten\n",
            messages.says("config/epochs-is-expected-whole-number", path="f.yaml:2", name="ten"),
        ),
        (
            "train",
            "epochs: 2.5\n",
            messages.says("config/epochs-is-expected-whole-number", path="f.yaml:1", name="2.5"),
        ),
        (
            "train",
            "epochs: yes\n",
            messages.says("config/epochs-is-expected-whole-number", path="f.yaml:1", name="yes"),
        ),
        ("train", "mixed_precision: maybe\n", messages.says("config/expected-true-or-false")),
        ("train", "batch_size: 0\n", messages.says("config/batch-size", name=0, number=1)),
        (
            "train",
            "batch_size: null\n",
            messages.says("config/no-whole-number", file="f", line=1, field="batch_size", found="none"),
        ),
        (
            "train",
            "seed: 1\nepochs: 2\nseed: 3\n",
            messages.says("config/gives-second-time-it-stands", path="f.yaml:3", gives="seed", line=1),
        ),
        ("train", "seed: [1\n", messages.says("config/is-not-valid-yaml", file="f.yaml")),
        ("train", "- 1\n", messages.says("config/holds-sequence-expected-keys", path="f.yaml:1")),
        ("train", "save_every: 10\n", messages.says("config/save-every-is-expected-an-interval", name=10, steps=500)),
        (
            "train",
            "save_every: sometimes\n",
            messages.says("config/save-every-is-expected-an-interval", name="sometimes", steps=500),
        ),
        (
            "train",
            "budget: 3 weeks\n",
            messages.says("config/no-duration", file="f", line=1, field="budget", found="3 weeks"),
        ),
        (
            "train",
            "experiment_name: a/b\n",
            messages.says("config/experiment-name-is-expected-up-to-letters", name="a/b", letters=100),
        ),
        (
            "model",
            "kind: c\n",
            messages.says("config/model-kind-is-expected-one", path="f.yaml:1", name="c", name2="a", name3="b"),
        ),
        ("model", "wdith: 3\n", messages.says("config/unknown-key-did-you-mean", key="wdith", mean="width")),
        (
            "data",
            "training: {batch_size: 3}\n",
            messages.says("config/unknown-key-did-you-mean", key="training.batch_size", mean="batch_size"),
        ),
        (
            "environment",
            "environment:\n  limits:\n    ram_gb: 13\n",
            messages.says("config/has-an-unknown-key-2", path="f.yaml:3", key="limits.ram_gb"),
        ),
    ],
)
def test_sentences(tmp_path: Path, kind: str, text: str, sentence: str) -> None:
    path = write(tmp_path / "f.yaml", text)
    with messages.raises(ConfigError, sentence):
        resolve(Example, **{f"{kind}_file": path})


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "last_tiny.yaml", "")
    with messages.raises(
        ConfigError, "config/does-not-exist-holds-did-you", file="last_tinny.yaml", file2="last_tiny.yaml"
    ):
        resolve(Example, model_file=tmp_path / "last_tinny.yaml")


def test_a_recipe_without_the_section_takes_no_such_file(tmp_path: Path) -> None:
    with messages.raises(ConfigError, "config/has-no-model-section"):
        resolve(Config, model_file=write(tmp_path / "m.yaml", "width: 3\n"))


def test_flags_are_named_as_flags() -> None:
    with messages.raises(ConfigError, "config/epochs-is-expected-whole-number-2", name="x"):
        resolve(Example, flags={"epochs": "x"})
    with messages.raises(ConfigError, "config/model-width", name=0, number=1):
        resolve(Example, flags={"model.width": "0"})
    with messages.raises(ConfigError, "config/no-value-did-you-mean", value="epoch", mean="epochs"):
        resolve(Example, flags={"epoch": "1"})


def test_limits_clamp_what_declares_it() -> None:
    found = resolve(Example, flags={"num_workers": "8"}, limits={"cores": 4}, limits_of="kaggle")
    assert found.config.num_workers == 4
    assert found.requested == {"num_workers": 8}
    messages.said([str(found.origins["num_workers"])], "config/limit-kaggle-cores-flag-num-workers", cores=4, number=8)
    assert resolve(Example, flags={"num_workers": "3"}, limits={"cores": 4}).requested == {}


def test_a_limit_of_a_fixed_value_is_refused() -> None:
    class Strict(Section):
        threads: int = setting(1, "threads", limit="cores", clampable=False)
        loaders: int = setting(1, "loaders", limit="cores")

    class Nested(Config):
        io: Strict = setting(Strict(), "input")

    with messages.raises(ConfigError, "config/io-threads-is-flag-io-threads", number=9, cores=4, number2=4):
        resolve(Nested, flags={"io.threads": "9"}, limits={"cores": 4}, limits_of="kaggle")
    assert resolve(Nested, flags={"io.loaders": "9"}, limits={"cores": 4}).config.io.loaders == 4


def test_the_values_of_the_run_stand_between_environment_and_flags(tmp_path: Path) -> None:
    stored = resolve(Example, flags={"batch_size": "8", "model.width": "4"}).record()
    environment = write(tmp_path / "e.yaml", "training_overrides: {batch_size: 32, epochs: 3}\n")
    found = resolve(Example, environment_file=environment, stored=stored)
    assert (found.config.batch_size, found.config.epochs, found.config.model.width) == (8, 10, 4)
    assert str(found.origins["batch_size"]) == "run (was: flag --batch-size)"
    assert found.changes == ()
    again = resolve(Example, stored=found.record())
    assert str(again.origins["batch_size"]) == "run (was: flag --batch-size)", "however often it is resumed"
    changed = resolve(Example, stored=stored, flags={"batch_size": "9", "epochs": "11"})
    assert [change.sentence[0] for change in changed.changes] == ["info", "warning"]
    assert str(changed.changes[1]) == "batch_size 8 -> 9 (flag --batch-size)"


def test_fixed_values_are_refused(tmp_path: Path) -> None:
    stored = resolve(Example).record()
    with messages.raises(ResumeRefused, "config/begun-with-model-width-and-flag", width=8, number=9):
        resolve(Example, stored=stored, flags={"model.width": "9"})
    resolve(Example, stored=stored, flags={"model.width": "8"})


def test_a_run_that_is_older_than_a_field_keeps_what_it_was_trained_with() -> None:
    class Later(Model):
        shapes: bool = setting(default=True, help="shapes", older=False)
        noise: float = setting(0.5, "noise", older=0.0)
        free: int = setting(3, "free")

    class Grown(Example):
        model: Later = setting(Later(), "model", on_resume="fixed")

    assert resolve(Grown).config.model.shapes, "a new run"
    found = resolve(Grown, stored=resolve(Example, flags={"model.width": "4"}).record())
    assert (found.config.model.width, found.config.model.shapes, found.config.model.noise) == (4, False, 0.0)
    assert found.config.model.free == 3, "this field's default changes nothing"
    assert found.changes == ()
    messages.said([str(found.origins["model.noise"])], "config/older-than-the-field")
    again = resolve(Grown, stored=found.record())
    assert (again.config, again.origins["model.noise"]) == (found.config, found.origins["model.noise"])
    with messages.raises(ResumeRefused, "config/begun-before-the-field"):
        resolve(Grown, stored=resolve(Example).record(), flags={"model.shapes": "true"})


def test_all_unknown_keys_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "e.yaml",
        "network:\n  internet: true\nhardware:\n  num_workers: 2\n  pinned: true\n  numworkers: 3\n",
    )
    with pytest.raises(ConfigError) as caught:
        resolve(Example, environment_file=path)
    messages.said(
        [str(caught.value)], "config/has-an-unknown-key", path=path, number=2, key="network.internet", line=5, line2=6
    )


def test_machine_values_are_not_carried_over() -> None:
    stored = resolve(
        Example, flags={"device": "cuda:1", "num_workers": "2", "budget": "1h", "checkpoint_dir": "/elsewhere"}
    ).record()
    found = resolve(Example, stored=stored).config
    assert (found.device, found.num_workers, found.budget, str(found.checkpoint_dir)) == ("auto", 0, None, "runs")


def test_the_path_of_the_data_is_kept_while_it_exists(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    stored = resolve(Example, flags={"data_root": str(here)}).record()
    found = resolve(Example, stored=stored)
    assert (found.config.data_root, str(found.origins["data_root"])) == (here, "run (was there before)")
    environment = write(tmp_path / "e.yaml", f"paths: {{data_root: {there}}}\n")
    assert resolve(Example, stored=stored, environment_file=environment).config.data_root == there
    assert resolve(Example, stored=stored, flags={"data_root": str(there)}).config.data_root == there
    assert resolve(Example, stored=stored, flags={"data_root": str(there)}).changes == ()
    here.rmdir()
    assert resolve(Example, stored=stored).config.data_root is None, "another machine, where the data lie elsewhere"


def test_the_record_is_json_and_its_fingerprint_depends_on_values_only() -> None:
    one, two = resolve(Example).record(), resolve(Example, flags={"seed": "42"}).record()
    assert one["fingerprint"] == two["fingerprint"]
    assert one["origins"]["seed"] != two["origins"]["seed"]
    assert resolve(Example, flags={"seed": "1"}).record()["fingerprint"] != one["fingerprint"]


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        resolve(Example).config.epochs = 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("11h30m", 41400),
        ("90s", 90),
        ("1.5 h", 5400),
        ("2d", 172800),
        ("45min", 2700),
        (7, 7),
        (None, None),
        ("none", None),
    ],
)
def test_durations(text, seconds) -> None:
    assert parse_seconds(text) == seconds


def test_intervals() -> None:
    assert parse_interval("500 steps").steps == 500
    both = parse_interval("10m, 1 epoch")
    assert (both.seconds, both.epochs, both.steps) == (600, 1, None)
    assert parse_interval("never") == parse_interval("Never")
    for wrong in ("10", "0 steps", "", "5m, 6m", "1.5 steps"):
        with messages.raises(ValueError, "config/no-interval"):
            parse_interval(wrong)


def test_words_for_quantities() -> None:
    assert [format_seconds(s) for s in (3, 245, 41400, 14.5 * 86400)] == ["3s", "4m05s", "11h30m", "14d12h"]
    assert [format_bytes(b) for b in (5, 1500, 2e9, 3e12)] == ["5 B", "1.5 kB", "2.0 GB", "3.0 TB"]


def test_lists_travel_as_flags() -> None:
    """What a launch sends to another machine is typed again there."""
    from outlast.launch.bundle import flags_of
    from outlast_recipes.skeleton.recipe import Config as Skeleton

    (flag,) = flags_of({"data.train_subjects": [1, 3, 5]})
    assert flag == "--data.train-subjects=1,3,5"
    config = resolve(Skeleton, flags={"data.train_subjects": flag.partition("=")[2]}).config
    assert config.data.train_subjects == (1, 3, 5)


class World(Config):
    """A recipe that has no dataset."""

    speed: float = setting(1.0, "speed", aliases=("pace",))


def test_a_recipe_without_a_dataset_has_no_fields_of_one(tmp_path: Path) -> None:
    loading = {"num_workers", "pin_memory", "persistent_workers"}
    assert loading | {"epochs", "batch_size", "learning_rate", "data_root", "mixed_precision"} == set(
        resolve(SupervisedConfig).values
    ) - set(resolve(Config).values)
    with messages.raises(ConfigError, "config/recipe-has-no-value", value="num_workers"):
        resolve(World, flags={"num_workers": "2"})
    train = write(tmp_path / "t.yaml", "num_workers: 2\n")
    with messages.raises(ConfigError, "config/has-an-unknown-key-2", path="t.yaml:1", key="num_workers"):
        resolve(World, train_file=train)


def test_an_environment_file_serves_recipes_of_every_kind(tmp_path: Path) -> None:
    """It is about a machine: what it says of data loading is nothing to a recipe that loads none. A wrong key is
    refused all the same."""
    machine = write(
        tmp_path / "e.yaml",
        "environment: {platform: x}\ntraining_overrides: {num_workers: 4, max_epochs: 3, data_root: /x, pace: 2}\n",
    )
    assert resolve(World, environment_file=machine).config == World(speed=2.0)
    assert (
        resolve(SupervisedConfig, environment_file=write(tmp_path / "s.yaml", "num_workers: 4\n")).config.num_workers
        == 4
    )
    machine.write_text("training_overrides: {num_worker: 4}\n")
    with messages.raises(ConfigError, "config/unknown-key", key="num_worker"):
        resolve(World, environment_file=machine)


def test_a_run_of_before_that_had_such_fields_is_continued() -> None:
    stored = resolve(World, flags={"speed": "3"}).record()
    stored["values"] |= {"num_workers": 0, "data_root": None}
    stored["origins"] |= {"num_workers": "default", "data_root": "default"}
    again = resolve(World, stored=stored)
    assert (again.config.speed, again.changes) == (3.0, ())
    assert "num_workers" not in again.record()["values"]
