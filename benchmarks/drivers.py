"""Uploads with the drivers of outlast beside a plain loop over the same client: throughput, and CPU time of a client.

    python -m benchmarks.drivers [s3] [gs] [sftp] [--count 6] [--size 8] [--rounds 5] [--distance]

The services are the stand-ins of the tests, in processes of their own on this machine. A plain loop sends one file
after the other with the client's own call: no digest of ours, no look at what is there, no precondition. `one by one`
is `put_if_absent` in a loop, `as a push` the same with as many at a time as a push or a publication sends.

On this machine, client and service share the cores, so that the service's own work decides. With `--distance`, S3 is
reached through a relay that holds back everything for 20 ms and passes 50 MB/s of a connection, as a service in another
place does; then one sees what waiting costs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.remotes import CASES

from outlast.remote.parallel import in_parallel

DELAY, RATE, PIECE = 0.02, 50e6, 65536


def plain_s3(remote: Any, files: list[Path], above: str) -> None:
    for file in files:
        with file.open("rb") as opened:
            remote._client.put_object(Bucket=remote._bucket, Key=f"{remote._prefix}{above}/{file.name}", Body=opened)


def plain_gs(remote: Any, files: list[Path], above: str) -> None:
    """As google-cloud-storage sends files of up to 8 MiB."""
    for file in files:
        about = json.dumps({"name": f"{remote._prefix}{above}/{file.name}"}).encode()
        body = b"\r\n".join(
            [
                b"--x\r\nContent-Type: application/json; charset=UTF-8\r\n",
                about,
                b"--x\r\nContent-Type: application/octet-stream\r\n",
                file.read_bytes(),
                b"--x--\r\n",
            ]
        )
        url = f"{remote._endpoint}/upload{remote._objects}"
        headers = {"Content-Type": "multipart/related; boundary=x"}
        remote._session.post(url, params={"uploadType": "multipart"}, data=body, headers=headers).raise_for_status()


def plain_sftp(remote: Any, files: list[Path], above: str) -> None:
    async def put() -> None:
        sftp = await remote._sftp()
        await sftp.makedirs(remote._path(above), exist_ok=True)
        for file in files:
            await sftp.put(str(file), remote._path(f"{above}/{file.name}"))

    remote._run("", put(), patient=True)


PLAIN = {"s3": plain_s3, "gs": plain_gs, "sftp": plain_sftp}


def ways(kind: str) -> dict[str, Callable[[Any, list[Path], str], None]]:
    def one_by_one(remote: Any, files: list[Path], above: str) -> None:
        for file in files:
            assert remote.put_if_absent(f"{above}/{file.name}", file)

    def as_a_push(remote: Any, files: list[Path], above: str) -> None:
        assert all(in_parallel(lambda file: remote.put_if_absent(f"{above}/{file.name}", file), files))

    return {"plain loop": PLAIN[kind], "one by one": one_by_one, "as a push": as_a_push}


def relay(target: int) -> None:
    """Print a port from which connections go to the target: later, and not faster than a line."""
    server = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{server.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        near = server.accept()[0]
        far = socket.create_connection(("127.0.0.1", target))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ends in ((near, far), (far, near)):
            threading.Thread(target=forward, args=ends, daemon=True).start()


def forward(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes from one end; as much as a line has under way waits here."""
    waiting: queue.Queue[tuple[float, bytes]] = queue.Queue(max(1, int(RATE * DELAY / PIECE)))

    def send() -> None:
        free, data = 0.0, b"-"
        with contextlib.suppress(OSError):
            while data:
                due, data = waiting.get()
                free = max(free, due) + len(data) / RATE
                time.sleep(max(0.0, free - time.monotonic()))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    data = b"-"
    with contextlib.suppress(OSError):
        while data:
            data = source.recv(PIECE)
            waiting.put((time.monotonic() + DELAY / 2, data))


def of_a_core() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(kind: str, folder: Path, files: list[Path], rounds: int, *, distance: bool) -> dict[str, Any]:
    """MB/s and ms of a core for each MB; ratios to the plain loop of the same round."""
    patch = pytest.MonkeyPatch()
    folder.mkdir()
    case = CASES[kind](folder, patch)
    with contextlib.ExitStack() as stack:
        stack.callback(patch.undo)
        if distance:
            command = [sys.executable, "-m", "benchmarks.drivers", "--relay", case.url.rpartition(":")[2]]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            case.url = f"http://127.0.0.1:{process.stdout.readline().strip()}"  # type: ignore[union-attr]
        remote = case.make()
        stack.callback(remote.close)
        found = ways(kind)
        for name, way in found.items():  # connections, tokens, and what is found out about the service
            way(remote, files[:1], f"first-{name.replace(' ', '-')}")
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        for number in range(rounds):
            for name, way in list(found.items())[:: 1 if number % 2 else -1]:
                used, begun = of_a_core(), time.perf_counter()
                way(remote, files, f"{name.replace(' ', '-')}-{number}")
                taken[name].append((time.perf_counter() - begun, of_a_core() - used))
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    plain = taken["plain loop"]
    rows: dict[str, Any] = {}
    for name, values in taken.items():
        rows[name] = {
            "MB/s": megabytes / statistics.median(each[0] for each in values),
            "throughput": statistics.median(p[0] / v[0] for p, v in zip(plain, values, strict=True)),
            "ms of a core a MB": statistics.median(each[1] for each in values) / megabytes * 1e3,
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=[])
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--size", type=float, default=8.0, help="MiB of a file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--distance", action="store_true")
    parser.add_argument("--relay", type=int, help=argparse.SUPPRESS)
    values = parser.parse_args()
    if values.relay:
        relay(values.relay)
        return
    results = {}
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"file{number}" for number in range(values.count)]
        for file in files:
            file.write_bytes(os.urandom(int(values.size * 2**20)))
        for kind in values.kinds or (["s3"] if values.distance else list(PLAIN)):
            if values.distance and kind != "s3":
                parser.error("--distance is for s3 alone: other services name addresses of their own")
            rows = measure(kind, Path(name) / kind, files, values.rounds, distance=values.distance)
            results[kind] = rows
            for way, row in rows.items():
                print(
                    f"{kind:5} {way:11} {row['MB/s']:8.1f} MB/s   {row['throughput']:5.2f} of the plain loop"
                    f"   {row['ms of a core a MB']:6.2f} ms of a core a MB"
                )
    place = Path("benchmarks/results")
    place.mkdir(parents=True, exist_ok=True)
    (place / "drivers.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
