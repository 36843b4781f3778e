"""What travels: outlast as an installed package, the user's recipe, and the preferences of the environment that it goes
to."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from outlast.launch import bundle
from outlast.launch.kaggle import script
from outlast.launch.provider import Request, Terms
from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry


def test_preferences_of_the_environment_travel_and_are_found_wherever_the_session_works(tmp_path: Path) -> None:
    preferences = tmp_path / "configs/environment/kaggle.yaml"
    preferences.parent.mkdir(parents=True)
    preferences.write_text("training_overrides:\n  epochs: 3\n")
    (preferences.parent / "local.yaml").write_text("training_overrides:\n  epochs: 4\n")
    prepared = prepare.prepare(registry.find("digits"), prepare.Request())
    packed = bundle.make(bundle.files_of(prepared), environments=["kaggle"])
    assert bundle.make(bundle.files_of(prepared), environments=["kaggle"]).hash == packed.hash
    assert [name for name in packed.files if name.endswith(".yaml") and "environment" in name] == [
        "outlast/configs/environment/kaggle.yaml"
    ]
    with zipfile.ZipFile(io.BytesIO(packed.data)) as archive:
        archive.extractall(tmp_path / "there/code")
    code = "from outlast.config import find_file; print(find_file('environment/kaggle.yaml'))"
    variables = {**os.environ, "PYTHONPATH": str(tmp_path / "there/code")}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path / "there", env=variables, capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip())
    assert found == tmp_path / "there/code/outlast/configs/environment/kaggle.yaml"
    assert found.read_bytes() == preferences.read_bytes()


def recipes_in(packed: bundle.Bundle) -> set[str]:
    folders = {name.split("/")[1] for name in packed.files if name.startswith("outlast_recipes/")}
    return folders - {"__init__.py", "py.typed", "common"}


def test_only_the_recipe_that_is_trained_travels_and_is_known_there(tmp_path: Path) -> None:
    packed = bundle.make(bundle.files_of(prepare.prepare(registry.find("sign"), prepare.Request())))
    assert recipes_in(packed) == {"sign"}
    with zipfile.ZipFile(io.BytesIO(packed.data)) as archive:
        archive.extractall(tmp_path / "code")
    about = PathDistribution(next((tmp_path / "code").glob("outlast-*.dist-info")))
    assert [point.name for point in about.entry_points if point.group == "outlast.recipes"] == ["sign"]
    assert [point.name for point in about.entry_points if point.group == "console_scripts"] == ["outlast"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import outlast", set()),
        ("from outlast_recipes.digits.recipe import recipe", {"digits"}),
        ("from outlast_recipes import sign, digits", {"sign", "digits"}),
        ("import outlast_recipes.yolo as y", {"yolo"}),
        ("design = 'outlast_recipes'", set()),
    ],
)
def test_recipes_that_the_users_code_names_travel(tmp_path: Path, line: str, found: set[str]) -> None:
    (tmp_path / "own.py").write_text(line + "\n")
    assert recipes_in(bundle.make(bundle.Files({"recipe/own.py": tmp_path / "own.py"}))) == found


@pytest.mark.parametrize("name", registry.names())
def test_every_recipe_fits_into_what_kaggle_takes_with_a_push(name: str) -> None:
    work = RecipeWork(prepare.prepare(registry.find(name), prepare.Request()))
    packed = bundle.make(work.files(), environments=["kaggle"])
    pushed = script.script(Request("outlast-x-001", "x", packed, work.asked(budget=60.0), Terms()), "cpu")
    assert not pushed.dataset
    assert len(pushed.text) < 0.9 * script.INLINE, "the next lines of code would send it into a dataset"
