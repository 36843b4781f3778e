"""The cell that the kernel of a runtime runs: unpacks the session, installs what is missing, trains, and waits.

outlast writes the facts of the session into ABOUT. The cell needs Python's standard library, holds no secret, and ends
when the session does: Colab takes back a runtime whose kernel is idle.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

ABOUT = "{}"
NEEDED = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "PyYAML", "rich": "rich", "xxhash": "xxhash"}
PIECE = 2**18  # bytes of a piece of the log; the last one is shorter
KEPT = ("torch", "torchvision", "torchaudio", "jax", "jaxlib", "numpy")  # built for the runtime's driver


def status(folder: Path, record: dict[str, object]) -> None:
    """Write what outlast reads about the session, in one step."""
    (folder / "out").mkdir(exist_ok=True)
    (folder / "out/.status").write_text(json.dumps(record))
    (folder / "out/.status").replace(folder / "out/status.json")


def pieces(folder: Path, told: int) -> int:
    """Leave the log in pieces; returns its bytes. `told`: bytes of it that are there already."""
    with (folder / "log.txt").open("rb") as log:
        number = told // PIECE
        log.seek(number * PIECE)
        while data := log.read(PIECE):
            told = number * PIECE + len(data)
            number += 1
            (folder / "out/.log").write_bytes(data)
            (folder / "out/.log").replace(folder / f"out/log-{number:06d}")
    return told


def fail(folder: Path, why: str) -> None:
    """Leave the end of a session that could not train, with its log."""
    with (folder / "log.txt").open("a") as log:
        log.write(f"{why}\n")
    told = json.loads((folder / "out/status.json").read_text())
    told["log"] = pieces(folder, told["log"])
    told["end"] = {"word": "failed", "message": why[:500], "exit": 1, "seconds": told["seconds"]}
    status(folder, told)


def install(folder: Path, packages: list[str]) -> bool:
    """Install what the recipe needs and the runtime lacks; returns whether that went well."""
    here = {str(found.metadata["Name"]).lower(): found.version for found in importlib.metadata.distributions()}
    own = folder / "code" / ("command" if (folder / "code/command").is_dir() else "recipe") / "requirements.txt"
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    asked = [*missing, *(["-r", str(own)] if own.exists() else [])]
    lacking = [each for each in packages if each.split()[0] not in {f"{name}=={here[name]}" for name in here}]
    (folder / "constraints.txt").write_text("".join(f"{name}=={here[name]}\n" for name in KEPT if name in here))
    (folder / "packages.txt").write_text("".join(f"{each}\n" for each in lacking))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    calls = [[*pip, "-c", str(folder / "constraints.txt"), *asked]] if asked else []
    calls += [[*pip, "--no-deps", "-r", str(folder / "packages.txt")]] if lacking else []
    with (folder / "log.txt").open("ab") as log:
        return all(
            subprocess.run(call, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode == 0
            for call in calls
        )


def train(root: Path, folder: Path, about: dict[str, Any]) -> None:
    """The session, to its end."""
    sent = folder / "session.zip"
    with sent.open("wb") as whole:
        for number in range(about["parts"]):
            part = root / f"{about['name']}.send-{number:03d}"
            whole.write(part.read_bytes())
            part.unlink()
    if hashlib.sha256(sent.read_bytes()).hexdigest() != about["sha256"]:
        fail(folder, "The code did not arrive as it was sent. Launch the run again.")
        return
    for name in ("code", "inputs", "work"):
        (folder / name).mkdir(exist_ok=True)
    with zipfile.ZipFile(sent) as archive:
        archive.extractall(folder)
    sent.unlink()
    if not install(folder, about["packages"]):
        fail(folder, "The packages that the recipe needs cannot be installed.")
        return
    environment = {**os.environ, "PYTHONPATH": str(folder / "code"), "PYTHONSAFEPATH": "1"}
    words = [sys.executable, "-m", "outlast.launch.colab.machine", str(folder), json.dumps(about)]
    with (folder / "log.txt").open("ab") as log:
        done = subprocess.run(
            words, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    if done.returncode:
        fail(folder, f"The session broke off with {done.returncode}.")


def main() -> None:
    about, begun = json.loads(ABOUT), time.monotonic()
    root = Path(os.environ.get("OUTLAST_COLAB_ROOT", "/")) / "content"
    folder = root / about["name"]
    folder.mkdir(exist_ok=True)
    try:
        os.close(os.open(folder / "begun", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        print("::outlast again", flush=True)  # the session has had its attempt
        return
    (folder / "log.txt").write_text("")
    status(folder, {"log": 0, "seconds": 0.0, "files": None, "end": None})
    print("::outlast begun", flush=True)
    about["begun"] = time.time()
    try:
        train(root, folder, about)
    except Exception as error:
        fail(folder, f"The session broke off: {error!r}")
    # Its files are fetched meanwhile, after which outlast ends the runtime.
    left = about["lifetime"] - (time.monotonic() - begun)
    time.sleep(max(0.0, left if about["hold"] is None else min(left, about["hold"])))


if __name__ == "__main__":
    main()
