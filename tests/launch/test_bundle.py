"""What travels: outlast as an installed package, the user's recipe, and the preferences of the environment that it goes
to."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from outlast.launch import bundle
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
