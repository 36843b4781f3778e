"""Setting up, watching, taking down, probing, and the scripts of the original's guide."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from tests import messages
from tests.conftest import REPOSITORY
from tests.launch.helpers import launch, over
from tests.standins.kaggle import Standin


def test_setup_proves_the_login_and_writes_where_to_launch(laptop, standin: Standin) -> None:
    done = laptop("kaggle", "setup", "--username", "ada", "--recipe", "walk")
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "kaggle/login-found", gpu="30.0")
    written = (laptop.folder / "outlast-launch.yaml").read_text()
    assert "user: ada" in written
    assert "key-of-ada" not in written
    assert laptop("launch", "--accelerator", "cpu").returncode == 0, "no recipe, no --on"
    said = laptop("kaggle", "setup", "--username", "bob").stderr
    messages.said(said, "kaggle/login-of-another-account", found="ada", expected="bob")
    standin.world.accounts["ada"] = "another-key"
    messages.said(laptop("kaggle", "setup").stderr, "kaggle/login-not-accepted-line")
    (laptop.folder / "outlast-launch.yaml").write_text("accelerator: p100")
    messages.said(laptop("launch", "walk").stderr, "kaggle/accelerator-setting-unknown", value="p100")
    messages.said(laptop("kaggle", "login").stderr, "kaggle/unknown-verb")


def test_the_environment_file_states_how_to_launch(laptop, standin: Standin) -> None:
    """It is below outlast-launch.yaml, which is below a flag."""
    place = laptop.folder / "configs/environment/kaggle.yaml"
    place.parent.mkdir(parents=True)
    place.write_text("environment:\n  kaggle:\n    kernel_type: notebook\n    accelerator: none\n    internet: no\n")

    def pushed(*flags: str) -> dict:
        done = laptop(
            "launch", "walk", "--on", "kaggle", "--experiment-name", f"walk{len(standin.world.kernels)}", *flags
        )
        assert done.returncode == 0, done.stderr
        messages.said(done.stderr.splitlines(), "launch/kernel-type-notebook-2")
        return max(standin.world.kernels.values(), key=lambda kernel: kernel.id).versions[-1].metadata

    first = pushed()
    assert (first["enableInternet"], first["kernelType"], first.get("enableGpu")) == (False, "script", False)
    assert pushed("--internet")["enableInternet"] is True
    (laptop.folder / "outlast-launch.yaml").write_text("internet: true\n")
    assert pushed()["enableInternet"] is True
    place.write_text("kaggle: {acelerator: gpu}\n")
    done = laptop("launch", "walk", "--on", "kaggle")
    assert done.returncode == 2
    messages.said(done.stderr.splitlines(), "launch/unknown-setting-in-a-file-2", key="acelerator")


def test_somebody_elses_login_launches_nothing(laptop, standin: Standin) -> None:
    (laptop.folder / "outlast-launch.yaml").write_text("where: kaggle\nuser: bob\n")
    for verb in ("launch", "relay"):
        done = laptop(verb, "walk")
        assert done.returncode == 2
        messages.said(done.stderr, "kaggle/login-of-another-account", found="ada", expected="bob")
    assert standin.world.kernels == {}


def test_status_tells_launches_and_watches(laptop, standin: Standin) -> None:
    launch(laptop)
    done = laptop("status", "--watch", "--interval", "0.2")
    assert done.returncode == 0, done.stderr
    assert "outlast-walk-001 is stopped" in done.stdout
    messages.said(done.stdout, "launch/next-fetch")
    laptop("fetch")
    done = laptop("status")
    assert "run walk" in done.stdout
    assert "outlast-walk-001" in done.stdout
    assert json.loads(laptop("status", "walk", "--json").stdout)["launches"][0]["step"] == 3
    laptop("train", "walk", "--experiment-name", "alone")
    messages.said(laptop("status", "alone", "--watch").stderr, "launch/nothing-to-watch", run="alone")


def test_down_deletes_only_what_is_at_home(laptop, standin: Standin) -> None:
    launch(laptop)
    over(standin, "outlast-walk-001")
    messages.said(laptop("down").stderr, "launch/files-would-be-deleted", run="walk")
    laptop("fetch")
    messages.said(laptop("down").stderr, "launch/down-unfinished")
    assert laptop("down", "--unfinished").stdout == "deleted: outlast-walk-001\n"
    assert standin.world.kernels == {}
    launch(laptop)  # goes on from what is here
    over(standin, "outlast-walk-002")
    assert len(standin.world.datasets) == 1
    laptop("fetch")
    assert "outlast-walk-002, outlast-walk-step-3-" in laptop("down", "--unfinished").stdout
    assert standin.world.datasets == {}
    launch(laptop)
    assert "is" in laptop("down").stderr
    over(standin, "outlast-walk-003")
    laptop("fetch")
    assert "step 9" not in laptop("status").stderr
    assert laptop("down").stdout.startswith("deleted: outlast-walk-003")
    assert laptop("status").stdout.count("deleted") == 3


def test_the_probe_asks_what_nobody_knows_and_leaves_nothing(laptop, standin: Standin) -> None:
    done = laptop("kaggle", "probe", "--seconds", "4", "--ask-every", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    found = {each["question"]: each["answer"] for each in json.loads(done.stdout)}
    at_limit = "files of a session at its hard limit"
    assert found[at_limit].startswith(
        "0 of 250 kept; it ended as stopped: Your notebook was stopped because it exceeded"
    )
    assert found["a signal before the hard limit"] == "no signal"
    assert found["cancel with this login (key)"] == "works"
    assert found["files of a cancelled session"] == "1 kept"
    assert "input/notebooks/ada/outlast-probe-" in found["whether those files mount in the next session"]
    assert standin.world.kernels == {}
    assert standin.world.datasets == {}
    standin.world.knobs.keep_at_limit = True
    done = laptop("kaggle", "probe", "--seconds", "4", "--ask-every", "0.2")
    assert "files on one page of outputs" in done.stdout
    messages.said(done.stdout, "kaggle/probe-not-tested")


def script(laptop, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "COLUMNS": "120"}
    command = [str(REPOSITORY / "scripts" / name), *words]
    return subprocess.run(command, cwd=laptop.folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.long
def test_the_five_scripts_of_the_originals_guide(laptop, standin: Standin) -> None:
    done = script(laptop, "kaggle_setup.sh", "--username", "ada", "--recipe", "walk")
    assert done.returncode == 0, done.stderr
    done = script(laptop, "kaggle_push.sh", "--new", "--accelerator", "cpu", "--pause", "4")
    messages.said(done.stdout, "kaggle/started", session="outlast-walk-001", after="")
    done = script(laptop, "kaggle_run.sh", "--accelerator", "cpu")
    messages.said(done.stdout, "launch/pushing-has-started")
    done = script(laptop, "kaggle_status.sh", "--watch", "--interval", "1")
    assert "outlast-walk-001 is stopped" in done.stdout
    messages.said(script(laptop, "kaggle_push.sh", "--new").stderr, "kaggle/script-launched-already", time=1)
    done = script(laptop, "kaggle_run.sh", "--push-first", "--accelerator", "cpu", "--pause", "0")
    messages.said(done.stdout, "kaggle/started", session="outlast-walk-002", after=", continuing outlast-walk-001")
    over(standin, "outlast-walk-002")
    done = script(laptop, "kaggle_download.sh")
    messages.said(done.stdout, "kaggle/script-copied")
    assert (laptop.folder / "kaggle_output/walk/journal.jsonl").exists()
    assert script(laptop, "kaggle_download.sh", "--output-dir", "my_results").returncode == 0
    assert (laptop.folder / "my_results/walk/run.json").exists()
