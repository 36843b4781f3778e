"""A machine without a framework launches the recipes that need one: only their training imports it."""

from __future__ import annotations

import re
import sys

import pytest

from tests import messages, processes

BLOCKED = """
import sys
sys.modules |= dict.fromkeys(("torch", "jax", "optax", "sklearn"))
from outlast import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["digits", "emergence", "skeleton", "yolo"])
def test_values_and_the_code_that_travels_need_no_framework(name: str) -> None:
    def run(*words: str):
        return processes.run([sys.executable, "-c", BLOCKED, *words], template="launch")

    done = run("config", name, "--seed", "3")
    assert done.returncode == 0, done.stderr
    done = run("notebook", name)  # packs outlast and the recipe, as a launch does
    assert done.returncode == 0, done.stderr
    done = run("train", name)
    assert done.returncode == 2
    messages.said(done.stderr, "recipe/framework-is-missing", recipe=name, module=re.compile(r"\w+"))
