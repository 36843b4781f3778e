"""The verbs, as a user types them: every one in a process of its own, with its exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests import messages, processes
from tests.conftest import REPOSITORY

from outlast.cli import main
from outlast.environment import Environment, Limits
from outlast.recipe import registry

SMALL = ["--data.samples", "256", "--model.width", "4", "--epochs", "2", "--log_every", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run `digits` and one that its budget cut off, `cut`."""
    folder = tmp_path_factory.mktemp("trained")
    for words in (["--save_every", "2 steps", "--log_csv", "logs/train.csv", "--log_dir", "csv"],):
        done = processes.run([sys.executable, "-m", "outlast.cli", "train", "digits", *SMALL, *words], cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "work"))


def test_train_says_what_it_does(trained: Path, outlast_cli) -> None:
    again = outlast_cli("train", "digits", *SMALL, cwd=trained)
    assert again.returncode == 0
    assert "recipe digits · environment local" in again.stdout
    assert "given: " in again.stdout
    messages.said(again.stdout, "cli/outlast-status-digits")
    messages.said(again.stderr, "cli/all-steps-are-done", run="digits", attempt=2, steps=8)


def test_runs_and_status(trained: Path, outlast_cli) -> None:
    runs = outlast_cli("runs", cwd=trained)
    assert runs.stdout.splitlines()[1].split()[:5] == ["digits", "digits", "finished", "8", "8"]
    assert json.loads(outlast_cli("runs", "--json", cwd=trained).stdout)["status"] == "finished"
    status = outlast_cli("status", "digits", cwd=trained)
    messages.said(status.stdout, "cli/finished-run-digits-recipe-digits-resume", step=8, number=8)
    assert "test_accuracy" in status.stdout
    facts = json.loads(outlast_cli("status", "runs/digits", "--json", cwd=trained).stdout)
    assert facts["step"] == facts["total_steps"] == 8
    assert facts["attempts"][0]["end"]["reason"] == "finished"


def test_csv_views(trained: Path) -> None:
    text = (trained / "logs/train.csv").read_text()
    assert text.splitlines()[0].startswith("step,epoch,loss,lr,val_accuracy,test_accuracy")
    assert text == (trained / "csv/digits.csv").read_text()
    assert len(text.splitlines()) == 1 + len((trained / "runs/digits/journal.jsonl").read_text().splitlines())


def test_checkpoints_are_listed_with_the_state_of_their_hashes(folder: Path, outlast_cli) -> None:
    listed = outlast_cli("checkpoints", "digits", cwd=folder)
    assert listed.returncode == 0
    assert listed.stdout.splitlines()[0].split()[:3] == ["step", "why", "size"]
    assert listed.stdout.count("verified") == 3
    rows = [json.loads(line) for line in outlast_cli("checkpoints", "digits", "--json", cwd=folder).stdout.splitlines()]
    assert rows[-1]["reason"] == "final"
    assert rows[-1]["bytes"] > 10_000
    place = max((folder / "runs/digits/checkpoints").glob("step-*")) / "rng.safetensors"
    good = place.read_bytes()
    try:
        place.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        bad = outlast_cli("checkpoints", "digits", cwd=folder)
        assert bad.returncode == 1
        assert "DAMAGED" in bad.stdout
        quick = outlast_cli("checkpoints", "digits", "--quick", cwd=folder)
        assert quick.returncode == 0
        assert "not hashed" in quick.stdout
    finally:
        place.write_bytes(good)


def test_verify_finds_damage_and_changes_nothing(folder: Path, outlast_cli) -> None:
    good = outlast_cli("verify", "digits", cwd=folder)
    assert good.returncode == 0
    messages.said(good.stdout, "cli/checkpoints-verify", number=3, checkpoints=3)
    victim = folder / "runs/digits/checkpoints/step-00000008/ema.safetensors"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    bad = outlast_cli("verify", "digits", cwd=folder)
    assert bad.returncode == 1
    assert "DAMAGED" in bad.stdout
    assert "ema.safetensors" in bad.stdout.replace("\n", "")
    assert victim.exists()


