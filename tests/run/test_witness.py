"""Where `outlast prove` looks for variables that a run does not track."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from pathlib import Path

from outlast.run import witness


def test_the_script_is_found_behind_the_framework_that_calls_outlast(tmp_path: Path) -> None:
    place = tmp_path / "site-packages" / "framework.py"
    place.parent.mkdir()
    place.write_text("def fit(callback):\n    inner = 1\n    return callback()\n")
    spec = importlib.util.spec_from_file_location("framework", place)
    assert spec is not None
    framework = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(framework)
    draws = object()
    found = framework.fit(contextlib.ExitStack().callback(witness._frame))
    assert found is not None
    assert found.f_locals["draws"] is draws
    assert "inner" not in found.f_locals


class Hook:
    def __init__(self) -> None:
        self.count, self.hooks = 1, [self]


def test_what_has_two_names_is_described_once() -> None:
    hook = Hook()
    found = dict(witness._described("hooks", [hook, hook, Hook()], set(), deeper=3))
    assert [*found] == ["hooks[0].count", "hooks[2].count"]


class Holds:
    def __init__(self, inner: object) -> None:
        self.inner = inner


def test_what_a_library_counts_inside_is_its_own() -> None:
    """Of a library's object that is a variable, the attributes; of one inside the user's, nothing."""
    given = argparse.Namespace(count=1)

    def names(value: object) -> list[str]:
        return [*dict(witness._described("x", value, set(), deeper=witness._DEEPEST))]

    assert names(given) == ["x.count"]
    assert names(Holds(given)) == []
    assert names(Holds(Hook())) == ["x.inner.count"]
