#!/usr/bin/env bash
# asyncssh 2.24.1: SFTP's put() and get() cut a file that ends in a hole, and report success.
#
# Guess:    `await sftp.put(a, b)` copies the bytes of a. `sparse=True`, the default, only saves the
#           sending of zeros.
# Happens:  a file that was set to its size first and is filled up to a part (4 MiB of 16 MiB here)
#           arrives as 4 MiB: holes between data are kept, but a hole at the end is not, and nothing
#           sets the size. A file that is one hole arrives empty. There is no error. With
#           `sparse=False` all is right.
# Version:  asyncssh 2.24.1, Python 3.11, on Linux and a file system that has holes. The server is
#           asyncssh's own; put() looks for holes on the local side and would do so for any server.
# Known:    no issue was found. The documentation of `sparse` says only that it makes a sparse copy.
# Matters:  torch.from_file(path, shared=True, size=n) makes such files (caches of features, replay
#           buffers that are not full yet), and so do `truncate -s`, `cp --sparse=always` and
#           `rsync -S` of a file that ends in zeros. The copy is too short, and it is noticed when
#           it is loaded, in another session.
# outlast:  calls neither; it reads and writes each byte itself (src/outlast/remote/sftp.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet asyncssh==2.24.1
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import asyncio
import os
from pathlib import Path

import asyncssh

MIB = 2**20
FILES = {
    "a hole in the middle": [(0, 4), (12, 16)],
    "a hole at the end": [(0, 4)],
    "one hole": [],
    "no hole": [(0, 16)],
}


class Open(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False


def make(path, filled):
    with path.open("wb") as file:
        file.truncate(16 * MIB)
        for begin, end in filled:
            file.seek(begin * MIB)
            file.write(b"x" * ((end - begin) * MIB))


def has_holes(path):
    with path.open("rb") as file:
        return os.lseek(file.fileno(), 0, os.SEEK_HOLE) < 16 * MIB


async def main():
    source, copy = Path("source"), Path("copy")
    make(source, [(0, 4)])
    if not has_holes(source):
        raise SystemExit("this file system has no holes")
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=Open, sftp_factory=True
    )
    line = f"[127.0.0.1]:{server.get_port()} {key.export_public_key().decode()}"
    hosts = asyncssh.import_known_hosts(line)
    async with (
        server,
        asyncssh.connect(
            "127.0.0.1", server.get_port(), username="u", known_hosts=hosts, config=None
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        for name, filled in FILES.items():
            source.unlink()
            make(source, filled)
            for verb, options in (("put", {}), ("get", {}), ("put", {"sparse": False})):
                await getattr(sftp, verb)(str(source.resolve()), str(copy.resolve()), **options)
                same = source.read_bytes() == copy.read_bytes()
                size = copy.stat().st_size // MIB
                print(f"{name}, {verb} {options}: {size} of 16 MiB, the same bytes: {same}")


asyncio.run(main())
PY
cat >"$work/known" <<'TXT'
a hole in the middle, put {}: 16 of 16 MiB, the same bytes: True
a hole in the middle, get {}: 16 of 16 MiB, the same bytes: True
a hole in the middle, put {'sparse': False}: 16 of 16 MiB, the same bytes: True
a hole at the end, put {}: 4 of 16 MiB, the same bytes: False
a hole at the end, get {}: 4 of 16 MiB, the same bytes: False
a hole at the end, put {'sparse': False}: 16 of 16 MiB, the same bytes: True
one hole, put {}: 0 of 16 MiB, the same bytes: False
one hole, get {}: 0 of 16 MiB, the same bytes: False
one hole, put {'sparse': False}: 16 of 16 MiB, the same bytes: True
no hole, put {}: 16 of 16 MiB, the same bytes: True
no hole, get {}: 16 of 16 MiB, the same bytes: True
no hole, put {'sparse': False}: 16 of 16 MiB, the same bytes: True
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the same bytes each time."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
