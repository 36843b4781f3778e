"""A stand-in of Google's command `gcloud`: machines are processes, buckets are folders. It takes what gcloud documents
for these commands, and refuses all else as gcloud does. `install` puts it on a folder that goes before PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

WORLD = "OUTLAST_TEST_GCLOUD"
ZONES = ("europe-west4-a", "us-central1-b")
SCOPES = ("storage-rw", "storage-ro", "storage-full", "compute-rw", "cloud-platform", "default")


class Refused(Exception):
    """What gcloud prints after ERROR:, and its exit code."""

    def __init__(self, words: str, code: int = 1) -> None:
        super().__init__(words)
        self.code = code


def world() -> Path:
    return Path(os.environ[WORLD])


def install(folder: Path, monkeypatch) -> Path:  # type: ignore[no-untyped-def]
    """Put `gcloud` on PATH, with nothing in its world; returns the world."""
    place = folder / "bin"
    place.mkdir(parents=True)
    (place / "gcloud").write_text(f"#!{sys.executable} -SE\n{Path(__file__).read_text()}")
    (place / "gcloud").chmod(0o755)
    (folder / "buckets/bucket").mkdir(parents=True)
    (folder / "machines").mkdir()
    monkeypatch.setenv(WORLD, str(folder))
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return folder


# machines ---------------------------------------------------------------------------------------------------------


def machine(name: str) -> Path:
    return world() / "machines" / name


def kill(name: str) -> None:
    """End every process of a machine: those of its session."""
    with contextlib.suppress(OSError, ValueError):
        session = int((machine(name) / "pid").read_text())
        for place in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                if int(place.read_text().rpartition(")")[2].split()[3]) == session:
                    os.kill(int(place.parent.name), signal.SIGKILL)


def take_back(name: str) -> None:
    """What Google does to a Spot machine whose termination action is DELETE."""
    kill(name)
    shutil.rmtree(machine(name), ignore_errors=True)


def create(flags: dict[str, str], names: list[str]) -> str:
    name = names[0]
    zone = zone_of(flags)
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise Refused(f"Could not fetch resource:\n - Invalid value for field 'resource.name': '{name}'.")
    if machine(name).exists():
        raise Refused(
            f"Could not fetch resource:\n - The resource 'projects/p/zones/{zone}/instances/{name}' already exists"
        )
    spot = flags.get("provisioning-model") == "SPOT"
    if spot and ("maintenance-policy" in flags or "no-restart-on-failure" in flags):
        raise Refused(
            "Could not fetch resource:\n - Scheduling must have preemptible be false when AutomaticRestart is set."
        )
    if "accelerator" in flags and not spot and flags.get("maintenance-policy") != "TERMINATE":
        raise Refused("Could not fetch resource:\n - Instances with guest accelerators do not support live migration.")
    if "instance-termination-action" in flags and not spot and "max-run-duration" not in flags:
        raise Refused("argument --instance-termination-action: needs --provisioning-model=SPOT or --max-run-duration.")
    if not re.fullmatch(r"[0-9]+s", flags.get("max-run-duration", "1s")):
        raise Refused("argument --max-run-duration: Failed to parse duration.", 2)
    if flags.get("scopes") not in (None, *SCOPES):
        raise Refused(f"Could not fetch resource:\n - Invalid scope {flags['scopes']}")
    key, _, path = flags["metadata-from-file"].partition("=")
    script = Path(path).read_text()
    if key != "startup-script" or len(script) > 256 * 1024:
        raise Refused("Metadata value is too large.")
    place = machine(name)
    place.mkdir()
    (place / "flags.json").write_text(json.dumps(flags))
    (place / "startup").write_text(script)
    (place / "startup").chmod(0o755)
    (place / "shutdown").write_text(f"#!/bin/sh\ntouch {place}/off\n")
    (place / "shutdown").chmod(0o755)
    (place / "status").write_text("RUNNING")
    environment = {
        **{key: value for key, value in os.environ.items() if key in ("PATH", WORLD, "PYTHONPATH", "LANG", "HOME")},
        "OUTLAST_GCP_ROOT": str(world() / "disks"),
    }
    environment["PATH"] = f"{place}{os.pathsep}{environment['PATH']}"
    started = subprocess.Popen(
        [sys.executable, str(place / "startup")],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=(place / "serial").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd=place,
    )
    (place / "pid").write_text(str(started.pid))
    return "created\n"


def describe(flags: dict[str, str], names: list[str]) -> str:
    existing(names[0], zone_of(flags))
    off = (machine(names[0]) / "off").exists()
    return "TERMINATED\n" if off else (machine(names[0]) / "status").read_text() + "\n"


def delete(flags: dict[str, str], names: list[str]) -> str:
    existing(names[0], zone_of(flags))
    take_back(names[0])
    return ""


def existing(name: str, zone: str) -> None:
    if not (machine(name) / "status").exists():
        raise Refused(
            f"Could not fetch resource:\n - The resource 'projects/p/zones/{zone}/instances/{name}' was not found"
        )


def zone_of(flags: dict[str, str]) -> str:
    zone = flags.get("zone", ZONES[0])
    if zone not in ZONES:
        raise Refused(f"Could not fetch resource:\n - The resource 'projects/p/zones/{zone}' was not found")
    return zone


# buckets ----------------------------------------------------------------------------------------------------------


def place_of(address: str) -> Path:
    if not address.startswith("gs://"):
        return Path(address)
    bucket, _, rest = address.removeprefix("gs://").partition("/")
    place = world() / "buckets" / bucket
    if not place.is_dir():
        raise Refused(f"gs://{bucket} not found: 404.")
    return place / rest.rstrip("/")


def put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def files(place: Path) -> list[Path]:
    return [
        path for path in sorted(place.rglob("*")) if path.is_file() and not path.name.startswith(f".{os.getpid()}.")
    ]


def cp(flags: dict[str, str], names: list[str]) -> str:
    source, target = place_of(names[0]), place_of(names[1])
    if source.is_file():
        put(source, target / source.name if target.is_dir() else target)
        return ""
    if not source.is_dir() or not files(source) or "recursive" not in flags:
        raise Refused(f"The following URLs matched no objects or files:\n{names[0]}")
    for path in files(source):
        put(path, target / source.name / path.relative_to(source))
    return ""


def rsync(flags: dict[str, str], names: list[str]) -> str:
    source, target = map(place_of, names)
    if not source.is_dir():
        raise Refused(f"Did not find existing container at: {names[0]}")
    for path in files(source) if "recursive" in flags else []:
        there = target / path.relative_to(source)
        try:
            now = path.stat()
            if not there.exists() or there.stat().st_size != now.st_size or there.stat().st_mtime < now.st_mtime:
                put(path, there)
        except FileNotFoundError:  # a temporary file of the training
            continue
    return ""


def ls(_: dict[str, str], names: list[str]) -> str:
    if names[0].endswith("/**"):
        top = place_of(names[0][:-3])
        if not files(top):
            raise Refused("One or more URLs matched no objects.")
        return "".join(f"{names[0][:-2]}{path.relative_to(top).as_posix()}\n" for path in files(top))
    place = place_of(names[0])
    found = [each for each in sorted(place.glob("*")) if each.is_file() or files(each)]
    if not found:
        raise Refused("One or more URLs matched no objects.")
    return "".join(f"{names[0].rstrip('/')}/{each.name}{'/' if each.is_dir() else ''}\n" for each in found)


def rm(flags: dict[str, str], names: list[str]) -> str:
    place = place_of(names[0])
    if place.is_file():
        place.unlink()
    elif "recursive" in flags and place.is_dir() and files(place):
        shutil.rmtree(place)
    else:
        raise Refused(f"The following URLs matched no objects or files:\n{names[0]}")
    return ""


COMMANDS: dict[tuple[str, ...], tuple[Callable[[dict[str, str], list[str]], str], int, tuple[str, ...]]] = {
    ("compute", "instances", "create"): (create, 1, (
        "project", "zone", "machine-type", "accelerator", "image-family", "image-project", "boot-disk-size",
        "provisioning-model", "instance-termination-action", "max-run-duration", "maintenance-policy",
        "no-restart-on-failure", "scopes", "metadata-from-file", "labels",
    )),
    ("compute", "instances", "describe"): (describe, 1, ("project", "zone", "format")),
    ("compute", "instances", "delete"): (delete, 1, ("project", "zone")),
    ("storage", "cp"): (cp, 2, ("recursive",)),
    ("storage", "rsync"): (rsync, 2, ("recursive",)),
    ("storage", "ls"): (ls, 1, ()),
    ("storage", "rm"): (rm, 1, ("recursive",)),
    ("config", "get-value"): (lambda _flags, _names: "ada@example.com\n", 1, ()),
}  # fmt: skip
SWITCHES = ("recursive", "quiet", "no-restart-on-failure")


def main(argv: list[str]) -> int:
    with (world() / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(argv) + "\n")
    if (fault := world() / "fault").exists():
        words, when, error, code = fault.read_text().split("|", 3)
        if set(words.split()) <= set(argv):
            fault.unlink()
            if when == "after":
                _answer(argv)
            sys.stderr.write(f"{error}\n")
            return int(code)
    return _answer(argv)


def _answer(argv: list[str]) -> int:
    command = next((words for words in COMMANDS if tuple(argv[: len(words)]) == words), None)
    if command is None:
        sys.stderr.write(f"ERROR: (gcloud) Invalid choice: '{' '.join(argv[:2])}'.\n")
        return 2
    work, most, known = COMMANDS[command]
    flags: dict[str, str] = {}
    names: list[str] = []
    try:
        for word in argv[len(command) :]:
            name, _, value = word.removeprefix("--").partition("=")
            if not word.startswith("--"):
                names.append(word)
            elif name not in (*known, "quiet") or (name in SWITCHES) == bool(value):
                raise Refused(f"unrecognized arguments: {word}", 2)
            else:
                flags[name] = value
        if len(names) != most:
            raise Refused(f"argument: expected {most}, got {names}", 2)
        sys.stdout.write(work(flags, names))
    except Refused as error:
        sys.stderr.write(f"ERROR: (gcloud.{'.'.join(command)}) {error}\n")
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))


def wait_for(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.1)
