"""A sweep in a process that has imported little, so that its hundreds of forks are cheap: `python -m
tests.durability.publish.apart JSON` calls a function of `sweep` and prints what it returns."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import processes
from tests.conftest import REPOSITORY


def called(function: Callable[..., Any], works: list[Callable[..., Any]], folders: list[Path], **more: Any) -> Any:
    """What a function of `sweep` returns for functions of modules, folders and what JSON knows."""
    names = [[each.__module__, each.__qualname__] for each in works]
    asked = json.dumps([function.__name__, names, list(map(str, folders)), more])
    command = [sys.executable, "-m", "tests.durability.publish.apart", asked]
    done = processes.run(command, cwd=REPOSITORY, timeout=1700, template="launch")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def main(asked: str) -> None:
    from tests.durability.publish import sweep

    name, names, folders, more = json.loads(asked)
    works = [getattr(importlib.import_module(module), function) for module, function in names]
    print(json.dumps(getattr(sweep, name)(*works, *map(Path, folders), **more)))


if __name__ == "__main__":
    main(sys.argv[1])
