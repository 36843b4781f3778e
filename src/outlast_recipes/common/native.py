"""C sources of this package, compiled for the processor of this machine when they are first needed.

What was compiled is kept in the user's cache, by the source, the compiler and the processor, as a machine with the same
home may have another processor. A machine without a compiler is told why, and whoever asked computes in another way.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

_COMPILERS = ("cc", "gcc", "clang")
_OPTIONS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-fPIC", "-w")
_NOT = "not compiled"
_HEADERS = Path(__file__).parent  # vectors.h
_SECONDS = 300  # of compiling, on a machine with many other processes


def library(source: Path, *folders: Path) -> ctypes.CDLL | str:
    """The compiled source, or in words why there is none.

    Args:
        source: a C file that links to nothing beyond the C library.
        folders: where headers are that it includes, besides those beside this module.
    """
    if source not in _asked:
        _asked[source] = _compiled(source, *(f"-I{folder}" for folder in (_HEADERS, *folders)))
    return _asked[source][0]


_asked: dict[Path, tuple[ctypes.CDLL | str, str]] = {}
"""Source -> what was compiled, and a short form of all that decides its results."""


def how(source: Path, *folders: Path) -> str:
    """How this source was compiled, as a short text: other bits of a result may follow from another one."""
    library(source, *folders)
    return _asked[source][1]


def _compiled(source: Path, *headers: str) -> tuple[ctypes.CDLL | str, str]:
    if os.name != "posix":
        return "sources are compiled on Linux and macOS only", _NOT
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return f"no C compiler was found ({', '.join(_COMPILERS)})", _NOT
    try:
        key = _key(compiler, source, *headers)
        name = f"{source.stem}-{key}.so"
        with tempfile.TemporaryDirectory(prefix="outlast-") as work:
            folder = _cache()
            kept = folder / name if folder else None
            if kept and kept.is_file():
                try:
                    return ctypes.CDLL(str(kept)), key
                except OSError:
                    pass  # damaged: it is compiled again
            made = Path(work) / name
            _called(compiler, *_OPTIONS, *headers, "-shared", str(source), "-o", str(made))
            found = ctypes.CDLL(str(made))
            if folder and kept:
                _keep(made, kept)
            return found, key
    except (OSError, subprocess.SubprocessError) as error:
        words = str(getattr(error, "stderr", "") or error).strip().splitlines() or [type(error).__name__]
        return f"{compiler} did not compile {source.name}: {words[0]}", _NOT


def _key(compiler: str, source: Path, *headers: str) -> str:
    """Of all that decides what is compiled: the source with its headers, without their places, and the macros that the
    compiler sets, which tell its version and the processor."""
    macros = _called(compiler, *_OPTIONS, "-dM", "-E", "-x", "c", os.devnull)
    whole = _called(compiler, *_OPTIONS, *headers, "-E", "-P", str(source))
    return hashlib.sha256("\0".join((compiler, *_OPTIONS, macros, whole)).encode()).hexdigest()[:16]


def _called(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS).stdout


def _cache() -> Path | None:
    """The folder of compiled sources; none where it cannot be made, or where others could put something into it."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "outlast" / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except (OSError, RuntimeError):  # no home at all
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    return folder if about.st_uid == os.getuid() and not about.st_mode & others else None


def _keep(made: Path, kept: Path) -> None:
    """Another process may keep the same one at this moment."""
    beside = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        shutil.copyfile(made, beside)
        beside.replace(kept)
    except OSError:  # a full disk: it is compiled again the next time
        beside.unlink(missing_ok=True)
