"""A relay in a process of its own that can be killed at any write of its records: `python -m tests.launch.relaying
FLAGS.json`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from outlast.errors import OutlastError
from outlast.launch.kaggle import Kaggle, KaggleProvider, find_credential
from outlast.launch.provider import Terms
from outlast.launch.records import LaunchRecord
from outlast.launch.relay import Bounds, Pace, relay
from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry


def die_at(number: int, *, after: bool) -> None:
    """Be killed before, or right after, the so-many-th write of a launch record, counted from 1."""
    write, count = LaunchRecord.write, 0

    def dying(self: LaunchRecord) -> None:
        nonlocal count
        count += 1
        if count == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    LaunchRecord.write = dying  # type: ignore[method-assign]


def main(asked: dict) -> int:
    if "die" in asked:
        die_at(asked["die"], after=asked["after"])
    found = registry.find(asked["recipe"])
    request = prepare.Request(flags=asked["flags"])
    try:
        relay(
            KaggleProvider(
                lambda: Kaggle(find_credential(), patience=60.0, sleep=lambda seconds: time.sleep(min(seconds, 0.2)))
            ),
            lambda: RecipeWork(prepare.prepare(found, request)),
            Terms(options={"accelerator": "cpu"}),
            bounds=Bounds(keep=asked.get("keep")),
            tell=lambda words: print(words, flush=True),
            pace=Pace(ask=0.1, settles=3.0),
        )
    except OutlastError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
