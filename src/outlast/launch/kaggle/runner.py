"""Runs inside the kernel, before anything of outlast is there: standard library only. Its text is pushed with ABOUT and DATA filled in.

It prints lines that begin with "::outlast" for whoever follows the log: session, image, device, and at last the exit code.
"""

import base64
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ABOUT = "{}"  # filled in: accelerator, sha256 of the bundle, name and file of a dataset when it does not travel inline
DATA = ""  # filled in: the bundle in base64, empty when it comes as a dataset

NEEDED = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "PyYAML", "rich": "rich", "xxhash": "xxhash"}
MISSING_DEVICE, BROKEN_BUNDLE, NOT_INSTALLED = 3, 4, 5


def tell(*words: object) -> None:
    print("::outlast", *words, flush=True)


def session() -> str:
    """The id by which a session can be cancelled: the second-to-last part of the container's name."""
    parts = os.environ.get("KAGGLE_CONTAINER_NAME", "").rsplit("-", 2)
    return parts[1] if len(parts) == 3 and parts[1].isdigit() else "unknown"


def gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return [line.split(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU ")]


def bundle(about: dict[str, str], root: Path) -> bytes | None:
    """The bytes of the bundle, from this file or from its dataset in either layout of mounts; None when they are not what was sent."""
    if DATA:
        found = [base64.b64decode(DATA)]
    else:
        found = [path.read_bytes() for path in sorted((root / "input").glob(f"**/{about['file']}"))]
    return next((data for data in found if hashlib.sha256(data).hexdigest() == about["sha256"]), None)


def install(names: list[str], inputs: Path) -> bool:
    """Install what is missing, from attached wheels if there are any; nothing that is there is touched."""
    wheels = sorted({str(path.parent) for path in inputs.glob("**/*.whl")})
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *names]
    for folder in wheels:
        command += ["--find-links", folder]
    return subprocess.run(command, check=False).returncode == 0


def list_files(working: Path) -> None:
    """Write down what is left behind, with hashes, so that whoever fetches it knows when all of it is right."""
    found = {}
    for path in sorted((working / "runs").rglob("*")):
        if path.is_file() and path.name not in ("lock", "ranks"):
            with path.open("rb") as file:
                found[path.relative_to(working).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    text = json.dumps(found, sort_keys=True)
    whole = {"files": found, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (working / "outlast-files.json").write_text(json.dumps(whole))


def main() -> int:
    about = json.loads(ABOUT)
    root = Path(os.environ.get("OUTLAST_KAGGLE_ROOT", "/")) / "kaggle"
    cards = gpus()
    tell("session", session())
    tell("image", os.environ.get("KAGGLE_DOCKER_IMAGE", "unknown"))
    tell("device", "; ".join(cards) or ("TPU" if os.environ.get("TPU_ACCELERATOR_TYPE") else "CPU"))
    if about["accelerator"] == "t4x2" and not cards:
        print("A GPU was asked for and this session has none; it ends at once, so that no hours are spent.")
        return MISSING_DEVICE
    data = bundle(about, root)
    if data is None:
        print("The code that was sent with this kernel is not here, or not what was sent.")
        return BROKEN_BUNDLE
    code = Path(tempfile.mkdtemp(prefix="outlast-"))  # outside of what the session keeps
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(code)
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing and not install(missing, root / "input"):
        print(
            f"{', '.join(missing)} cannot be installed here: switch the internet on, or attach a dataset with the wheels."
        )
        return NOT_INSTALLED
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "outlast.launch.inside", str(code / "request.json"), str(root / "working")]
    code_of_training = subprocess.run(command, env=environment, cwd=code, check=False).returncode
    list_files(root / "working")
    return code_of_training


if __name__ == "__main__":
    ended = main()
    tell("exit", ended)
    # 75 asks to be run again: that is no failure, and what a session that did not fail has saved is surely mounted in the next.
    sys.exit(0 if ended == 75 else ended)
