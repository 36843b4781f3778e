"""A Google Cloud machine, detected by its metadata server.

Source: cloud.google.com/compute/docs/metadata. Google's own libraries also read GCE_METADATA_HOST.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event

from outlast.environment.base import Environment, machine_limits, present_secrets

HOST = "metadata.google.internal"
TIMEOUT = 0.5
"""Seconds to wait for the name and for an answer; the server is on the same machine and answers in milliseconds."""

_WAIT = 60
"""Seconds for which one request waits for a change."""


def detected(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a metadata server answers as Google's do.

    No request is sent if the firmware names another manufacturer, or if the server's name does not resolve.
    """
    if "GCE_METADATA_HOST" not in environ:
        try:
            maker = (root / "sys/class/dmi/id/product_name").read_text(errors="replace")
        except OSError:
            maker = ""  # in some containers it cannot be read: ask
        if maker and "Google" not in maker:
            return False
        if not _resolves(HOST):
            return False
    return ask("instance/id", environ=environ) is not None


def describe(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Environment:
    """Facts and limits of this machine. It has no fixed end; a Spot machine announces its end 30 seconds before."""
    machine = (ask("instance/machine-type", environ=environ) or "unknown").rpartition("/")[2]
    spot = ask("instance/scheduling/preemptible", environ=environ) == "TRUE"
    return Environment(
        name="gcp",
        limits=machine_limits(root),
        facts={
            "machine": machine,
            "zone": (ask("instance/zone", environ=environ) or "unknown").rpartition("/")[2],
            "spot": "yes" if spot else "no",
        },
        failure_seconds=6 * 3600.0 if spot else 30 * 86400.0,
        secrets=(*present_secrets(environ), "Google Cloud service account (metadata server)"),
        notice=wait_for_preemption,
        probe_host="storage.googleapis.com",
    )


def wait_for_preemption(stop: Event) -> str | None:
    """Wait until Google announces the end of the machine; returns the reason, or None if `stop` is set first."""
    while not stop.is_set():
        begun = time.monotonic()
        # The first question is answered at once, so a notice given before we asked is not missed.
        answer = ask("instance/preempted")
        if answer != "TRUE":
            answer = ask(f"instance/preempted?wait_for_change=true&timeout_sec={_WAIT}", timeout=_WAIT + 5)
        if answer == "TRUE":
            return "Google Cloud takes this machine back"
        if answer is None or time.monotonic() - begun < 1:
            stop.wait(1.0)  # the server is away or does not hold the question open
    return None


def ask(key: str, *, environ: Mapping[str, str] = os.environ, timeout: float = TIMEOUT) -> str | None:
    """One value of the metadata server, or None: no server, no such key, or an answer without Google's header."""
    import http.client  # takes as long as all other imports of this room, and few machines need it

    connection = http.client.HTTPConnection(environ.get("GCE_METADATA_HOST") or HOST, timeout=timeout)
    try:
        connection.request("GET", f"/computeMetadata/v1/{key}", headers={"Metadata-Flavor": "Google"})
        response = connection.getresponse()
        body = response.read(65536).decode("utf-8", errors="replace").strip()
        if response.status == http.HTTPStatus.OK and response.getheader("Metadata-Flavor") == "Google":
            return body
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return None


def _resolves(host: str) -> bool:
    """Whether a name resolves within TIMEOUT; the C library itself would wait for many seconds."""
    import socket  # on most machines nothing is asked

    found = Event()

    def look() -> None:
        try:
            socket.getaddrinfo(host.encode(), 80)  # for a text, Python loads its tables of letters
        except OSError:
            return
        found.set()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return found.is_set()
