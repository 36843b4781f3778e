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

_SAVES = "--save-every=5 steps"

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


_TWIN = """# Twin: the training, without interruption. Each training has a process of its own, as what a kernel has imported is state
import os

def training(name):
    words = [sys.executable, "-m", "outlast", "train", RECIPE, *FLAGS, SAVES, f"--experiment-name={NAME}-{name}"]
    return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(code), *sys.path])})

assert training("twin").wait() == 0"""  # noqa: E501 - code of a cell

_KILL = """# Kill: the same training, killed (kill -9) whenever it has saved, KILLS times; then to its end
import time

def saved():
    return set(Path("runs").glob(f"{NAME}-killed*/checkpoints/step-*/MANIFEST.json"))

kills = 0
while kills < KILLS:
    before, process = saved(), training("killed")
    while process.poll() is None and saved() <= before:
        time.sleep(0.01)
    assert process.poll() is None, f"it ended with {process.returncode} after {kills} kills: give it more steps, or SAVES fewer"
    process.kill()
    process.wait()
    kills += 1
assert training("killed").wait() == 0"""  # noqa: E501 - code of a cell

_COMPARE = """# Compare: the last checkpoint and the journal of both, byte for byte
for run in RUNS:
    ends = []
    for name in ("twin", "killed"):
        place = run.with_name(run.name.replace(NAME, f"{NAME}-{name}", 1))
        files = [path for path in max(place.glob("checkpoints/step-*")).iterdir() if path.name != "MANIFEST.json"]
        ends.append({path.name: path.read_bytes() for path in [*files, place / "journal.jsonl"]})
    different = sorted(name for name in ends[0].keys() | ends[1].keys() if ends[0].get(name) != ends[1].get(name))
    assert not different, f"{run.name} differs in {different}"
    print(run.name, "is the same in", len(ends[0]), "files after", kills, "kills")"""

_VERIFY = """# Verify: every file again by its hash; then a copy with one flipped bit, which has to be found
import shutil

for run in RUNS:
    twin = run.with_name(run.name.replace(NAME, f"{NAME}-twin", 1))
    assert outlast(["verify", str(twin)]) == 0
    broken = shutil.copytree(twin, Path(tempfile.mkdtemp()) / twin.name)
    file = max(max(broken.glob("checkpoints/step-*")).glob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert outlast(["verify", str(broken)]) == 1
print("All tests pass.")"""


def notebook(prepared: PreparedRun, *, test: bool = False) -> dict[str, Any]:
    """The notebook of a recipe, as nbformat 4.5 has it; `test`: one that kills a training and compares what it becomes.

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
    packed = bundle.make(bundle.files_of(prepared), environments=[name for name in NAMES if name != "local"])
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
    checks = (
        f"FLAGS = {json.dumps(bundle.flags_of(request['values']))}\n"
        f"SAVES, KILLS = {_SAVES!r}, 2\n"
        "NAME, RUNS = NAME + '-test', [run.with_name(run.name.replace(NAME, NAME + '-test', 1)) for run in RUNS]"
    )
    words = (
        f"# {prepared.recipe.name}\n\n{prepared.recipe.summary}\n\nMade by `outlast notebook`. Run all cells. The "
        "training stops by itself before the "
        "session does, and goes on where it was: in the same session by running the train cell again, in a new one "
        "when this notebook's last output is "
        "attached to it (Add Input → Your Work)."
    )
    tests = [
        _cell("markdown", f"# {prepared.recipe.name}: checkpoints and resume\n\nRun all cells.", "words"),
        _cell("code", head + _SETUP, "setup", hidden=True),
        _cell("code", f"# What is trained\n{checks}", "values"),
        _cell("code", _TWIN, "twin"),
        _cell("code", _KILL, "kill"),
        _cell("code", _COMPARE, "compare"),
        _cell("code", _VERIFY, "verify"),
    ]
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
    return {"cells": tests if test else cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def write_notebook(prepared: PreparedRun, target: Path, *, test: bool = False) -> None:
    """Write the notebook atomically; `test` as of `notebook`."""
    durable.make_folder(target.parent)
    durable.write_file(target, [json.dumps(notebook(prepared, test=test), indent=1).encode()])


def _cell(kind: str, source: str, name: str, *, hidden: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": source.splitlines(keepends=True)}
    if hidden:
        made["metadata"] = {"jupyter": {"source_hidden": True}, "_kg_hide-input": True}
    if kind == "code":
        made |= {"execution_count": None, "outputs": []}
    return made
