"""An SFTP server: asyncssh's own, in a process of its own on 127.0.0.1, for one user with one key.

    python -m tests.standins.sftp.server FOLDER [without-links]   FOLDER gets the client's .ssh; prints the port

It serves the whole file system, as OpenSSH's does. `without-links` leaves out hardlink@ and fsync@openssh.com.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import asyncssh


class Plain(asyncssh.SFTPServer):
    """A server without OpenSSH's extensions; its rename does not overwrite, as version 3 of the protocol says."""

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported("no links")

    def fsync(self, file_obj: object) -> None:
        raise asyncssh.SFTPOpUnsupported("no fsync")


async def main(folder: Path, kind: str) -> None:
    ssh = folder / ".ssh"
    ssh.mkdir(mode=0o700)
    host, user = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user.write_private_key(ssh / "id_ed25519")
    (ssh / "authorized").write_bytes(user.export_public_key())
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host],
        authorized_client_keys=str(ssh / "authorized"),
        sftp_factory=Plain if kind == "without-links" else True,
        process_factory=None,
    )
    port = server.get_port()
    key = host.export_public_key().decode().split()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
    (ssh / "config").write_text(
        f"Host standin\n  HostName 127.0.0.1\n  Port {port}\n  User me\n  IdentityFile {ssh}/id_ed25519\n"
        f"  UserKnownHostsFile {ssh}/known_hosts\n"
    )
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the test process ends
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if sys.argv[2:] else ""))
