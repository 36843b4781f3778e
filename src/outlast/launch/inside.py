"""`python -m outlast.launch.inside REQUEST.json FOLDER EXIT`: the far end of a launch.

Trains what the request says, below FOLDER/runs, and writes the exit code of `outlast train` into the file EXIT: torchrun, which may
have started this, knows no other code than its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from outlast import recipe as recipes
from outlast.config import show
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN, OutlastError, SessionEnded


def main(request: Path, working: Path) -> int:
    """Train; returns the exit code of `outlast train`."""
    asked = json.loads(request.read_text())
    flags = {key: value if isinstance(value, bool) else show(value) for key, value in asked["values"].items()}
    flags |= {
        "checkpoint_dir": str(working / "runs"),
        "experiment_name": asked["run"],
        "budget": f"{asked['budget']:g}s",
    }
    try:
        found = recipes.find(asked["recipe"])
        run = recipes.start(recipes.prepare(found, recipes.Request(flags=flags)), progress="plain")
    except SessionEnded as ended:
        return int(ended.code or 0)
    except OutlastError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    if _first():
        print(f"run {run.id} is finished", flush=True)
    return EXIT_FINISHED


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), Path(sys.argv[2]))
    if _first():
        Path(sys.argv[3]).write_text(str(code))
    # Under torchrun a rank that ends with 75 is a failure, for which the others are killed.
    sys.exit(EXIT_FINISHED if code == EXIT_RUN_AGAIN else code)
