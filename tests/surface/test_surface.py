"""What users see and type, frozen: exported names, help, errors' tree, README, examples, import cost.

`OUTLAST_ACCEPT=1 pytest tests/surface` rewrites the snapshots; look at the difference before committing it.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import processes
from tests.conftest import REPOSITORY

import outlast
from outlast import errors

SNAPSHOTS = Path(__file__).parent / "snapshots"


def check(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("OUTLAST_ACCEPT"):
        path.write_text(text)
    assert path.read_text() == text, f"{name} changed; OUTLAST_ACCEPT=1 accepts it"


def public() -> str:
    lines = []
    for name in outlast.__all__:
        value = getattr(outlast, name)
        if inspect.isclass(value):
            members = [
                f"    {attribute}{inspect.signature(member) if inspect.isfunction(member) else ''}"
                for attribute, member in sorted(vars(value).items())
                if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
            ]
            lines += [f"{name}({', '.join(base.__name__ for base in value.__bases__)})", *members]
        elif callable(value):
            lines.append(f"{name}{inspect.signature(value)}")
        else:
            lines.append(name)
    return "\n".join(lines) + "\n"


def test_exported_names() -> None:
    check("public.txt", public())


def test_every_public_name_is_documented() -> None:
    for name in outlast.__all__:
        value = getattr(outlast, name)
        if not name.startswith("__"):
            assert (value.__doc__ or "").strip(), name


def test_help() -> None:
    from outlast.cli import usage

    check("help.txt", usage())


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="argparse lays its help out differently in every Python version"
)
def test_train_help(outlast_cli) -> None:
    check("train-digits-help.txt", outlast_cli("train", "digits", "--help").stdout)


def test_every_verb_has_help(outlast_cli) -> None:
    from outlast.cli import VERBS

    for verb in VERBS:
        done = outlast_cli(verb, "--help")
        assert done.returncode == 0, verb
        assert done.stdout.startswith("usage: outlast"), verb


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    drawn = re.findall(r"(?:[├└]── |^    )(\w+) +exit (\d+)", errors.__doc__ or "", re.MULTILINE)
    real = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.OutlastError)
    }
    assert {name: int(code) for name, code in drawn} == real


@pytest.mark.parametrize(
    "module",
    ["outlast", "outlast.cli", "outlast.run.open", "outlast.report", "outlast.environment", "outlast.recipe.recipe"],
)
def test_importing_the_core_imports_no_framework(module: str) -> None:
    heavy = ("torch", "jax", "sklearn", "wandb", "kaggle", "ultralytics")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_needs_nothing_but_itself() -> None:
    code = (
        "import sys; from outlast.cli import main; main(['--help']); "
        "print([n for n in ('argparse','pydantic','rich','yaml','numpy') if n in sys.modules], file=sys.stderr)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr == "[]\n"


def test_verbs_that_only_read_need_neither_numpy_nor_what_reads_configs() -> None:
    verbs = ("cancel", "checkpoints", "push", "runs", "status", "verify")
    code = (
        f"import sys, importlib; [importlib.import_module('outlast.cli.' + verb) for verb in {verbs!r}]; "
        "print({'pydantic', 'yaml', 'numpy'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_training_imports_neither_pushes_nor_reports_nor_masked_arrays(tmp_path: Path) -> None:
    code = (
        "import sys; from outlast.cli import main; code = main(sys.argv[1:]); wanted = ('outlast.remote.push', "
        "'outlast.remote.fork', 'outlast.report.archive', 'outlast.report.curves', 'outlast.recipe.stages', "
        "'outlast.recipe.inputs', 'outlast.tracking.sinks.tracker', 'numpy.ma'); "
        "print(code, [name for name in wanted if name in sys.modules])"
    )
    (tmp_path / "recipe.py").write_text(
        "import numpy as np, outlast\n"
        "def train(run, config):\n"
        "    run.track(noise=np.random.default_rng(0))\n"
        "    for step in run.steps(2): pass\n"
        "recipe = outlast.Recipe(name='small', summary='nothing', Config=outlast.Config, train=train)\n"
    )
    command = [sys.executable, "-c", code, "train", str(tmp_path), "--save-every", "1 step"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "0 []", found


def test_help_imports_less_than_twice_what_argparse_does() -> None:
    """Its time is what it imports; benchmarks/overhead.py measures that."""

    def modules(code: str) -> int:
        words = f"import sys; before = len(sys.modules); {code}; print(len(sys.modules) - before, file=sys.stderr)"
        return int(subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stderr)

    assert modules("from outlast.cli import main; main(['--help'])") < 2 * modules("import argparse")


def test_help_is_as_quick_as_importing_argparse() -> None:
    """The issue's bound is 1.5 times; asserted with room for a busy machine, of which the quickest of interleaved
    rounds says least."""
    commands = ([str(Path(sys.executable).with_name("outlast")), "--help"], [sys.executable, "-c", "import argparse"])
    times: list[list[float]] = [[], []]
    for number in range(18):
        begun = time.perf_counter()
        subprocess.run(commands[number % 2], check=True, capture_output=True)
        times[number % 2].append(time.perf_counter() - begun)
    assert min(times[0]) < 2.5 * min(times[1])


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def test_the_readmes_ten_lines_run(tmp_path: Path) -> None:
    code = next(block for block in blocks(REPOSITORY / "README.md", "python") if "open_run" in block)
    done = processes.run([sys.executable, "-c", code], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs").is_dir()
    assert "finished" in done.stderr


def test_markdown_has_at_most_100_columns() -> None:
    """Tables, pictures and code excepted."""
    wide = []
    command = ["git", "ls-files", "*.md"]
    tracked = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    for path in (REPOSITORY / name for name in tracked):
        code = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code ^= line.startswith("```")
            if len(line) > 100 and not code and not line.startswith(("|", "    ", "![")):
                wide.append(f"{path.relative_to(REPOSITORY)}:{number}")
    assert wide == []


def test_the_readmes_commands_exist(outlast_cli, tmp_path: Path) -> None:
    from outlast.cli import VERBS
    from outlast.recipe.registry import find, loaded

    text = "\n".join(blocks(REPOSITORY / "README.md", "sh"))
    assert "make demo" in text
    assert "make test" in text
    for verb, name in re.findall(r"^outlast (\w+) ?(\w*)", text, re.MULTILINE):
        assert verb in VERBS or verb in {command.name for command in loaded(find(name)).commands}


@pytest.mark.parametrize("name", ["torch_10_lines", "jax_10_lines"])
def test_examples_run_stop_and_continue(name: str, tmp_path: Path) -> None:
    script = REPOSITORY / "examples" / f"{name}.py"
    lines = [line for line in script.read_text().splitlines() if line.strip()]
    body = lines[next(i for i, line in enumerate(lines) if line.startswith("with outlast")) :]
    assert len(body) <= 10
    twin, cut = tmp_path / "twin", tmp_path / "cut"
    for folder in (twin, cut):
        folder.mkdir()
    template = "jax" if "jax" in script.name else "torch"
    done = processes.run([sys.executable, str(script)], cwd=twin, template=template)
    assert done.returncode == 0, done.stderr
    shorter = script.read_text().replace("total_steps=600", 'total_steps=600, save="50 steps"')
    process = processes.start([sys.executable, "-c", shorter], cwd=cut, template=template)
    deadline = time.monotonic() + 60
    while not list(cut.glob("runs/*/checkpoints/*/MANIFEST.json")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    done = processes.run([sys.executable, "-c", shorter], cwd=cut, template=template)
    assert done.returncode == 0, done.stderr
    one, two = (folder / "runs" / name / "journal.jsonl" for folder in (twin, cut))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.long
def test_the_torchrun_example_survives_the_death_of_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "examples/torchrun_ddp.py").read_text()
    twin, cut = tmp_path / "twin", tmp_path / "cut"
    for folder in (twin, cut):
        folder.mkdir()
        (folder / "train.py").write_text(
            text.replace('open_run("torchrun_ddp")', 'open_run("torchrun_ddp", save="20 steps")').replace(
                "epochs=20", "epochs=3"
            )
        )
    command = [
        str(Path(sys.executable).with_name("torchrun")),
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "--standalone",
        "deadly.py",
    ]
    quiet = {"capture_output": True, "text": True, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    monkeypatch.chdir(twin)
    for rank in processes.start_ranks([sys.executable, "train.py"], 2):
        _, told = rank.communicate(120)
        assert rank.returncode == 0, told
    deadly = (
        (cut / "train.py")
        .read_text()
        .replace(
            "        run.log(loss=loss)",
            "        run.log(loss=loss)\n        if run.step == 50 and rank == 1:\n            die()",
        )
    )
    # Steps are faster than a loaded machine saves; what is tested is what comes after the save.
    die = """
