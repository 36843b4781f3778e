"""What an environment file states besides values; the original's file, key by key."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from tests import messages
from tests.config.kaggle_of_the_original import TEXT, at

from outlast import environment as environments
from outlast.config import find_file, resolve
from outlast.config.machine import PLATFORMS, is_of_machine, read_machine
from outlast.config.yamlfile import Entry
from outlast.environment import Environment, Gpu, Limits
from outlast.errors import ConfigError
from outlast.launch import providers
from outlast.launch.settings import stated_settings
from outlast.recipe.scratch import scratch
from outlast.recipe.surroundings import surroundings
from outlast_recipes.emergence.recipe import recipe as emergence
from outlast_recipes.skeleton.recipe import recipe as skeleton


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The original's file as that of Kaggle."""
    monkeypatch.chdir(tmp_path)
    return states(TEXT)


def states(text: str, name: str = "kaggle") -> Path:
    place = Path("configs/environment") / f"{name}.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def test_every_value_of_the_originals_file(file: Path) -> None:
    found = resolve(skeleton.Config, environment_file=file)
    lines = {
        "device": ("cuda", at("device")),
        "num_workers": (2, at("save_frequency") - 1),  # below training_overrides, which wins
        "pin_memory": (True, at("pin_memory")),
        "persistent_workers": (False, at("persistent")),
        "batch_size": (32, at("batch_size")),
        "save_every": ("10 epochs", at("save_frequency")),
        "validate_every": ("500 steps", at("eval_frequency")),
        "keep_best": (2, at("keep_best_k")),
        "log_every": (20, at("log_frequency")),
        "checkpoint_dir": ("/kaggle/working/checkpoints", at("checkpoint_root")),
        "log_dir": ("/kaggle/working/logs", at("log_root")),
        "results_dir": ("/kaggle/working/results", at("results_root")),
        "scratch_dir": ("/kaggle/tmp", at("temp_workspace")),
        "data_root": ("/kaggle/input/ntu-rgbd-120-skeletons", at("ntu120")),
        "distill.teacher_logits": ("/kaggle/input/ntu120-teacher-logits", at("teacher_logits")),
        "publish.to": ("kaggle://~/last-training-results", at('name: "last')),
        "publish.title": ("LAST Training Results - NTU-120", at("title")),
        "publish.when": ("finished", at("save_to_kaggle")),
    }
    given = {key for key, origin in found.origins.items() if origin.layer == "environment"}
    assert given == set(lines)
    for key, (value, line) in lines.items():
        assert (found.values[key], str(found.origins[key])) == (value, f"environment {file}:{line}"), key
    assert found.config.keep_every is None, "checkpoint_cleanup: true is retention, as it is anyway"


def test_the_originals_file_serves_recipes_without_epochs(file: Path) -> None:
    """Ten epochs of a training that has none would be no checkpoint at all."""
    found = resolve(emergence.Config, environment_file=file)
    assert (found.config.save_every, found.origins["save_every"].layer) == ("auto", "default")
    assert found.config.keep_best == 2


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("training_overrides: {checkpoint_cleanup: false}", "keep_every", 1),
        ("training_overrides: {save_frequency: 3}", "save_every", "3 epochs"),
        ("training_overrides: {eval_frequency: 7}", "validate_every", "7 steps"),
        ("hardware: {num_workers: 1}\ntraining_overrides: {num_workers: 3}", "num_workers", 3),
        ("training_overrides: {num_workers: 3}\nhardware: {num_workers: 1}", "num_workers", 3),
        ("cloud: {save_to_kaggle_datasets: no, output_dataset: {name: x, title: A long title}}", "publish.title", None),
    ],
)
def test_keys_of_originals(tmp_path: Path, monkeypatch, text: str, key: str, value: object) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(skeleton.Config, environment_file=states(text)).values[key] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("save_frequency: 0", messages.says("config/counts-epochs", value="0", name="save_every")),
        ("save_frequency: 10m", messages.says("config/counts-epochs", value="10m", name="save_every")),
        ("checkpoint_cleanup: perhaps", messages.says("config/no-switch", key="checkpoint_cleanup", value="perhaps")),
        ("save_frequency: 10\nsave_every: 5m", messages.says("config/given-twice-in-an-environment-file")),
        ("cloud: {output_dataset: {name: last-run, title: short}}", messages.says("config/no-title", value="short")),
    ],
)  # fmt: skip
def test_wrong_values_of_the_originals_keys(tmp_path: Path, monkeypatch, text: str, message) -> None:
    monkeypatch.chdir(tmp_path)
    with messages.raises(ConfigError, message):
        resolve(skeleton.Config, environment_file=states(text))


