"""The log and the state of a session, and its cancellation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from outlast.errors import UsageError
from outlast.launch.provider import Provider, State
from outlast.launch.records import LaunchRecord

_LONGEST = 200  # most characters of a fact
_KNOWN = ("session", "image", "device", "exit")
ALIVE = ("queued", "running", "saving")
"""Words of `state_of` for a session that has not ended."""


def mark_in(line: str, word: str) -> str:
    """The facts in a log line such as "::outlast session 12345"; empty for other lines."""
    match = re.fullmatch(rf"::outlast {word} (.*)", line.strip())
    return match[1] if match else ""


def _bounded(word: str, value: str) -> str:
    """A fact that a session printed, if it is valid; otherwise empty. Any program in a session can print such lines."""
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
    """The lines that the session prints, from the first. Lines that hold facts about the session are recorded instead.

    Args:
        provider: the provider.
        record: the launch.
        until_over: continue until the session has ended; False: only the lines so far.
        pause: seconds between two queries.
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
    """Record the facts that the session has printed so far; returns its state, as `state_of` does."""
    for _ in follow(provider, record, until_over=False):
        pass
    return state_of(provider, record)


def state_of(provider: Provider, record: LaunchRecord) -> str:
    """The state of a session as a word.

    It is one of queued, running, saving, succeeded, stopped (saved, with work left), failed(code), timed-out,
    out-of-memory, cancelled and lost; refused or deleted for a session that was never started or was deleted.
    """
    state = provider.state(record.handle)
    if state is None:
        return record.record["state"] if record.record["state"] in ("refused", "deleted") else "lost"
    if state.word not in ("completed", "failed"):
        return state.word
    code = str(record.record.get("exit", int(state.word == "failed")) if state.exit is None else state.exit)
    if state.word == "failed" and code == "0":
        code = "1"  # the training may have printed a success that the provider contradicts
    return {"0": "succeeded", "75": "stopped"}.get(code, f"failed({code})")


def cancel(provider: Provider, record: LaunchRecord) -> None:
    """End a session. Its files are kept; steps after its last save are lost.

    Raises:
        UsageError: it is not running, or cannot be ended now.
        LaunchRefused: the provider refused.
    """
    state = listen(provider, record)
    if state not in ("queued", "running"):
        raise UsageError(f"{record.name} is not running ({state}); there is nothing to stop.")
    provider.cancel(record.handle)
