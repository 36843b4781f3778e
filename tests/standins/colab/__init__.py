"""A stand-in of Google's command `colab` (google-colab-cli 0.7.5): runtimes are folders, kernels are processes.

It takes what outlast asks, refuses all else, and says what the client says; tests/launch/colab/test_colab_client.py
holds it against the client. `install` puts it on a folder that goes before PATH.
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
from pathlib import Path

WORLD = "OUTLAST_TEST_COLAB"
HARDWARE = {"gpu": ("T4", "L4", "G4", "H100", "A100"), "tpu": ("v5e1", "v6e1")}


class Ended(Exception):
    """The end of a command: what it says to stderr, and its exit code."""

    def __init__(self, words: str = "", code: int = 1) -> None:
        super().__init__(words)
        self.code = code


def world() -> Path:
    return Path(os.environ[WORLD])


def install(folder: Path, monkeypatch) -> Path:  # type: ignore[no-untyped-def]
    """Put `colab` on PATH, with nothing in its world; returns the world."""
    place = folder / "bin"
    place.mkdir(parents=True)
    (place / "colab").write_text(f"#!{sys.executable} -SE\n{Path(__file__).read_text()}")
    (place / "colab").chmod(0o755)
    (folder / "server").mkdir()
    (folder / "store").mkdir()
    monkeypatch.setenv(WORLD, str(folder))
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return folder


# runtimes ---------------------------------------------------------------------------------------------------------


def runtime(name: str) -> Path:
    """The folder of a runtime of the client's, which may be gone."""
    store = world() / "store" / name
    if not store.exists():
        print(f"[colab] Session '{name}' not found.")
        raise Ended
    return world() / "server" / store.read_text()


def take_back(place: Path) -> None:
    """What Colab does to a runtime at its end: its processes die, and nothing of it is kept."""
    mark = f"OUTLAST_COLAB_ROOT={place}".encode()
    gone = world() / f"gone-{place.name}"
    with contextlib.suppress(FileNotFoundError):
        place.rename(gone)
    for process in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in process.read_bytes().split(b"\0"):
                os.kill(int(process.parent.name), signal.SIGKILL)
    shutil.rmtree(gone, ignore_errors=True)


def servers() -> list[Path]:
    return sorted(path for path in (world() / "server").iterdir())


def names() -> dict[str, str]:
    return {path.read_text(): path.name for path in sorted((world() / "store").iterdir())}


def new(name: str, *flags: str) -> None:
    given = " ".join(flags)
    kinds = [f"--{kind} {each}" for kind, every in HARDWARE.items() for each in every]
    wanted = re.fullmatch(rf"({'|'.join(kinds)})?( ?--high-mem)?", given)
    if not wanted:
        raise Ended(f"No such option, or a kind that the client takes for another: {given}", 2)
    kind = (wanted[1] or "--cpu CPU")[2:].split()
    print(f"[colab] Creating session '{name}'...")
    if len(servers()) >= 2:
        raise Ended(
            "[colab] Allocation refused (precondition failed). This can mean too many active sessions, or a temporary "
            "usage or capacity limit for the requested runtime. Run `colab stop` to free up a session, wait and retry, "
            "or try a different accelerator."
        )
    if kind[1] == "A100":
        raise Ended(
            "[colab] Backend rejected accelerator 'A100'. You may not have quota or entitlement for this accelerator "
            "on your account. Try a different one (e.g. --gpu T4) or omit --gpu/--tpu for a CPU runtime."
        )
    number = int((world() / "count").read_text()) + 1 if (world() / "count").exists() else 1
    (world() / "count").write_text(str(number))
    place = world() / f"server/m-s-{number}"
    (place / "content").mkdir(parents=True)
    (place / "kind").write_text(f"Hardware: {kind[1].upper()} | Shape: {'High-RAM' if wanted[2] else 'Standard'}"
                                f" | Variant: {'DEFAULT' if kind[0] == 'cpu' else kind[0].upper()}")  # fmt: skip
    (world() / "store" / name).write_text(place.name)
    print("[colab] Session READY.")


def sessions() -> None:
    known, there = names(), [place.name for place in servers()]
    stale = [name for endpoint, name in known.items() if endpoint not in there]
    for name in stale:
        (world() / "store" / name).unlink()
    if stale:
        print(f"[colab] Pruned {len(stale)} stale local session(s).")
    if not there:
        print("[colab] No active sessions found on server.")
    for place in servers():
        print(f"[{known.get(place.name, '?')}] {place.name} | {(place / 'kind').read_text()}")