# limits -----------------------------------------------------------------------------------------------------------


def test_the_constraints_bound_what_is_measured(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = read_machine(file).bounds
    assert bounds == {"seconds": 43200.0, "disk": 20e9, "ram": 13e9, "cores": 2.0, "gpu_memory": 16e9}
    larger = Limits(50_000.0, 32 * 10**9, 8, (Gpu("a", 40 * 10**9, bf16=True), Gpu("b", 10**9, bf16=False)), 10**12)
    found = larger.within(bounds, read_machine(file).places)
    assert (found.seconds, found.ram, found.cores, found.disk) == (43200.0, 13 * 10**9, 2, 20 * 10**9)
    assert [gpu.memory for gpu in found.gpus] == [16 * 10**9, 10**9]
    assert set(found.places) == set(bounds)
    assert found.places["ram"] == f"{file}:{at('ram_gb')}"
    assert found.measured["cores"] == 8
    smaller = Limits(100.0, 10**9, 1, (), 10**6)
    assert smaller.within(bounds, read_machine(file).places) == smaller, "a bound makes nothing larger"


def test_a_session_is_bounded_from_its_beginning() -> None:
    unbounded = Limits(None, 1, 1)
    assert unbounded.within({"seconds": 3600.0}, {"seconds": "x"}, age=600.0).seconds == 3000.0
    assert unbounded.within({"seconds": 3600.0}, {"seconds": "x"}).measured == {"seconds": None}


def test_the_surroundings_are_bounded_by_the_file_of_the_environment(file: Path) -> None:
    found, place = surroundings("kaggle")
    assert place == find_file("environment/kaggle.yaml") == file
    assert found.limits.cores <= 2
    assert found.limits.seconds is not None
    assert 43200 - found.limits.seconds < 60
    assert Path("/kaggle/input") in found.inputs
    assert "stated" in found.record()["limits"]
    assert surroundings("local")[0].limits.disk is None


def test_the_age_of_a_session_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Environment("kaggle", Limits(None, 10**9, 4), age=600.0)
    monkeypatch.setattr("outlast.recipe.surroundings.detect", lambda _: here)
    assert surroundings("auto")[0].limits.seconds == 43200 - 600


def test_workers_are_reduced_to_the_stated_cores_and_say_so(tmp_path: Path, monkeypatch) -> None:
    from outlast.recipe import prepare

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("outlast.recipe.surroundings.detect", lambda _: Environment("local", Limits(None, 10**9, 4)))
    states("constraints: {cpu_cores: 2}\nhardware: {num_workers: 3}", "local")
    found = prepare.prepare(skeleton, prepare.Request()).resolved
    assert found.config.num_workers == 2
    messages.said([str(found.origins["num_workers"])], "config/limit-of-a-file", cores=2, asked=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu_cores: 0", messages.says("config/no-bound-of-cores", value="0")),
        ("cpu_cores: 1.5", messages.says("config/no-bound-of-cores", value="1.5")),
        ("ram_gb: much", messages.says("config/no-bound", key="constraints.ram_gb", value="much")),
        ("ram_gb: -1", messages.says("config/no-bound", key="constraints.ram_gb", value="-1")),
        ("ram_gb: .inf", messages.says("config/no-bound", key="constraints.ram_gb", value=".inf")),
        ("ram_gb: 1e999", messages.says("config/no-bound", key="constraints.ram_gb", value="1e999")),
        ("max_hours: 12", messages.says("config/unknown-bound", key="constraints.max_hours")),
        ("ram_gb: 1\nconstraints: {ram_gb: 2}", messages.says("config/bound-given-twice", key="constraints.ram_gb")),
    ],
)
def test_bounds_that_are_none(tmp_path: Path, monkeypatch, text: str, message) -> None:
    monkeypatch.chdir(tmp_path)
    with messages.raises(ConfigError, message):
        read_machine(states(f"environment:\n  constraints:\n    {text}\n"))


