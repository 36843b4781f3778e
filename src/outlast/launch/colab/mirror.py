"""What a session on Colab has left so far, copied to its folder on this machine.

Nothing of a runtime is kept when it ends, which may be at any moment, so files are copied while it trains. The folder
holds log/000001 ... and work/; mirror.json says which files are here. Two processes may copy at the same time.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.errors import CorruptCheckpoint, LaunchError
from outlast.folder import durable, plain, reading, records
from outlast.launch.colab.client import Absent, Colab
from outlast.launch.colab.startup import PIECE
from outlast.launch.keeper import write
from outlast.launch.sessionfolders import END, read

_MOST = 100_000  # files of a session
_PART = re.compile(r"files-[0-9]{4,9}-[0-9]{3,6}", re.ASCII)
_FILES = records.form(
    {
        "number": records.whole(1, 10**9),
        "names": records.many(records.text(1000), _MOST),
        "parts": records.many(records.many(records.text(64), 2), _MOST),
    }
)
STATUS = records.form(
    {
        "log": records.whole(0, 999_999 * PIECE),
        "seconds": records.number,
        "files": records.or_null(_FILES),
        "end": records.or_null(END),
    }
)
_HERE = records.form({"files": records.whole(0, 10**9)})


class Mirror:
    """The copy of a session.

    Args:
        colab: Google's command.
        folder: the session's folder on this machine; its name is that of the runtime.
    """

    def __init__(self, colab: Colab, folder: Path) -> None:
        self._colab, self._folder = colab, folder
        self._far = f"content/{folder.name}"

    def status(self, *, begun: bool = False) -> Mapping[str, Any] | None:
        """What the session says about itself; None if it has not begun, or has lost its files.

        Args:
            begun: whether it is known to have begun.

        Raises:
            Gone: there is no such runtime.
            LaunchError: there is no answer, or one that outlast does not understand.
        """
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            place = Path(scratch) / "status.json"
            try:
                self._colab.download(self._folder.name, f"{self._far}/out/status.json", place, there=begun)
                return reading.read_record(place, STATUS)
            except Absent:
                return None
            except CorruptCheckpoint as error:
                raise LaunchError(f"The status of {self._folder.name} cannot be read: {error}") from error

    def copy(self, status: Mapping[str, Any]) -> None:
        """Copy what is new.

        Raises:
            Gone: there is no such runtime any more.
            Absent: something was replaced meanwhile; what is here is whole.
            LaunchError: something did not arrive.
        """
        self._copy_log(status["log"])
        if (files := status["files"]) and files["number"] > self._number():
            self._copy_files(files)
            if not status["end"]:
                self._send("ack", str(files["number"]))

    def log(self) -> bytes:
        """The log so far."""
        return b"".join(path.read_bytes() for path in plain.entries(self._folder / "log") if path.name.isdecimal())

    def ask_to_stop(self) -> None:
        """Ask the training to save and stop."""
        self._send("cancel", "")

    def _number(self) -> int:
        here = read(self._folder / "mirror.json", _HERE)
        return int(here["files"]) if here else 0

    def _copy_log(self, size: int) -> None:
        here = {path.name: path.stat().st_size for path in plain.entries(self._folder / "log")}
        for number in range(1, -(-size // PIECE) + 1):
            name = f"{number:06d}"
            if here.get(name, 0) < min(PIECE, size - (number - 1) * PIECE):
                with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
                    place = Path(scratch) / name
                    self._colab.download(self._folder.name, f"{self._far}/out/log-{name}", place)
                    durable.make_folder(self._folder / "log")
                    durable.write_file(self._folder / "log" / name, [place.read_bytes()])

    def _copy_files(self, files: Mapping[str, Any]) -> None:
        names = set(files["names"])
        if strange := sorted(name for name in names if not _is_plain(name)):
            raise LaunchError(f"{self._folder.name} names a file {strange[0][:200]!r}; expected one of its own.")
        work = self._folder / "work"
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            whole = Path(scratch) / "whole.zip"
            with whole.open("wb") as file:
                for part, digest in files["parts"]:
                    file.write(self._part(part, digest, Path(scratch)))
            with zipfile.ZipFile(whole) as archive:
                for name in sorted(names & set(archive.namelist())):
                    durable.make_folder((work / name).parent)
                    with archive.open(name) as data:
                        durable.write_file(work / name, iter(lambda: data.read(1 << 20), b""))
        for path in plain.plain_files(work):
            if path.relative_to(work).as_posix() not in names:
                durable.remove_any(path)
        if missing := sorted(name for name in names if plain.kind_of(work / name) != "file"):
            raise LaunchError(f"{self._folder.name}: {missing[0][:200]} is not here, and is not sent again.")
        write(self._folder / "mirror.json", {"files": files["number"]})

    def _part(self, name: str, digest: str, scratch: Path) -> bytes:
        if not _PART.fullmatch(name):
            raise LaunchError(f"{self._folder.name} names a part {name[:200]!r}; expected such as files-0001-000.")
        self._colab.download(self._folder.name, f"{self._far}/out/{name}", scratch / "part")
        data = (scratch / "part").read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise LaunchError(f"{self._folder.name}: {name} was changed on its way.")
        return data

    def _send(self, name: str, text: str) -> None:
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            (Path(scratch) / name).write_text(text)
            self._colab.upload(self._folder.name, Path(scratch) / name, f"{self._far}/{name}")


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file below a folder."""
    return not {"", ".", ".."} & set(name.split("/")) and "\\" not in name and "\0" not in name
