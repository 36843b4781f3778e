"""Writes a notebook for the browser; its first cell contains everything that a session needs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from outlast.environment import NAMES
from outlast.errors import UsageError
from outlast.folder import durable
from outlast.launch import bundle
from outlast.recipe.prepare import PreparedRun

_SETUP = """# Setup: unpacks outlast and the recipe that came with this notebook; installs only what is missing.
import base64, importlib.util, io, lzma, subprocess, sys, tempfile, zipfile
from pathlib import Path

NEEDED = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "PyYAML", "rich": "rich", "xxhash": "xxhash", "matplotlib": "matplotlib"}
missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
code = Path(tempfile.mkdtemp(prefix=f"outlast-{NAME}-"))  # of this session alone: what lies in a folder of a known name would be imported
with zipfile.ZipFile(io.BytesIO(lzma.decompress(base64.b85decode(BUNDLE)))) as packed:
    packed.extractall(code)
sys.path.insert(0, str(code))
importlib.invalidate_caches()
from outlast.cli import main as outlast
RECIPE = str(code / SOURCE) if SOURCE.startswith("recipe") else SOURCE
RUNS = [Path("runs") / run for run in NAMES]
print("outlast is ready:", NAME)"""  # noqa: E501 - code of a cell

_CURVES = """# Curves: every metric that was logged
from IPython.display import Image, display
from outlast.report import draw_curves

for run in RUNS:
    if (run / "run.json").exists():
        display(Image(filename=draw_curves(run, run / "artifacts/training_curves.png")))"""

_SAMPLES = """# Samples: what the recipe has left beside its weights
for path in sorted(path for run in RUNS for path in (run / "artifacts").glob("**/*")):
    if path.suffix in (".png", ".jpg") and path.name != "training_curves.png":
        print(path.name)
        display(Image(filename=str(path)))
    elif path.suffix in (".txt", ".json", ".md") and not path.name.endswith(".manifest.json"):
        print(path.name, path.read_text()[:2000], sep="\\n")"""


def notebook(prepared: PreparedRun) -> dict[str, Any]:
    """The notebook of a recipe, as nbformat 4.5 has it.

    A cell contains the given values as flags, so that they can be changed.

    Raises:
        UsageError: the recipe's folder is too large to be code, or --resume was given.
    """
    if prepared.fork_of:
        raise UsageError(
            "A notebook cannot contain a checkpoint. Attach the folder of the old run as an input, and give --resume "
            "in the train cell."
        )
    request = bundle.request_of(prepared, budget=0)
    packed = bundle.make(prepared, environments=[name for name in NAMES if name != "local"])
    name, recipe = prepared.chain or prepared.run_id, prepared.recipe
    stages = [recipe.stage] if recipe.stage else recipe.links
    names = [f"{name}.{stage.name}" for stage in stages] or [name]
    only = [f"--stage={recipe.stage.name}"] if recipe.stage and recipe.stage.instead is None else []
    flags = [f"--experiment-name={name}", "--checkpoint-dir=runs", *only, *bundle.flags_of(request["values"])]
    head = (
        f"BUNDLE = {base64.b85encode(packed.compressed).decode()!r}\n"
        f"SOURCE, NAME, NAMES = {request['recipe']!r}, {name!r}, {names!r}\n"
    )
    train = (
        f"# Train: run this cell again to continue; in a new session attach this notebook's last output as an input.\n"
        f"FLAGS = {json.dumps(flags)}\n"
        'code = outlast(["train", RECIPE, *FLAGS])\n'
        'print({0: "finished", 75: "stopped cleanly with work left: run me again"}.get(code, f"ended with {code}"))'
    )
    words = (
        f"# {prepared.recipe.name}\n\n{prepared.recipe.summary}\n\nMade by `outlast notebook`. Run all cells. The "
        "training stops by itself before the "
        "session does, and goes on where it was: in the same session by running the train cell again, in a new one "
        "when this notebook's last output is "
        "attached to it (Add Input → Your Work)."
    )
    cells = [
        _cell("markdown", words, "words"),
        _cell("code", head + _SETUP, "setup", hidden=True),
        _cell("code", '# Doctor: machine, limits, data, disk\noutlast(["doctor", RECIPE])', "doctor"),
        _cell("code", train, "train"),
        _cell("code", _CURVES, "curves"),
        _cell("code", _SAMPLES, "samples"),
        _cell(
            "code",
            "# Archive: all of it as a zip to download\n"
            'for run in RUNS:\n    if (run / "run.json").exists():\n'
            '        outlast(["archive", run.name, "--recipe", RECIPE])',
            "archive",
        ),
    ]
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def write_notebook(prepared: PreparedRun, target: Path) -> None:
    """Write the notebook atomically."""
    durable.make_folder(target.parent)
    durable.write_file(target, [json.dumps(notebook(prepared), indent=1).encode()])


def _cell(kind: str, source: str, name: str, *, hidden: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": source.splitlines(keepends=True)}
    if hidden:
        made["metadata"] = {"jupyter": {"source_hidden": True}, "_kg_hide-input": True}
    if kind == "code":
        made |= {"execution_count": None, "outputs": []}
    return made
