"""OpenMP's variables, as a training from the command line has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import outlast
from outlast.recipe.threads import settle

SOURCE = str(Path(outlast.__file__).parents[1])


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def quota(root: Path, text: str) -> Path:
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text(text)
    return root


def test_a_container_with_two_of_eight_cores_gets_two_threads(eight: None, tmp_path: Path) -> None:
    found: dict[str, str] = {}
    settle(found, quota(tmp_path, "200000 100000"))
    assert found == {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "2000"}


def test_all_cores_need_no_number(eight: None, tmp_path: Path) -> None:
    found: dict[str, str] = {}
    settle(found, quota(tmp_path, "max 100000"))
    assert found == {"GOMP_SPINCOUNT": "2000"}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
@pytest.mark.parametrize("wait", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_has_set_stays(eight: None, tmp_path: Path, name: str, wait: str) -> None:
    given = {name: "5", wait: "active"}
    found = dict(given)
    settle(found, quota(tmp_path, "200000 100000"))
    assert found == given


def test_a_recipe_finds_them_set_before_its_framework_is_imported(tmp_path: Path) -> None:
    """The library reads them when it is loaded; it says so itself."""
    (tmp_path / "own.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps({'spins': os.environ.get('GOMP_SPINCOUNT'), 'torch': 'torch' in sys.modules}))\n"
        "import torch\n"
        "import outlast\n"
        "recipe = outlast.Recipe(name='own', summary='s', Config=outlast.Config, train=lambda run, config: None)\n"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "GOMP", "KMP"))}
    own |= {"OMP_DISPLAY_ENV": "verbose", "PYTHONPATH": SOURCE}
    done = subprocess.run(
        [sys.executable, "-m", "outlast", "config", str(tmp_path / "own.py")],
        capture_output=True, text=True, cwd=tmp_path, env=own, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[0]) == {"spins": "2000", "torch": False}
    assert "GOMP_SPINCOUNT = '2000'" in done.stderr
