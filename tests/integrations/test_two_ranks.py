"""Two ranks on the CPU, in sessions of which one is killed and one is stopped: equal to their twin, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.counting import attempts
from tests.integrations import twins
from tests.integrations.killed import result
from tests.integrations.test_killed import LIGHTNING, SCRIPTS, smaller

twins.need("torch")

OWN = [sys.executable, "-m", "outlast", "run", "--name", "launcher", "--checkpoint-dir", "outer", "--nproc", "2"]
OWN += ["--grace", "20s", "--", sys.executable]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]

KILLED_AT, STOPPED_AT, LAST = 9, 13, 28
"""Steps; an epoch has 7, and a save is due every 5. Ranks agree to stop some steps after one of them was asked."""


def session(launcher: Sequence[str], script: Path, root: Path, what: str = "none", at: int = 0) -> int:
    """The exit code of the launcher."""
    root.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OUTLAST_")}
    own = {"PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}", "OUTLAST_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    own |= {"ACCELERATE_USE_CPU": "true"}  # with --cpu, accelerate launch starts one process
    done = subprocess.run(
        [*launcher, "-m", "tests.integrations.rank", str(script), what, str(at)],
        cwd=root.parent,
        env={**environment, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # two pipes that are read one after the other would fill
        text=True,
        timeout=240,
    )
    print(done.stdout[-4000:])
    return done.returncode


def survive(folder: Path, launcher: Sequence[str], text: str, stopped: int) -> None:
    """Train undisturbed; and killed, stopped and continued. `stopped` is how the launcher ends at a clean stop."""
    script = folder / "script.py"
    script.write_text(text)
    assert session(launcher, script, folder / "twin") == 0
    assert session(launcher, script, folder / "cut", "kill", KILLED_AT) != 0
    assert session(launcher, script, folder / "cut", "stop", STOPPED_AT) == stopped
    assert session(launcher, script, folder / "cut") == 0
    whole, cut = result(folder / "twin"), result(folder / "cut")
    assert whole.keys() == cut.keys()
    assert not [name for name in whole if whole[name] != cut[name]]
    (run,) = (folder / "cut").glob("*/run.json")
    records = attempts(folder / "cut", run.parent.name)
    assert [record["end"]["reason"] for record in records][1:] == ["preempted", "finished"]
    stops = [record["end"]["step"] for record in records[1:]]
    assert STOPPED_AT <= stops[0] < LAST == stops[1]
    assert [record["resume"]["step"] for record in records if "resume" in record] == [5, stops[0]]
    assert all(record["resume"]["grade"] == "exact" for record in records if "resume" in record)


@pytest.mark.filterwarnings("ignore")
def test_lightning_ddp(tmp_path: Path) -> None:
    """The script of the page, as its section about several processes says; `outlast run --nproc 2` returns 75."""
    twins.need(LIGHTNING.partition(".")[0])
    text = smaller(SCRIPTS["lightning"], _20_000="448", _50="5", **{"_max_epochs=10": "max_epochs=4, **ddp"})
    text = text.replace("pytorch_lightning", LIGHTNING, 1).replace(
        "outlast.seed_everything(0)\n",
        'torch.distributed.init_process_group("gloo")\n'
        'ddp = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "log_every_n_steps": 1}\n'
        "outlast.seed_everything(0)\n",
    )
    survive(tmp_path, OWN, text, 75)


def test_accelerate_launch(tmp_path: Path) -> None:
    """The example's loop. `accelerate launch` ends with 1 whatever its ranks return."""
    twins.need("accelerate")
    text = (REPOSITORY / "examples/accelerate_loop.py").read_text()
    text = smaller(text, _4000="448", **{"_epochs=5": "epochs=4", "_20 steps": "5 steps"})
    survive(tmp_path, ACCELERATE, text, 1)
