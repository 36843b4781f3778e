"""The startup script of a machine: gets the session from the bucket, installs what is missing, and trains.

outlast writes the facts of the session into ABOUT, and adds a first line that names the interpreter. It needs Python's
standard library and gcloud, which Google's images have. It holds no secret: the machine's service account may read and
write the bucket. Output goes to the log.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ABOUT = "{}"
NEEDED = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "PyYAML", "rich": "rich", "xxhash": "xxhash"}


def say(*words: object) -> None:
    print(*words, flush=True)


def gcloud(*words: str) -> int:
    return subprocess.run(["gcloud", "storage", *words, "--quiet"], stdin=subprocess.DEVNULL, check=False).returncode


def fail(about: dict[str, str], folder: Path, why: str) -> int:
    """Leave the end of the session and its log in the bucket."""
    say(why)
    end = {"word": "failed", "message": why[:500], "exit": 1, "seconds": 0.0}
    (folder / "end.json").write_text(json.dumps(end))
    for name in ("log.txt", "end.json"):
        if (folder / name).exists():
            gcloud("cp", str(folder / name), f"{about['at']}/{name}")
    return 1


def run(*words: str) -> bool:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode == 0
    if not done:
        say("This failed:", " ".join(words))
    return done


def python_of(folder: Path, install: list[str], pinned: list[str]) -> str:
    """A Python with all that the recipe needs: this one, or one of a virtual environment; empty if that fails."""
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    own = folder / "code" / ("command" if (folder / "code/command").is_dir() else "recipe")
    wanted = own / "requirements.txt"
    asked = [*missing, *install, *(["-r", str(wanted)] if wanted.exists() else [])]
    if not asked and not pinned:
        return sys.executable
    place = folder / "python"
    venv = [sys.executable, "-m", "venv", "--system-site-packages", str(place)]
    # Debian's image has Python without the part that makes environments.
    apt = ["sh", "-c", "apt-get -q update && apt-get -q install --yes python3-venv"]
    if not (run(*venv) or (run(*apt) and run(*venv))):
        return ""
    pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if asked and not run(*pip, *asked):
        return ""
    (folder / "packages.txt").write_text("".join(f"{each}\n" for each in pinned))
    if pinned and not run(*pip, "--no-deps", "-r", str(folder / "packages.txt")):
        return ""
    return str(place / "bin/python")


def main() -> int:
    about = json.loads(ABOUT)
    folder = Path(os.environ.get("OUTLAST_GCP_ROOT", "/var/lib/outlast")) / about["name"]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(folder / "begun", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return 0  # the machine was started again; the session has had its attempt
    log = os.open(folder / "log.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sent = folder / "session.zip"
    if gcloud("cp", f"{about['at']}/session.zip", str(sent)):
        return fail(about, folder, "The code cannot be read from the bucket. Has the machine's account access to it?")
    if hashlib.sha256(sent.read_bytes()).hexdigest() != about["sha256"]:
        return fail(about, folder, "The code in the bucket was changed. Launch the run again.")
    for name in ("code", "inputs", "work"):
        (folder / name).mkdir(exist_ok=True)
    with zipfile.ZipFile(sent) as archive:
        archive.extractall(folder)
    sent.unlink()
    if about["after"]:
        gcloud("cp", "--recursive", f"{about['after']}/work", str(folder / "inputs"))
    python = python_of(folder, about["install"], about["packages"])
    if not python:
        return fail(about, folder, "The packages that the recipe needs cannot be installed.")
    environment = {**os.environ, "PYTHONPATH": str(folder / "code"), "PYTHONSAFEPATH": "1"}
    words = [python, "-m", "outlast.launch.gcp.machine", str(folder), ABOUT]
    return subprocess.run(words, env=environment, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
