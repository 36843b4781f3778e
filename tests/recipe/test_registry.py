"""A recipe that cannot be imported says what to install."""

from __future__ import annotations

import importlib.metadata
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

    requires = ["numpy>=1", 'jax>=0.5; extra == "dev"', 'jax>=0.5; extra == "fast"']
    point = SimpleNamespace(name="r", load=load, dist=SimpleNamespace(name="ours", requires=requires))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with messages.raises(UsageError, words):
        registry.find("r")