def usage() -> None:
    count = len(servers())
    print(f"Current balance: 12.50 compute units\nUsage rate: {1.76 * count:.2f}/hr\nActive assignments: {count}")


def stop(name: str) -> None:
    if not (world() / "store" / name).exists():
        print(f"[colab] Session '{name}' not found.")
        return
    place = runtime(name)
    print(f"[colab] Stopping session '{name}'...")
    if not place.exists():
        raise Ended("ColabRequestError: Failed to issue request GET /tun/m/unassign: Not Found")
    take_back(place)
    (world() / "store" / name).unlink()
    print("[colab] Session terminated.")


# code and files ---------------------------------------------------------------------------------------------------


def execute(name: str, flag: str, cell: str, *timeout: str) -> None:
    """Run a cell. The client ends with 0 also when it raised, and the kernel goes on when the client is killed."""
    if flag != "-f" or (timeout and timeout[0] != "--timeout"):
        raise Ended("No such option", 2)
    place = runtime(name)
    if not place.exists():
        raise Ended("ConnectionError: Max retries exceeded")
    kept = ("PATH", "LANG", "OMP_NUM_THREADS", "PYTHONPATH", WORLD)
    environment = {key: value for key, value in os.environ.items() if key in kept}
    with (place / "kernel.txt").open("wb") as told, (place / "errors.txt").open("wb") as errors:
        kernel = subprocess.Popen(
            [sys.executable, "-c", Path(cell).read_text()],
            env={**environment, "OUTLAST_COLAB_ROOT": str(place), "HOME": str(place)},
            stdin=subprocess.DEVNULL, stdout=told, stderr=errors, start_new_session=True, cwd=place / "content",
        )  # fmt: skip
    at = 0
    while True:
        over = kernel.poll() is not None
        said = (place / "kernel.txt").read_bytes() if place.exists() else b""
        sys.stdout.buffer.write(said[at:])
        sys.stdout.buffer.flush()
        at = len(said)
        if over:
            sys.stderr.write((place / "errors.txt").read_text() if place.exists() else "")
            return
        time.sleep(0.02)


def file_in(place: Path, path: str) -> Path:
    if not path.startswith("content/") or ".." in path:
        raise Ended("not a path below content/", 2)
    return place / path


def upload(name: str, source: str, target: str) -> None:
    place = runtime(name)
    if not Path(source).is_file():
        print(f"[colab] Local file '{source}' not found.")
        raise Ended
    there = file_in(place, target)
    if not place.exists():
        print("[colab] Upload failed: HTTPConnectionPool(host='127.0.0.1'): Max retries exceeded")
        raise Ended
    if not there.parent.is_dir():
        print(
            "[colab] Upload failed: 500 Server Error: Internal Server Error for url: https://h?colab-runtime-proxy-token=x"
        )
        raise Ended
    temporary = there.with_name(f".{os.getpid()}")
    shutil.copyfile(source, temporary)
    temporary.replace(there)
    print(f"[colab] Uploaded '{source}' to '{target}'")


def download(name: str, source: str, target: str) -> None:
    place = runtime(name)
    if not place.exists():
        print("[colab] Download failed: HTTPConnectionPool(host='127.0.0.1'): Max retries exceeded with url: "
              "/api/contents?colab-runtime-proxy-token=secret-of-a-runtime&content=1")  # fmt: skip
        raise Ended
    if not file_in(place, source).is_file():
        print(f"[colab] Download failed: File or directory not found: {source}")
        raise Ended
    shutil.copyfile(file_in(place, source), target)
    print(f"[colab] Downloaded '{source}' to '{target}'")


COMMANDS = {"new": new, "stop": stop, "exec": execute, "upload": upload, "download": download}


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
    try:
        if argv[0] != "--auth" or argv[1] not in ("oauth2", "adc"):
            raise Ended("expected a kind of login", 2)
        command, *words = argv[2:]
        if command in ("usage", "sessions") and not words:
            usage() if command == "usage" else sessions()
        elif command in COMMANDS and words[0] == "-s":
            COMMANDS[command](*words[1:])  # type: ignore[operator]
        else:
            raise Ended(f"No such command {argv!r}", 2)
    except Ended as end:
        sys.stderr.write(f"{end}\n" if str(end) else "")
        return end.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