def test_export_is_read_by_the_formats_own_library(folder: Path, outlast_cli) -> None:
    import torch
    from safetensors.torch import load_file

    done = outlast_cli("export", "digits", "--part", "model", "-o", "out/model.safetensors", cwd=folder)
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "cli/out-model-safetensors-the-tensors", step=8)
    from outlast_recipes.digits.recipe import Model
    from outlast_recipes.digits.training import build

    model = build(Model(width=4))
    model.load_state_dict(load_file(folder / "out/model.safetensors"))
    best = outlast_cli("export", "digits", "--step", "best", cwd=folder)
    assert best.returncode == 0, best.stderr
    (written,) = folder.glob("digits-ema-step-*.safetensors")
    model.load_state_dict(load_file(written))
    assert torch.isfinite(next(model.parameters())).all()
    for words, sentence in (
        (["--step", "3"], messages.says("cli/no-checkpoint-at-the-step", step=3, steps="4, 6, 8")),
        (["--part", "modle"], messages.says("cli/no-arrays-under-it-holds-ema", under="modle")),
    ):
        refused = outlast_cli("export", "digits", *words, cwd=folder)
        assert refused.returncode == 2
        messages.said(refused.stderr, sentence)


def test_resume_remembers_the_values(folder: Path, outlast_cli) -> None:
    done = outlast_cli("resume", "digits", "--epochs", "3", "--lr", "0.001", cwd=folder)
    assert done.returncode == 0, done.stderr
    messages.said(done.stderr, "cli/epochs-flag-epochs", epochs=2, number=3)
    change = "warning: learning_rate 0.003 -> 0.001"
    messages.said(done.stderr, "config/changed-value", change=change, origin=" (flag --learning-rate)")
    assert "keeps the values" not in done.stderr  # the recipe sets the rate in every step
    messages.said(done.stderr, "run/finished", step=12)
    kept = json.loads(outlast_cli("config", "digits", "--resume", "digits", "--json", cwd=folder).stdout)
    assert kept["values"]["epochs"] == 3
    assert kept["values"]["data.samples"] == 256
    assert kept["origins"]["data.samples"].startswith("run (was: ")


