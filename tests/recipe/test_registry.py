"""A recipe that cannot be imported says what to install."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tests import messages

from outlast.errors import UsageError
from outlast.recipe import registry


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("jax", messages.says("recipe/needs-jax-install-its-extra", install="ours[fast]")),
        ("cudf", messages.says("recipe/needs-cudf-install")),
    ],
)
def test_what_a_recipe_lacks_is_named_with_the_extra_that_brings_it(monkeypatch, package: str, words: str) -> None:
    def load() -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    requires = ["numpy>=1", *(f'{each}>=0.5; extra == "big"' for each in ("jax", "more"))]
    requires += ['jax>=0.5; extra == "dev"', 'jax>=0.5; extra == "fast"']
    point = SimpleNamespace(name="r", load=load, dist=SimpleNamespace(name="ours", requires=requires))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with messages.raises(UsageError, words):
        registry.find("r")


def test_the_code_of_a_recipe_is_imported_when_it_is_used(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/recipe.py").write_text(
        "import outlast\nrecipe = outlast.Recipe(name='mine', summary='', Config=outlast.Config, code='.work')\n"
    )
    work = tmp_path / "mine/work.py"
    work.write_text("import no_such_framework\n")
    found = registry.find("mine")
    assert found.train is None
    assert found.home.startswith("outlast_user_recipe_")
    with messages.raises(UsageError, "recipe/needs-a-module", recipe="mine", module="no_such_framework"):
        registry.loaded(found)
    work.write_text("def train(run, config:\n")
    with messages.raises(UsageError, "recipe/code-cannot-be-imported", line="mine/work.py:1"):
        registry.loaded(found)
    with messages.raises(UsageError, "recipe/code-without-package", recipe="mine", code=".work"):
        registry.loaded(replace(found, package=""))
    work.write_text("commands = ()\n")
    with messages.raises(UsageError, "recipe/code-without-train", recipe="mine", code=".work"):
        registry.loaded(registry.find("mine"))
    work.write_text("def train(run, config): ...\ndef check(config): return 'none'\nexports = {'x': None}\n")
    monkeypatch.delitem(sys.modules, f"{found.home}.work")
    used = registry.loaded(registry.find("mine"))
    assert (used.train.__name__, used.check.__name__, list(used.exports), used.code) == ("train", "check", ["x"], None)
    assert registry.loaded(used) is used


@pytest.fixture
def _collector():
    yield
    gc.enable()
    gc.unfreeze()


def imported(folder, text: str) -> registry.Recipe:
    """A recipe whose code is imported now."""
    (folder / "recipe.py").write_text(
        f"import gc, outlast\n{text}\nrecipe = outlast.Recipe(name='mine', summary='', Config=outlast.Config,"
        " code='.work')\n"
    )
    (folder / "work.py").write_text(f"import gc\n{text}\ndef train(run, config): ...\n")
    found = registry.find(str(folder))
    sys.modules.pop(f"{found.home}.work", None)
    return registry.loaded(found)


@pytest.mark.usefixtures("_collector")
def test_frameworks_are_imported_without_the_garbage_collector_which_passes_over_them(tmp_path) -> None:
    gc.unfreeze()
    found = imported(tmp_path, "was_enabled = gc.isenabled()")
    for module in (found.home, f"{found.home}.work"):
        assert sys.modules[module].was_enabled is False
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    with pytest.raises(ZeroDivisionError):
        imported(tmp_path, "1 / 0")
    assert gc.isenabled()


@pytest.mark.usefixtures("_collector")
def test_a_garbage_collector_that_is_off_stays_off(tmp_path) -> None:
    gc.unfreeze()
    gc.disable()
    imported(tmp_path, "")
    assert not gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_recipe_that_is_installed_meanwhile_is_found(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "planted" not in registry.names()
    about = tmp_path / "planted-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[outlast.recipes]\nplanted = planted:recipe\n")
    assert "planted" in registry.names()
