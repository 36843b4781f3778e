"""`python -m outlast.launch.gcp.machine FOLDER ABOUT`: one session on its machine.

The keeper watches over the training. Beside it, a thread copies log and files to the bucket about once a minute, and
looks there for a request to stop. At the end everything is copied, and last the record of the end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.environment.base import gpus
from outlast.launch.keeper import LOG, Job, Keeper, training_command
from outlast.terminal import say

TRIES = 5
"""How often the last copy is tried; then the machine stays as it is."""


class Copies:
    """Copies the files of a session to its folder in the bucket.

    Args:
        folder: the session's.
        at: its address in the bucket.
        every: seconds between two copies while it trains.
    """

    def __init__(self, folder: Path, at: str, every: float) -> None:
        self._folder, self._at, self._every = folder, at, every
        self._told = -1  # bytes of the log that are in the bucket
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Begin to follow the training."""
        self._thread.start()

    def finish(self) -> bool:
        """Copy all files, and last the record of the end; returns whether all of them are in the bucket."""
        self._over.set()
        self._thread.join()
        for number in range(TRIES):
            if self._copy() and self._put("end.json"):
                return True
            self._wait(min(60.0, 5.0 * 2**number))
        return False

    def _follow(self) -> None:
        while not self._over.wait(self._every):
            if not (self._folder / "cancel").exists():
                self._gcloud("cp", f"{self._at}/cancel", str(self._folder / "cancel"), quiet=True)
            self._copy()

    def _copy(self) -> bool:
        size = (self._folder / LOG).stat().st_size
        if size != self._told and self._put(LOG):
            self._told = size
        done = self._gcloud("rsync", "--recursive", str(self._folder / "work"), f"{self._at}/work")
        return done and self._told == size

    def _put(self, name: str) -> bool:
        return self._gcloud("cp", str(self._folder / name), f"{self._at}/{name}")

    def _gcloud(self, *words: str, quiet: bool = False) -> bool:
        done = subprocess.run(
            ["gcloud", "storage", *words, "--quiet"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if done.returncode and not quiet:
            say(done.stderr.decode(errors="replace").strip()[-500:], error=True)
        return done.returncode == 0

    def _wait(self, seconds: float) -> None:
        threading.Event().wait(seconds)


def main(folder: Path, about: Mapping[str, Any]) -> int:
    """Train; returns 0 when all files are in the bucket."""
    asked = json.loads((folder / "request.json").read_text())
    command = training_command(folder, len(gpus()) if asked["ranks"] else 0)
    job = Job(command, str(folder), about["seconds"], about["grace"])
    copies = Copies(folder, about["at"], about["every"])
    copies.start()
    Keeper(folder, job).run()
    saved = copies.finish()
    if not saved:
        say("The files are not all in the bucket, so this machine stays as it is until its time limit.", error=True)
        return 1
    if about["shutdown"]:
        subprocess.run(["shutdown", "-h", "now"], stdin=subprocess.DEVNULL, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