def test_a_new_run_from_an_old_checkpoint(folder: Path, outlast_cli) -> None:
    """seeds/000 section 14: `--resume checkpoints/... --lr 0.0001`."""
    checkpoint = "runs/digits/checkpoints/step-00000006"
    done = outlast_cli("train", "digits", "--resume", checkpoint, "--lr", "0.0001", cwd=folder)
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "cli/run-epochs-batch-size-seed", path="runs/digits-from-6")
    messages.said(done.stderr, "cli/continues-after-step", step=6, number=8)
    status = json.loads(outlast_cli("status", "digits-from-6", "--json", cwd=folder).stdout)
    assert status["parent"] == {**status["parent"], "run": "digits", "step": 6}
    assert json.loads(outlast_cli("status", "digits", "--json", cwd=folder).stdout)["step"] == 8
    again = outlast_cli("train", "digits", "--resume", checkpoint, "--lr", "0.0001", cwd=folder)
    messages.said(again.stderr, "cli/all-steps-are-done", run="digits-from-6", attempt=2, steps=8)
    named = outlast_cli("train", "digits", "--resume", checkpoint, "--experiment_name", "warm", cwd=folder)
    assert named.returncode == 0
    assert (folder / "runs/warm/run.json").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--resume", "digitz"], messages.says("cli/impossible-no-run-or-checkpoint", name="digitz", mean="digits")),
        (
            ["--resume", "checkpoints/epoch_50.pth"],
            messages.says("cli/impossible-pickled-checkpoint", path="checkpoints/epoch_50.pth"),
        ),
        (
            ["--resume", "digits", "--experiment_name", "x"],
            messages.says("cli/impossible-resume-under-another-name", run="digits"),
        ),
        (["--epoch", "3"], messages.says("cli/impossible-unknown-flag", flag="--epoch", mean="--epochs")),
        (["--batch-size", "many"], messages.says("cli/impossible-no-whole-number", flag="--batch-size", value="many")),
        (["--data_config", "nowhere.yaml"], messages.says("cli/impossible-no-such-file", file="nowhere.yaml")),
        (["--model.width", "9"], messages.says("cli/impossible-fixed-value", key="model.width", before=4, now=9)),
        (["--device", "tpu"], messages.says("cli/impossible-no-such-device", value="tpu")),
        (["--env", "azure"], messages.says("cli/impossible-no-such-environment", value="azure")),
    ],
)
def test_impossible_requests_are_refused_in_one_sentence(
    folder: Path, outlast_cli, words: list[str], sentence: messages.Message
) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/epoch_50.pth").write_bytes(b"x")
    done = outlast_cli("train", "digits", *words, cwd=folder)
    assert done.returncode in (1, 2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    messages.said([line], sentence)
    assert "Traceback" not in done.stderr


def test_unknown_verbs_recipes_and_runs(outlast_cli, tmp_path: Path) -> None:
    for words, sentence in (
        (
            ["trian", "digits"],
            (messages.says("cli/there-is-no-verb", verb="trian", recipe="digits", mean="train")),
        ),
        (["rely", "digits"], messages.says("cli/there-is-no-verb", verb="rely", recipe="digits", mean="relay")),
        (["doctor", "--on"], messages.says("cli/doctor-flag-needs-recipe", flag="--on")),
        (["doctor", "--within=9s", "digits"], messages.says("cli/doctor-flag-needs-recipe", flag="--within")),
        (["doctor", "digits", "--session", "9m"], messages.says("cli/doctor-flag-of-on", flag="--session")),
        (
            ["doctor", "digits", "--find-batch", "--step-time", "1s"],
            messages.says("cli/doctor-flag-of-on", flag="--step-time"),
        ),
        (["doctor", "digits", "--within", "9m"], messages.says("cli/doctor-measures-nothing", flag="--within")),
        (["status"], messages.says("cli/status-of-no-run", root="runs")),
        (["trian"], messages.says("cli/there-is-no-verb-did-you", verb="trian", mean="train")),
        (["predict", "sing", "x", "f.npz"], messages.says("cli/verb-of-a-recipe-that-is-mistyped", recipe="sing")),
        (
            ["train", "digit"],
            messages.says("cli/there-is-no-recipe-the-recipes", recipe="digit", mean="digits"),
        ),
        (
            ["train", "gridworld"],
            messages.says("cli/there-is-no-recipe", recipe="gridworld"),
        ),
        (["train", "skeleton", "--dry-run"], messages.says("cli/skeleton-needs-data-root")),
        (["train"], messages.says("cli/outlast-train-needs-recipe")),
        (["status", "x"], messages.says("cli/no-runs-yet", run="x")),
        (["resume", "x"], messages.says("cli/no-runs-yet", run="x")),
        (["resume"], messages.says("cli/needs-run-name")),
    ):
        done = outlast_cli(*words, cwd=tmp_path)
        assert done.returncode == 2, words
        messages.said(done.stderr, sentence)


def test_dry_run_trains_and_writes_nothing(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli("train", "digits", "--dry_run", "--env", "kaggle", "--checkpoint-dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "cli/environment-kaggle")
    messages.said(done.stdout, "cli/warning-this-machine-is-local")
    assert "1197 train, 300 val, 300 test" in done.stdout
    messages.said(done.stdout, "cli/dry-run")
    assert not list(tmp_path.glob("out*"))


def test_debug_is_smaller_and_louder(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli(
        "train", "digits", "--debug", "--epochs", "1", "--batch_size", "8", "--model.width", "2", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "runs/digits/journal.jsonl").read_text().splitlines()
    assert sum('"loss"' in line for line in lines) == 256 // 8


def test_json_progress_is_json(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli("train", "digits", *SMALL, "--json", cwd=tmp_path)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events[0] == "started"
    assert events[-1] == "ended"
    assert done.stdout == ""


def test_a_budget_ends_with_75_and_says_how_to_continue(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli("train", "digits", "--budget", "8s", "--epochs", "4000", "--checkpoint_dir", "out", cwd=tmp_path)
    assert done.returncode == 75, done.stderr
    messages.said(done.stderr, "run/session-is-over")
    messages.said(done.stdout, "cli/go-on-with-outlast-resume-digits")
    status = json.loads(outlast_cli("status", "digits", "--checkpoint-dir", "out", "--json", cwd=tmp_path).stdout)
    assert status["status"] == "interrupted"
    assert status["step"] > 0


@pytest.mark.parametrize(
    ("number", "code", "status"), [(signal.SIGTERM, 75, "interrupted"), (signal.SIGINT, 130, "cancelled")]
)
def test_signals_save_and_exit(tmp_path: Path, outlast_cli, number: int, code: int, status: str) -> None:
    process = processes.start(
        [sys.executable, "-m", "outlast.cli", "train", "digits", "--epochs", "4000"], cwd=tmp_path
    )
    while "step" not in (line := process.stderr.readline()) or "begins" in line:
        assert process.poll() is None
    process.send_signal(number)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait() == code, rest
    ctrl_c = "interrupted (Ctrl-C again stops without saving)"
    why = ctrl_c if number == signal.SIGINT else f"{signal.Signals(number).name} received"
    messages.said(rest, "run/stop-saves", why=why)
    found = json.loads(outlast_cli("status", "digits", "--json", cwd=tmp_path).stdout)
    assert found["status"] == status
    assert found["checkpoints"]
    assert found["attempts"][-1]["end"]["step"] == found["step"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_saves_with_workers_too(tmp_path: Path, outlast_cli, number: int) -> None:
    """`timeout`, a closed terminal, systemd and Slurm signal the data loader's workers as well."""
    command = [
        sys.executable,
        "-m",
        "outlast.cli",
        "train",
        "digits",
        "--epochs",
        "4000",
        "--num_workers",
        "2",
        "--log_every",
        "1",
    ]
    process = processes.start(command, cwd=tmp_path, start_new_session=True)
    while "step" not in (line := process.stderr.readline()) or "begins" in line:
        assert process.poll() is None
    os.killpg(process.pid, number)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 75, rest
    found = json.loads(outlast_cli("status", "digits", "--json", cwd=tmp_path).stdout)
    assert found["attempts"][-1]["end"] == {
        **found["attempts"][-1]["end"],
        "reason": "preempted",
        "step": found["step"],
    }


def test_a_run_attached_read_only_is_found_by_its_name(tmp_path: Path, outlast_cli, trained: Path) -> None:
    """The next Kaggle session: the last one's output is an input now."""
    from outlast.recipe.prepare import Request, locate, prepare
    from outlast.recipe.registry import find

    attached = tmp_path / "input/notebooks/me/first"
    shutil.copytree(trained / "runs", attached / "runs")
    assert locate("digits", tmp_path / "working", [tmp_path / "input"]) == attached / "runs/digits"
    environment = Environment("kaggle", Limits(None, 2**34, 2), inputs=(tmp_path / "input",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("outlast.recipe.surroundings.detect", lambda name: environment)
        for resume in (
            "digits",
            str(attached / "runs/digits"),
            str(attached / "runs/digits/checkpoints/step-00000008"),
        ):
            prepared = prepare(
                find("digits"),
                Request(resume=resume, flags={"checkpoint_dir": str(tmp_path / "working"), "epochs": "3"}),
            )
            assert (prepared.resolved.config.checkpoint_dir, prepared.run_id, prepared.fork_of) == (
                tmp_path / "working",
                "digits",
                None,
            )
            assert prepared.resolved.config.data.samples == 256


def test_config_prints_origins(outlast_cli, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("training:\n  batch_size: 64\n  seed: 0\n")
    done = outlast_cli(
        "config", "digits", "--train_config", "t.yaml", "--lr", "0.5", "--no_mixed_precision", cwd=tmp_path
    )
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["batch_size"] == ["64", "train", "t.yaml:2"]
    assert rows["seed"] == ["0", "train", "t.yaml:3"]
    assert rows["learning_rate"] == ["0.5", "flag", "--learning-rate"]
    assert rows["mixed_precision"] == ["false", "flag", "--mixed-precision"]
    assert rows["model.width"] == ["32", "default"]


def test_doctor(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli(
        "doctor",
        "digits",
        "--num_workers",
        "64",
        "--budget",
        "2h",
        cwd=tmp_path,
        env={"WANDB_API_KEY": "planted-secret"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "environment",
        "cores, memory",
        "WANDB_API_KEY",
        "train for 1h59m",
        "free in runs",
        "scikit-learn's handwritten digits",
        "num_workers 64 ->",
        "limit: local",
        "what a resume gives",
        "No problems found.",
    ):
        assert words in done.stdout, words
    assert "planted-secret" not in done.stdout
    assert not (tmp_path / "runs").exists()
    messages.said(outlast_cli("doctor", cwd=tmp_path).stdout, "cli/no-end-it-trains-until")
    stopped = outlast_cli("doctor", "digits", "--budget", "1s", cwd=tmp_path)
    assert stopped.returncode == 1
    messages.said(stopped.stdout, "cli/problems", number=1)


def test_a_copy_of_a_recipe_needs_none_of_its_packages_and_speaks_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find", lambda name: pytest.fail(f"the code of {name} was run"))
    assert main(["copy", "digits", "mine"]) == 0
    words = Path("mine/README.md").read_text()
    assert words.startswith("# mine\n")
    assert "outlast train mine" in words
    assert "outlast copy" not in words


def test_python_m_outlast_is_the_command(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit('a file of the working folder was imported')")
    for module in ("outlast", "outlast.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "runs"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stdout.split()[:3]) == (0, ["runs", "holds", "no"]), done.stderr


def test_a_run_of_plain_numbers_is_archived_without_a_model(
    opened, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened("counting", root=tmp_path / "runs") as run:
        state = run.restore({"count": 0})
        for step in run.steps(3):
            state = {"count": step}
            run.offer(state, count=step)
    assert main(["export", "counting"]) == 2
    messages.said(capsys.readouterr().err, "checkpoint/no-arrays-to-export", part="state")
    assert main(["archive", "counting"]) == 0
    messages.said(capsys.readouterr().out, "report/model-left-out", file="model_final.safetensors")
    with zipfile.ZipFile("counting_outputs.zip") as packed:
        names = packed.namelist()
    assert {"config.json", "training_history.json"} <= set(names)
    assert "model_final.safetensors" not in names


def test_copy_gives_a_recipe_that_runs(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli("copy", "digits", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "cli/outlast-train-mine")
    text = (tmp_path / "mine/recipe.py").read_text()
    (tmp_path / "mine/recipe.py").write_text(text.replace('summary="', 'summary="my own '))
    trained = outlast_cli("train", "mine", *SMALL, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "runs/mine/run.json").exists()
    unasked = outlast_cli("resume", "mine", "--epochs", "3", cwd=tmp_path)
    assert unasked.returncode == 2
    other = {"said_by": messages.ANY, "command": messages.ANY, "words": messages.ANY}
    messages.said(unasked.stderr, "recipe/is-a-file", recipe="mine", **other)
    resumed = outlast_cli("resume", "mine", "--recipe", "mine", "--epochs", "3", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    refused = outlast_cli("copy", "digits", "mine", cwd=tmp_path)
    assert refused.returncode == 2
    messages.said(refused.stderr, "cli/copy-exists-already", folder="mine")


def test_a_file_without_a_recipe(outlast_cli, tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text("x = 1\n")
    done = outlast_cli("train", "recipe.py", cwd=tmp_path)
    assert done.returncode == 2
    messages.said(done.stderr, "cli/defines-no-recipe")


@pytest.mark.parametrize("words", [["doctor"], ["train"], ["data", "check"], ["config"]])
def test_a_script_that_is_named_as_a_recipe_is_not_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(
        "import pathlib\n\n\ndef recipe_of():\n    recipe = 1\n\n\npathlib.Path('ran').touch()\n"
    )
    assert main([*words, "train.py"]) == 2
    assert not Path("ran").exists()
    messages.said(capsys.readouterr().err, "cli/script-is-no-recipe", file="train.py")


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    recipe = {}\nexcept ValueError:\n    pass\n",
        "if True:\n    other, recipe = 1, {}\n",
        "def made():\n    return {}\n\n\nglobals()['recipe'] = made()\n",
        "(recipe := {})\n",
        "def __getattr__(name):\n    return {}\n",
    ],
)
def test_every_way_to_define_a_recipe_is_found(text: str, tmp_path: Path) -> None:
    made = "__import__('outlast').Recipe(name='x', summary='x', Config=__import__('outlast').Config, train=print)"
    path = tmp_path / "recipe.py"
    path.write_text(text.replace("{}", made))
    assert registry.find(str(path)).name == "x"


def test_status_without_a_name_shows_the_run_that_wrote_last(folder: Path, outlast_cli) -> None:
    shutil.copytree(folder / "runs" / "digits", folder / "runs" / "a")
    os.utime(folder / "runs" / "digits" / "journal.jsonl", (1000, 1000))
    assert outlast_cli("status", cwd=folder).stdout.startswith("finished run a ")
    os.utime(folder / "runs" / "a" / "journal.jsonl", (999, 999))
    assert outlast_cli("status", cwd=folder).stdout.startswith("finished run digits ")


def test_recipes(outlast_cli, tmp_path: Path) -> None:
    done = outlast_cli("recipes", cwd=tmp_path)
    assert "digits     exact" in done.stdout
    messages.said(done.stdout, "cli/outlast-predict-skeleton-the-five-likeliest")


def test_a_second_attempt_is_refused_while_one_runs(tmp_path: Path, outlast_cli) -> None:
    process = processes.start(
        [sys.executable, "-m", "outlast.cli", "train", "digits", "--epochs", "4000"], cwd=tmp_path
    )
    process.stderr.readline()
    done = outlast_cli("train", "digits", "--epochs", "4000", cwd=tmp_path)
    assert done.returncode == 1
    messages.said(done.stderr, "cli/error-runs-digits-is-being-written", pid=process.pid)
    assert json.loads(outlast_cli("runs", "--json", cwd=tmp_path).stdout)["status"] == "running"
    process.kill()
    process.stderr.close()
    process.wait()
    assert json.loads(outlast_cli("runs", "--json", cwd=tmp_path).stdout)["status"] == "interrupted"


ORIGINALS = [
    [],
    ["--env", "local"],
    ["--env", "gcp"],
    ["--env", "kaggle"],
    ["--env", "kaggle", "--batch_size", "16", "--epochs", "50"],
    ["--data_path", "/custom/data", "--checkpoint_dir", "./checkpoints"],
    ["--env", "gcp", "--data_config", "configs/data/digits.yaml", "--model_config", "configs/model/digits_small.yaml",
        "--batch_size", "32",
     "--learning_rate", "0.0005", "--epochs", "120", "--device", "cpu"],
    ["--env", "kaggle", "--batch_size", "16", "--epochs", "5", "--num_workers", "2", "--debug"],
    ["--env", "kaggle", "--data_path", "/kaggle/input/x", "--checkpoint_dir", "out"],
    ["--debug", "--epochs", "2", "--batch_size", "8"],
    ["--env=kaggle"],
    ["--lr", "0.0005", "--experiment_name", "lr_0005"],
    ["--environment", "local", "--device", "cpu", "-b", "4", "-e", "1"],
    ["--data_root", "d", "--log_dir", "l", "--results_dir", "r", "--mixed_precision", "--seed", "0"],
    ["--no_mixed_precision", "--num-workers", "0", "--train-config", "configs/train/digits.yaml"],
]  # fmt: skip
"""The commands of seeds/000 sections 4.1, 4.7 and 14, with the digits recipe's files where theirs are a later
issue's."""


@pytest.mark.parametrize("words", ORIGINALS, ids=" ".join)
def test_the_originals_commands_are_understood(words: list[str]) -> None:
    script = [sys.executable, "scripts/train.py", "--recipe", "digits", *words, "--dry_run"]
    done = processes.run(script, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "cli/dry-run")


def test_the_originals_script_defaults_to_skeleton() -> None:
    done = processes.run([sys.executable, "scripts/train.py", "--dry_run"], cwd=REPOSITORY)
    assert done.returncode == 2
    messages.said(done.stderr, "cli/skeleton-needs-data-root")


def test_the_demo_compares_every_file_of_two_runs(folder: Path) -> None:
    import importlib.util

    from tests.conftest import REPOSITORY

    from outlast.report import read_run

    spec = importlib.util.spec_from_file_location("demo", REPOSITORY / "scripts/demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    run = read_run(folder / "runs/digits")
    rows = demo.compare(run, run)
    assert {row[0] for row in rows} >= {"model.safetensors", "state.json", "journal.jsonl"}
    assert all(len(one) == len(two) == 32 and same is True for _, one, two, same in rows)


def test_a_value_whose_flag_is_taken_is_refused_with_its_name() -> None:
    from outlast.cli.flags import training_parser
    from outlast.config import Config, setting
    from outlast.errors import ConfigError

    class Mine(Config):
        resume: str = setting("", "something else")

    with messages.raises(ConfigError, "cli/value-has-the-flags-and-means", value="resume"):
        training_parser("outlast train mine", "", Mine)
