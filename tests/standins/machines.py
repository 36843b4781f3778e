"""Two machines: network namespaces of this one, connected by a cable (a veth pair) and by nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

INTERFACE = "cable"


@dataclass(frozen=True)
class Machine:
    """One of them: the name of its namespace, and its address on the cable."""

    name: str
    address: str

    def command(self, *words: str) -> list[str]:
        """A command that runs there."""
        return [shutil.which("ip") or "ip", "netns", "exec", self.name, *words]

    def enter(self) -> None:
        """Move this process there; its threads stay, so that it is for a process that has just been forked."""
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)
        os.environ["GLOO_SOCKET_IFNAME"] = INTERFACE


@contextlib.contextmanager
def two_machines() -> Iterator[Sequence[Machine]]:
    """Two machines, which are gone at the end. The test is skipped where they cannot be made."""
    if not shutil.which("ip"):
        pytest.skip("two machines are network namespaces, and there is no program ip (Debian: iproute2)")
    mark = secrets.token_hex(3)
    machines = [Machine(f"outlast-{mark}-{number}", f"10.77.0.{number}") for number in (1, 2)]
    made: list[Machine] = []
    try:
        try:
            for machine in machines:
                _ip("netns", "add", machine.name)
                made.append(machine)
            one, two = machines
            _ip(
                "link",
                "add",
                INTERFACE,
                "netns",
                one.name,
                "type",
                "veth",
                "peer",
                "name",
                INTERFACE,
                "netns",
                two.name,
            )
            for machine in machines:
                _ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", INTERFACE)
                for device in ("lo", INTERFACE):
                    _ip("-n", machine.name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.decode(errors='replace').strip()}")
        yield machines
    finally:
        for machine in made:
            subprocess.run(["ip", "netns", "delete", machine.name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
