"""What a session on Kaggle says, how it stands, and how it is ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from outlast.errors import UsageError
from outlast.launch.kaggle.client import Kaggle, Status
from outlast.launch.records import LaunchRecord, mark_in

_KNOWN = ("session", "image", "device", "exit")


def follow(
    kaggle: Kaggle,
    record: LaunchRecord,
    *,
    until_over: bool = True,
    pause: float = 5.0,
    seen: Callable[[Status | None], None] = lambda _: None,
) -> Iterator[str]:
    """The lines that the session prints, from the first; what it says of itself goes on record instead.

    Args:
        kaggle: the account.
        record: the launch.
        until_over: False: only what was printed so far.
        pause: seconds between two connections.
        seen: hears what Kaggle says of the session whenever it is asked.
    """
    seconds = 0.0
    for line in kaggle.log(record.record["slug"], until_over=until_over, pause=pause, seen=seen):
        seconds = max(seconds, line.seconds)
        told = {word: value for word in _KNOWN if (value := mark_in(line.text, word))}
        if not told:
            yield line.text
        elif not told.items() <= record.record.items():
            record.learn(**told)
    if seconds > record.record.get("seconds", 0.0):
        record.learn(seconds=round(seconds, 1))


def listen(kaggle: Kaggle, record: LaunchRecord) -> str:
    """Put on record what the session has said of itself so far; returns its state, as `state_of` does."""
    for _ in follow(kaggle, record, until_over=False):
        pass
    return state_of(kaggle, record)


def state_of(kaggle: Kaggle, record: LaunchRecord) -> str:
    """In one word or two.

    queued, running, saving, succeeded, stopped (saved, with work left), failed(code), timed-out, out-of-memory, cancelled, lost;
    refused and deleted of what is not there by intention.
    """
    status = kaggle.status(record.record["slug"])
    if status is None:
        return record.record["state"] if record.record["state"] in ("refused", "deleted") else "lost"
    if not status.over:
        return status.state
    if "exceeded the max" in status.message:
        return "timed-out"
    if "memory" in status.message:
        return "out-of-memory"
    if status.state == "stopped":
        return "cancelled"
    code = record.record.get("exit", "0" if status.state == "complete" else "1")
    return {"0": "succeeded", "75": "stopped"}.get(code, f"failed({code})")


def cancel(kaggle: Kaggle, record: LaunchRecord) -> None:
    """Stop a session by the id that it has printed. Its files are saved first; what came after its last save is lost.

    Raises:
        UsageError: it is not running, or has not printed its id yet.
        KaggleRefused: this kind of login may not.
    """
    slug, state = record.record["slug"], listen(kaggle, record)
    if state not in ("queued", "running"):
        raise UsageError(f"{slug} is not running ({state}); there is nothing to stop.")
    session = record.record.get("session", "")
    if not session.isdigit():
        raise UsageError(
            f"{slug} is {state} and has not printed its session id yet, without which Kaggle stops nothing. Try again when it runs; or delete it in "
            "the browser, which also deletes what it has saved."
        )
    kaggle.cancel(int(session))
