"""The process that `tests.processes` forks from: `template.py SOCKET OWNER MODULE...`. It ends after the process OWNER.

It imports nothing of the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import hashlib
import importlib
import json
import lzma
import os
import random
import runpy
import select
import shutil
import socket
import sys
import threading
import types
import warnings
import weakref
from typing import Any

compress = lzma.compress
PACKED = os.environ.get("OUTLAST_TESTS_PACKED", os.path.dirname(sys.argv[1]) if __name__ == "__main__" else "")
"""The folder of what has been compressed once; a test process and the templates share one."""


def main() -> None:
    """Fork for each connection, while the owner lives."""
    place, owner, modules = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    for module in modules:
        importlib.import_module(module)
    for each in list(weakref.finalize._registry):  # torch's own, of the imports: 40 ms at the end of every process
        each.atexit = False
    gc.collect()
    gc.freeze()  # what is shared with those that are forked stays so
    server = socket.socket(socket.AF_UNIX)
    server.bind(place + ".new")
    server.listen(16)
    os.rename(place + ".new", place)
    warnings.simplefilter("ignore")  # of forking: nothing has started a thread
    children: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor that tells of the end: number, connection
    while True:
        ready, _, _ = select.select([server, *children], [], [], 0.5)
        for ended in set(ready) & set(children):
            child, connection = children.pop(ended)
            tell(connection, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            connection.close()
            os.close(ended)
        if server in ready:
            connection, _ = server.accept()
            try:
                _, streams, _, _ = socket.recv_fds(connection, 1, 2)
                request = json.loads(connection.makefile().readline())
            except (OSError, ValueError):  # the test is gone
                connection.close()
                continue
            child = os.fork()
            if child == 0:
                for each in (server, connection, *(connection for _, connection in children.values())):
                    each.close()
                for descriptor in children:
                    os.close(descriptor)
                warnings.resetwarnings()
                become(request, streams)
            for stream in streams:
                os.close(stream)
            children[os.pidfd_open(child)] = child, connection
            tell(connection, child)
        if not ready and not lives(owner):
            shutil.rmtree(os.path.dirname(place), ignore_errors=True)
            return


def tell(connection: socket.socket, number: int) -> None:
    """Send a line with a number, unless the test is gone."""
    with contextlib.suppress(OSError):
        connection.sendall(f"{number}\n".encode())


def lives(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Be what `python WORDS...` would be."""
    if request["session"]:
        os.setsid()
    if not request["fsync"]:
        os.fsync = lambda descriptor: os.fstat(descriptor) and None
    lzma.compress = packed_once
    for number, descriptor in enumerate(streams, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # The template's own objects remember what its streams were.
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    more = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[1:1] = more
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    words = request["words"]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            sys.path[0] = os.getcwd()
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            sys.path[0] = ""
            module = types.ModuleType("__main__")
            sys.modules["__main__"] = module
            exec(compile(words[1], "<string>", "exec"), module.__dict__)
        else:
            sys.argv = list(words)
            sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
            with open(words[0], "rb") as file:
                code = compile(file.read(), words[0], "exec")
            module = types.ModuleType("__main__")
            module.__file__ = words[0]
            sys.modules["__main__"] = module
            exec(code, module.__dict__)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            print(ended.code, file=sys.stderr)
        leave(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
            trace = trace.tb_next
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        leave(1)
    leave(0)


def packed_once(data: bytes) -> bytes:
    """In place of `lzma.compress`: nearly every launch packs the same code, which takes a second."""
    place = os.path.join(PACKED, f"{hashlib.sha256(data).hexdigest()}.xz")
    try:
        with open(place, "rb") as file:
            return file.read()
    except FileNotFoundError:
        packed = compress(data)
    with open(f"{place}.{os.getpid()}", "wb") as file:
        file.write(packed)
    os.rename(file.name, place)
    return packed


def leave(code: int) -> None:
    """End as the interpreter does, without taking all modules apart: that takes longer than most tests."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
