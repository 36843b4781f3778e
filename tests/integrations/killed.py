"""A user's script, killed at steps and started again.

    python -m tests.integrations.killed FOLDER SCRIPT MODULES STEP...

The modules are imported once, and every session is a fork. Prints what differs from an uninterrupted training.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from tests.counting import attempts
from tests.folders import committed

from outlast.run.loop import Loop


def session(script: Path, root: Path, at: int = 0) -> int:
    """The exit code of the script; it is killed with SIGKILL right after this step, while it is being saved or not."""
    root.mkdir(exist_ok=True)
    sys.stdout.flush()
    if process := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.environ["OUTLAST_ROOT"] = str(root)
    os.chdir(root)
    done = Loop.finish_step

    def finish_step(loop: Loop, **options: Any) -> None:
        done(loop, **options)
        if loop.step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    Loop.finish_step = finish_step
    code: Any = 0
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as error:
        code = error.code
    except BaseException:  # a fork must not return
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))


def result(root: Path) -> dict[str, bytes]:
    """The journal, and the tensors of the last checkpoint."""
    (run,) = [path for path in root.iterdir() if (path / "run.json").exists()]
    (*_, last) = committed(run)
    tensors = sorted(last.path.glob("*.safetensors"))
    assert tensors
    return {path.name: path.read_bytes() for path in (run / "journal.jsonl", *tensors)}


def main(folder: Path, script: Path, steps: list[int]) -> None:
    assert session(script, folder / "twin") == 0
    for at in steps:
        assert session(script, folder / "cut", at) == -signal.SIGKILL, f"not killed at step {at}"
    assert session(script, folder / "cut") == 0
    whole, cut = result(folder / "twin"), result(folder / "cut")
    assert whole.keys() == cut.keys()
    assert not [name for name in whole if whole[name] != cut[name]]
    (run,) = (folder / "cut").glob("*/run.json")
    records = attempts(folder / "cut", run.parent.name)
    assert len(records) == len(steps) + 1
    assert all("not exact" not in sentence for each in records for sentence in each.get("told", ()))
    print("identical")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if importlib.util.find_spec("torchvision"):
        from outlast_recipes.common import torchvision_operators

        torchvision_operators.provide()
    for name in sys.argv[3].split(","):
        importlib.import_module(name)
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in sys.argv[4:]])