import os, pathlib, time
def die():
    while not pathlib.Path("runs/torchrun_ddp/checkpoints/step-00000040/MANIFEST.json").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), 9)
"""
    (cut / "deadly.py").write_text(die + deadly)
    done = subprocess.run(command, cwd=cut, **quiet)
    assert done.returncode == 1
    assert "saved step 40" in done.stderr
    monkeypatch.chdir(cut)
    ranks = processes.start_ranks([sys.executable, "train.py"], 2)
    told = [rank.communicate(120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], told
    assert "continues after step 40 of 87" in told[0]
    one, two = (folder / "runs/torchrun_ddp/journal.jsonl" for folder in (twin, cut))
    assert one.read_bytes() == two.read_bytes()


def test_a_script_without_a_config_does_not_load_what_reads_configs() -> None:
    code = (
        "import sys, outlast; outlast.open_run; "
        "print({'pydantic', 'yaml', 'rich', 'torch', 'jax'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_starter_is_short() -> None:
    folder = REPOSITORY / "src/outlast_recipes/digits"
    lines = [line for name in ("recipe", "training") for line in (folder / f"{name}.py").read_text().splitlines()]
    assert len(lines) < 150


def test_no_path_of_a_machine_and_no_host_of_a_registry() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    home = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w")
    registry = re.compile("|".join(("files.python" + "hosted", "py" + "pi.org", "registry.npm" + "js")))
    for name in tracked:
        path = REPOSITORY / name
        if (
            path.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".json", ""}
            and path.is_file()
            and name != "LICENSE"
        ):
            text = path.read_text()
            assert not registry.search(text), name
            assert not home.search(text.replace("/home/pathi", "").replace("{tmp}/home", "")), name


def test_nothing_in_the_package_uses_a_shell_or_pickle() -> None:
    for path in (REPOSITORY / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "cloudpickle", "dill", "joblib", "shelve"} & set(names), path
            if isinstance(node, ast.keyword) and node.arg == "shell":
                pytest.fail(f"{path} passes shell=")
