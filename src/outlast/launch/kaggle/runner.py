"""The program that runs in the kernel before outlast is installed. It uses only the standard library.

Its text is pushed with ABOUT and DATA filled in. It prints lines that begin with "::outlast" for the reader of the log:
session, image, device, and finally the exit code.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

# filled in: accelerator, sha256 of the bundle, the request, and the bundle's file name if it is in a dataset
ABOUT = "{}"
DATA = ""  # filled in: the bundle in xz and base85; empty if it is in a dataset

NEEDED = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "PyYAML", "rich": "rich", "xxhash": "xxhash"}
KEPT = (
    "torch",
    "torchvision",
    "torchaudio",
    "jax",
    "jaxlib",
    "numpy",
)  # built for the image's driver: never replaced
SECRETS = ("WANDB_API_KEY", "GITHUB_TOKEN", "GDRIVE_USER_CREDENTIALS", "HF_TOKEN")
MISSING_DEVICE, BROKEN_BUNDLE, NOT_INSTALLED = 3, 4, 5
KEPT_ALL = (75, 7)  # to be run again; finished and not published (inside.py)


def emit(*words: object) -> None:
    sys.stdout.write(
        " ".join(map(str, ("::outlast", *words))) + "\n"
    )  # one write, because readers of the log expect complete lines
    sys.stdout.flush()


def session() -> str:
    """The session id, which Kaggle needs to cancel it: the second-to-last part of the container's name."""
    parts = os.environ.get("KAGGLE_CONTAINER_NAME", "").rsplit("-", 2)
    return parts[1] if len(parts) == 3 and parts[1].isdigit() else "unknown"


def gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return [line.split(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU ")]


def bundle(about: dict[str, str], root: Path) -> bytes | None:
    """The bytes of the bundle, from this file or from its dataset (either mount layout); None if their hash differs."""
    if DATA:
        found = [base64.b85decode(DATA)]
    else:
        found = [path.read_bytes() for path in sorted((root / "input").glob(f"**/{about['file']}"))]
    return next((data for data in found if hashlib.sha256(data).hexdigest() == about["sha256"]), None)


def install(code: Path, packages: list[str]) -> bool:
    """Install missing packages, from the bundle's wheels if it has any. Packages in KEPT are not replaced."""
    here = {str(dist.metadata["Name"]).lower(): dist.version for dist in importlib.metadata.distributions()}
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    pinned, constraints = code / "packages.txt", code / "constraints.txt"
    wanted = code / ("command" if (code / "command").is_dir() else "recipe") / "requirements.txt"
    asked = [*missing, *(["-r", str(wanted)] if wanted.exists() else [])]
    lacking = [each for each in packages if each.split()[0] not in {f"{name}=={here[name]}" for name in here}]
    constraints.write_text("".join(f"{name}=={here[name]}\n" for name in KEPT if name in here))
    pinned.write_text("".join(f"{each}\n" for each in lacking))
    wheels = ["--no-index", "--find-links", str(code / "wheels")] if (code / "wheels").is_dir() else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheels]
    calls = [["-c", str(constraints), *asked]] if asked else []
    calls += [["--no-deps", "-r", str(pinned)]] if lacking else []
    if any(subprocess.run([*command, *more], check=False).returncode for more in calls):
        listed = ["requirements.txt"] if wanted.exists() else []
        names = ", ".join([*missing, *listed, *(each.split()[0] for each in lacking)])
        print(
            f"The packages that the recipe needs cannot be installed ({names}): the session has no internet and no "
            "wheels. Launch it with --internet or --wheels FOLDER."
        )
        return False
    return True


def secrets(root: Path) -> dict[str, str]:
    """Keys for the training, by name: those attached in the browser, then those of an attached secrets.json."""
    found = {}
    for name in SECRETS if os.environ.get("KAGGLE_USER_SECRETS_TOKEN") else ():
        try:
            if value := attached(name):
                found[name] = value
        except (OSError, ValueError, KeyError):
            break  # if one request is not answered, the others are not answered either
    places = [*(root / "input").glob("datasets/*/*/secrets.json"), *(root / "input").glob("*/secrets.json")]
    for place in places:
        try:
            held = json.loads(place.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(held, dict) and set(held) <= set(SECRETS):
            texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in held.items()}
            found = texts | found
    if found:
        print("keys for the training:", ", ".join(sorted(found)), flush=True)
    return found


def attached(label: str) -> str:
    """The result of UserSecretsClient().get_secret(label), without the image's module; empty if none is attached."""
    request = urllib.request.Request(  # noqa: S310 - the address is that of Kaggle's own variable
        os.environ["KAGGLE_URL_BASE"] + "/requests/GetUserSecretByLabelRequest",
        json.dumps({"Label": label}).encode(),
        {
            "Content-Type": "application/json",
            "X-Kaggle-Authorization": "Bearer " + os.environ["KAGGLE_USER_SECRETS_TOKEN"],
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        told = json.load(answer)
    return str(told["result"]["secret"]) if told.get("wasSuccessful") else ""


def train(request: dict[str, object], code: Path, root: Path, cards: int, keys: dict[str, str]) -> int:
    """Run the training, with torchrun on all GPUs if the recipe supports several ranks; returns its exit code."""
    asked, ended = code / "request.json", code / "exit"
    asked.write_text(json.dumps(request))
    path = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, **keys, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m"]
    if request["ranks"] and cards > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={cards}", "-m"]
    command += ["outlast.launch.inside", str(asked), str(root / "working"), str(ended)]
    done = subprocess.run(command, env=environment, cwd=code, check=False)
    return int(ended.read_text()) if ended.exists() else done.returncode or 1


def list_files(working: Path) -> None:
    """Write a list of the outputs with their hashes, so that a fetch can verify them."""
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
    emit("session", session())
    emit("image", os.environ.get("KAGGLE_DOCKER_IMAGE", "unknown"))
    tpu = os.environ.get("TPU_ACCELERATOR_TYPE") or os.environ.get("ISTPUVM")
    emit("device", "; ".join(cards) or ("TPU" if tpu else "CPU"))
    wanted = {"t4x2": len(cards) >= 2, "tpu": bool(tpu)}.get(about["accelerator"], True)
    if not wanted:
        print(
            f"{about['accelerator']} was requested, and this session has none. It ends now, so that no quota is used."
        )
        return MISSING_DEVICE
    data = bundle(about, root)
    if data is None:
        print("The code of this kernel is missing, or was changed. Launch the run again.")
        return BROKEN_BUNDLE
    code = Path(tempfile.mkdtemp(prefix="outlast-"))  # not among the outputs of the session
    with zipfile.ZipFile(io.BytesIO(lzma.decompress(data))) as archive:
        archive.extractall(code)
    if not install(code, about["request"].get("packages", [])):
        return NOT_INSTALLED
    try:
        return train(about["request"], code, root, len(cards), secrets(root))
    finally:
        list_files(root / "working")


if __name__ == "__main__":
    ended = main()
    emit("exit", ended)
    # With these codes the training has not failed. Only outputs of a kernel that did not fail are certainly mounted.
    sys.exit(0 if ended in KEPT_ALL else ended)
