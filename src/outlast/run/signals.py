"""Signals during training: one handler for all runs of a process; other signals are left to the program.

SIGTERM, SIGHUP and SIGINT end a process, so while a run trains they are taken over. SIGUSR1, SIGUSR2 and SIGXCPU are
what batch systems send some time before the end (Slurm's --signal, a limit of CPU seconds), and also what programs use
for themselves (faulthandler's dump, Lightning's requeue, a debugger): those that the program handles are left alone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from outlast.distributed import workers

REASONS = {"SIGTERM": "preempted", "SIGHUP": "preempted", "SIGINT": "cancelled"}
"""Signals that end a process, and the end reason that they stand for."""

WARNINGS = ("SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Signals that announce an end; they stop a run as SIGTERM does unless the program handles them itself."""

Hear = Callable[[str], None]
"""Is told the name of a signal, in the signal's handler; raises KeyboardInterrupt to leave at once."""

_hearers: dict[Hear, int] = {}  # and the process in which each listens
_previous: dict[int, Any] = {}  # number -> the handler that was there before ours


def listen(hear: Hear) -> list[str]:
    """Send signals to a run, until `leave`. It may be called again: a notebook resets SIGINT at every cell.

    Returns:
        Messages for the user: signals that are not handled, and handlers that are replaced for this time.
    """
    new = hear not in _hearers
    if new:
        _hearers[hear] = os.getpid()
        workers.watch_exit()
    if threading.current_thread() is not threading.main_thread():
        missing = [name for name in ("SIGTERM", "SIGINT") if signal.getsignal(getattr(signal, name)) != _handle]
        if new and missing:
            sentence = (
                "This run trains outside the main thread, where Python allows no signal handlers: "
                f"{' and '.join(missing)} will end the process without "
                "a save. Its budget and the platform's notice still stop it. Train in the main thread to have signals "
                "heard."
            )
            return [sentence]
        return []
    return [sentence for name in (*REASONS, *WARNINGS, "SIGCONT") for sentence in _take(name)]


def leave(hear: Hear) -> None:
    """Stop listening. When the last run stops, the program's handlers are restored."""
    _hearers.pop(hear, None)
    if _hearers or threading.current_thread() is not threading.main_thread():
        return
    for number, handler in _previous.items():
        if signal.getsignal(number) == _handle:
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    _previous.clear()


def handled_by_program(number: int) -> bool:
    """Whether someone else than Python's default or outlast handles or ignores this signal, in Python or below it."""
    handler = signal.getsignal(number)
    if handler == _handle:
        return False
    return handler != signal.SIG_DFL or workers.caught_below_python(number)


def _take(name: str) -> Iterator[str]:
    number = getattr(signal, name, None)
    if number is None or (handler := signal.getsignal(number)) == _handle:
        return
    if handler == signal.SIG_IGN:
        return  # nohup, or a background job: the signal is ignored on purpose
    if name not in REASONS and handled_by_program(number):
        if name in WARNINGS and number not in _told:
            _told.add(number)
            yield (
                f"{name} is handled by this program ({_words(handler)}) and that handler is kept, so {name} does not "
                f"stop the run. To stop the run at it as well, call run.session.request_stop('preempted', '{name} "
                "received') in that handler."
            )
        return
    if name in REASONS and callable(handler) and handler is not signal.default_int_handler and number not in _told:
        _told.add(number)
        yield (
            f"{name} is handled by this program ({_words(handler)}); while the run trains, {name} makes it save and "
            "stop instead, and that handler is "
            "not called. It is restored when the run ends."
        )
    _previous.setdefault(number, handler)
    signal.signal(number, _handle)


_told: set[int] = set()


def _handle(number: int, _frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    here = [hear for hear, process in _hearers.items() if process == os.getpid()]
    if _hearers and not here:  # a forked data loader's worker: its parent decides
        if name != "SIGCONT":
            workers.shield()
            if name != "SIGINT":
                workers.end_later()
        return
    if not _hearers:  # the last run ended in another thread, where handlers cannot be put back
        handler = _previous.pop(number, None)
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    workers.note_signal()
    leaving: KeyboardInterrupt | None = None
    for hear in here:
        try:
            hear(name)
        except KeyboardInterrupt as interrupt:
            leaving = interrupt
    if leaving:
        raise leaving


def _words(handler: Any) -> str:
    if not callable(handler):
        return "below Python, such as faulthandler"
    return f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', type(handler).__qualname__)}"