def test_stated_memory_leaves_no_room_for_a_copy(tmp_path: Path) -> None:
    import torch
    from tests.counting import attempts
    from torch import nn

    import outlast

    limits = Limits(None, 8 * 10**9, 2).within({"ram": 10**6}, {"ram": "here:1"})
    network = nn.Linear(200, 200)
    here = Environment("local", limits)
    with outlast.open_run("r", total_steps=1, root=tmp_path, progress="none", environment=here) as run:
        outlast.seed_everything(1)
        run.track(model=network)
        for _ in run.steps():
            network(torch.zeros(1, 200))
    messages.said(attempts(tmp_path)[0]["told"][0], "checkpoint/no-room-within-the-stated-memory")


def test_torch_takes_no_more_of_a_gpu_than_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU was at hand: what torch was told is recorded."""
    import torch

    import outlast

    told: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("", (), {"total_memory": 40 * 10**9}))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: told.append((share, device))
    )
    gpus = (Gpu("a", 40 * 10**9, bf16=True),) * 2
    for limits in (
        Limits(None, 1, 1, gpus),
        Limits(None, 1, 1, gpus).within({"gpu_memory": 16e9}, {"gpu_memory": "f:1"}),
    ):
        with outlast.open_run(
            "r", total_steps=1, root=tmp_path, progress="none", environment=Environment("x", limits)
        ) as run:
            run.track(model=torch.nn.Linear(1, 1))
            list(run.steps())
    assert told == [(0.4, 0), (0.4, 1)]


# settings of launches ---------------------------------------------------------------------------------------------


def test_a_section_may_be_of_every_environment() -> None:
    assert set(PLATFORMS) == set(environments.NAMES) | set(providers.NAMES)
    assert is_of_machine(Entry("kaggle.internet", "true", 1))
    assert not is_of_machine(Entry("kaggle_datasets.x", "/x", 1))


def test_settings_of_launches_on_kaggle(file: Path) -> None:
    found = stated_settings("kaggle", file)
    assert found.options == {"accelerator": "t4x2", "internet": True}
    assert found.places["accelerator"] == f"{file}:{at('accelerator')}"
    messages.said(found.remarks, "launch/kernel-type-notebook")
    assert stated_settings("local", file).options == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kaggle: {acelerator: gpu}", messages.says("launch/unknown-setting-in-a-file", key="acelerator")),
        ("kaggle: {accelerator: p100}", messages.says("launch/wrong-setting-in-a-file", value="p100")),
        ("kaggle: {kernel_type: shell}", messages.says("launch/wrong-kernel-type", value="shell")),
    ],
)
def test_wrong_settings_of_launches(tmp_path: Path, monkeypatch, text: str, message) -> None:
    monkeypatch.chdir(tmp_path)
    with messages.raises(ConfigError, message):
        stated_settings("kaggle", states(text))


def test_sections_without_keys_mean_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = states("constraints:\nkaggle: {}\n")
    assert not read_machine(file).launch
    resolve(skeleton.Config, environment_file=file)
    with pytest.raises(ConfigError, match="unknown key 'constraints'"):
        resolve(skeleton.Config, environment_file=states("constraints: 5\n"))


# the scratch folder -----------------------------------------------------------------------------------------------


def test_temporary_files_go_where_the_config_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    before = tempfile.gettempdir()
    with scratch(tmp_path / "a/b"):
        assert Path(tempfile.mkdtemp()).parent == tmp_path / "a/b"
        assert os.environ["TMPDIR"] == str(tmp_path / "a/b")
    assert tempfile.gettempdir() == before
    assert "TMPDIR" not in os.environ
    (tmp_path / "file").write_text("")
    with messages.raises(ConfigError, "config/scratch-folder", folder=tmp_path / "file"), scratch(tmp_path / "file"):
        pass
