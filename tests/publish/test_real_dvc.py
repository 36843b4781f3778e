"""A fresh clone and the real DVC get what was published. DVC is in an environment of its own, not in that of outlast.

`OUTLAST_DVC` names its command; without it, DVC is installed into a temporary environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from outlast.publish import dvc
from outlast.publish.plan import hashed
from outlast.remote.folder import FolderRemote
from tests.publish import making

VERSION = "3.67.1"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("OUTLAST_DVC"):
        return Path(given)
    place = tmp_path_factory.mktemp("dvc")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run([place / "bin/pip", "install", "--quiet", f"dvc=={VERSION}"], check=True)
    return place / "bin/dvc"


def pull(command: Path, tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in making.ENVIRONMENT.items() if not name.startswith("PYTHON")}
    environment |= {"HOME": str(tree.parent), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run([command, *words], cwd=tree, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_fresh_clone_pulls_what_was_published(tmp_path: Path, command: Path) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    (tree / ".gitignore").write_text("artifacts/\n*.safetensors\n")
    making.git(tree, "add", ".")
    making.git(tree, "commit", "--quiet", "-m", "ignore")
    making.git(tree, "push", "--quiet", "origin", "main")
    store = FolderRemote(tmp_path / "store")
    making.by_git(tmp_path, store, str(url), tree)
    making.git(tmp_path, "clone", "--quiet", url, tmp_path / "fresh")
    fresh = tmp_path / "fresh"
    making.git(fresh, "checkout", "--quiet", making.NAME)
    assert pull(command, fresh, "--version").stdout.strip() == VERSION
    done = pull(command, fresh, "pull")
    assert done.returncode == 0, done.stderr
    for path, data in making.FILES.items():
        assert (fresh / "artifacts/detection/exp001" / path).read_bytes() == data
    assert making.git(fresh, "status", "--porcelain") == ""
    assert "up to date" in pull(command, fresh, "status").stdout
    assert "in sync" in pull(command, fresh, "status", "-c").stdout
    again = pull(command, fresh, "push")
    assert (again.returncode, "up to date" in again.stdout + again.stderr) == (0, True)


@pytest.mark.slow
def test_a_damaged_object_is_noticed_by_pull(tmp_path: Path, command: Path) -> None:
    """`verify = true` is what makes DVC compare; without it the wrong file is pulled with exit code 0."""
    url = making.server(tmp_path / "server.git")
    making.by_git(tmp_path, FolderRemote(tmp_path / "store"), str(url))
    making.git(tmp_path, "clone", "--quiet", "--branch", making.NAME, url, tmp_path / "fresh")
    (file,) = (each for each in making.plan(tmp_path).files if each.path.endswith("last.safetensors"))
    place = tmp_path / "store" / dvc.object_name(file.md5)
    place.chmod(0o644)
    place.write_bytes(b"x" * 1000)
    done = pull(command, tmp_path / "fresh", "pull")
    assert done.returncode != 0
    assert not (tmp_path / "fresh/artifacts/detection/exp001/train/weights/last.safetensors").exists()


@pytest.mark.slow
def test_a_folder_is_what_dvc_itself_makes_of_it(tmp_path: Path, command: Path) -> None:
    tree = tmp_path / "tree"
    files = {"b/x y.png": b"1", "a.png": b"22", "ü.png": b"333"}
    for name, data in files.items():
        (tree / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "pictures" / name).write_bytes(data)
    making.git(tree, "init", "--quiet")
    assert pull(command, tree, "init", "--quiet").returncode == 0
    done = pull(command, tree, "add", "pictures")
    assert done.returncode == 0, done.stderr
    planned = {name: hashed(f"pictures/{name}", tree / "pictures" / name) for name in files}
    listing = dvc.listing_of(planned)
    pointer = dvc.folder_pointer("pictures", listing, planned.values(), "outlast").decode()
    theirs = (tree / "pictures.dvc").read_text()
    assert pointer.replace("  remote: outlast\n", "") == theirs
    (name,) = dvc.objects_in(theirs.encode(), "pictures.dvc")
    cached = tree / ".dvc/cache" / name
    assert cached.read_bytes() == listing
    assert sorted(dvc.objects_of(listing, "x")) == sorted(dvc.object_name(file.md5) for file in planned.values())
