"""A fresh clone and the real DVC get what was published. DVC is in an environment of its own, not in that of outlast.

`OUTLAST_DVC` names its command; without it, DVC is installed into a temporary environment.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outlast.publish import dvc
from outlast.remote.folder import FolderRemote
from tests.conformance.remotes import CASES
from tests.publish import making
from tests.standins import gcs
from tests.standins.s3 import keys

VERSION = "3.67.1"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("OUTLAST_DVC"):
        return Path(given)
    place = tmp_path_factory.mktemp("dvc")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run([place / "bin/pip", "install", "--quiet", f"dvc[s3,gs,ssh]=={VERSION}"], check=True)
    return place / "bin/dvc"


def pull(command: Path, tree: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run DVC as a person does who has neither outlast nor its environment; `more`: variables."""
    environment = {name: value for name, value in making.ENVIRONMENT.items() if not name.startswith("PYTHON")}
    environment |= {"HOME": str(tree.parent), "DVC_NO_ANALYTICS": "1", **more}
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


def s3(case: Any) -> tuple[str, dict[str, str]]:
    address = f"s3://{keys.BUCKET}/{case.prefix}?endpoint={case.url}&region=us-east-1&path_style=true"
    return address, {"AWS_ACCESS_KEY_ID": keys.KEY, "AWS_SECRET_ACCESS_KEY": keys.SECRET}


def gs(case: Any) -> tuple[str, dict[str, str]]:
    """gcsfs asks, by gRPC, what kind of bucket it is; against a stand-in that takes minutes."""
    return f"gs://{gcs.BUCKET}/{case.prefix}", {
        "STORAGE_EMULATOR_HOST": case.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(case.account),
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }


def sftp(case: Any) -> tuple[str, dict[str, str]]:
    return f"sftp://standin{case.folder}/remote", {"HOME": str(case.home)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [s3, gs, sftp], ids=lambda kind: kind.__name__)
def test_a_fresh_clone_pulls_from_each_store_that_dvc_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Path, kind: Callable[[Any], tuple[str, dict[str, str]]]
) -> None:
    """Real DVC clients, over sockets; and a damaged object is noticed."""
    case = CASES[kind.__name__](tmp_path, monkeypatch)
    address, variables = kind(case)
    url = making.server(tmp_path / "server.git")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    store = case.open()
    making.by_git(tmp_path, store, str(url), address=address)
    making.git(tmp_path, "clone", "--quiet", "--branch", making.NAME, url, tmp_path / "fresh")
    fresh = tmp_path / "fresh"
    done = pull(command, fresh, "pull", **variables)
    assert done.returncode == 0, done.stderr
    for path, data in making.FILES.items():
        assert (fresh / "artifacts/detection/exp001" / path).read_bytes() == data
    assert making.git(fresh, "status", "--porcelain") == ""
    assert "in sync" in pull(command, fresh, "status", "-c", **variables).stdout
    again = pull(command, fresh, "push", **variables)
    assert (again.returncode, "up to date" in again.stdout + again.stderr) == (0, True)
    case.close()


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
def test_a_folder_of_dvc_is_read(tmp_path: Path, command: Path) -> None:
    tree = tmp_path / "tree"
    files = {"b/x y.png": b"1", "a.png": b"22", "ü.png": b"333"}
    for name, data in files.items():
        (tree / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "pictures" / name).write_bytes(data)
    making.git(tree, "init", "--quiet")
    assert pull(command, tree, "init", "--quiet").returncode == 0
    done = pull(command, tree, "add", "pictures")
    assert done.returncode == 0, done.stderr
    (name,) = dvc.objects_in((tree / "pictures.dvc").read_bytes(), "pictures.dvc")
    listing = (tree / ".dvc/cache" / name).read_bytes()
    hashes = [hashlib.md5(data, usedforsecurity=False).hexdigest() for data in files.values()]
    assert sorted(dvc.objects_of(listing, "x")) == sorted(map(dvc.object_name, hashes))
