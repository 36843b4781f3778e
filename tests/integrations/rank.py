"""One rank of a user's script: `LAUNCHER -m tests.integrations.rank SCRIPT WHAT STEP`.

Right after this step, "kill" ends rank 1 with SIGKILL, when a checkpoint is complete; "stop" sends rank 0 a SIGTERM;
"none" does nothing.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from outlast.run.loop import Loop

VICTIMS = {"kill": ("1", signal.SIGKILL), "stop": ("0", signal.SIGTERM), "none": (None, signal.SIGTERM)}


def wait_for_checkpoint() -> None:
    until = time.monotonic() + 60
    while not [*Path(os.environ["OUTLAST_ROOT"]).glob("*/checkpoints/*/MANIFEST.json")]:
        assert time.monotonic() < until, "no checkpoint is complete"
        time.sleep(0.02)


def main(script: str, what: str, at: int) -> None:
    rank, number = VICTIMS[what]
    done = Loop.finish_step

    def finish_step(loop: Loop, **options: Any) -> None:
        done(loop, **options)
        if loop.step == at and os.environ["RANK"] == rank:
            if what == "kill":
                wait_for_checkpoint()
            os.kill(os.getpid(), number)

    Loop.finish_step = finish_step
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
