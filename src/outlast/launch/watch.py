"""The log and the state of a session, and its cancellation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from outlast.errors import UsageError
from outlast.launch.provider import Provider, State
from outlast.launch.records import LaunchRecord

_LONGEST = 200  # letters of a fact
_KNOWN = ("session", "image", "device", "exit")
ALIVE = ("queued", "running", "saving")
"""Words of `state_of` for a session that has not ended."""


def mark_in(line: str, word: str) -> str:
    """The facts in a log line such as "::outlast session 12345"; empty for other lines."""
    match = re.fullmatch(rf"::outlast {word} (.*)", line.strip())
    return match[1] if match else ""


def _bounded(word: str, value: str) -> str:
    """A fact that a session has printed, if it may go on record; else empty. Whatever runs in a session can print."""
    if word == "exit":
        return value if re.fullmatch(r"[0-9]{1,3}", value) else ""
    return value if len(value) <= _LONGEST else ""


def follow(
    provider: Provider,
    record: LaunchRecord,
    *,
    until_over: bool = True,
    pause: float = 5.0,
    seen: Callable[[State | None], None] = lambda _: None,
) -> Iterator[str]:
    """The lines that the session prints, from the first; what it says of itself goes on record instead.

    Args:
        provider: where it runs.
        record: the launch.
        until_over: False: only what was printed so far.
        pause: seconds between two looks.
        seen: called with the session's state after each query.
    """
    if provider.state(record.handle) is None:
        seen(None)
        return
    seconds = 0.0

    def looked(state: State | None) -> None:
        nonlocal seconds
        if state and state.seconds:
            seconds = max(seconds, state.seconds)
        seen(state)

    for line in provider.log(record.handle, live=until_over, pause=pause, seen=looked):
        seconds = max(seconds, line.seconds)
        told = {word: value for word in _KNOWN if (value := _bounded(word, mark_in(line.text, word)))}
        if not told:
            yield line.text
        elif not told.items() <= record.record.items():
            record.learn(**told)
    if seconds > record.record.get("seconds", 0.0):
        record.learn(seconds=round(seconds, 1))


def listen(provider: Provider, record: LaunchRecord) -> str:
    """Put on record what the session has said of itself so far; returns its state, as `state_of` does."""
    for _ in follow(provider, record, until_over=False):
        pass
    return state_of(provider, record)


def state_of(provider: Provider, record: LaunchRecord) -> str:
    """In one word or two.

    queued, running, saving, succeeded, stopped (saved, with work left), failed(code), timed-out, out-of-memory,
    cancelled, lost; refused and deleted of what is not there by intention.
    """
    state = provider.state(record.handle)
    if state is None:
        return record.record["state"] if record.record["state"] in ("refused", "deleted") else "lost"
    if state.word not in ("completed", "failed"):
        return state.word
    code = str(record.record.get("exit", int(state.word == "failed")) if state.exit is None else state.exit)
    if state.word == "failed" and code == "0":
        code = "1"  # anything that runs in a session may print that it went well
    return {"0": "succeeded", "75": "stopped"}.get(code, f"failed({code})")


def cancel(provider: Provider, record: LaunchRecord) -> None:
    """End a session; its files are kept, and what came after its last save is lost.

    Raises:
        UsageError: it is not running, or cannot be ended now.
        LaunchRefused: the provider does not do it.
    """
    state = listen(provider, record)
    if state not in ("queued", "running"):
        raise UsageError(f"{record.name} is not running ({state}); there is nothing to stop.")
    provider.cancel(record.handle)
