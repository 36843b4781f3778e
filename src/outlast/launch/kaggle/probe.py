"""Measures undocumented limits of Kaggle with the user's account: three short CPU sessions, no GPU time.

outlast does not depend on the answers; docs/how-to/kaggle.md describes what it does instead.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from outlast.kaggle import datasets
from outlast.kaggle.wire import KaggleRefused
from outlast.launch.kaggle.answers import PushRequest, Status
from outlast.launch.kaggle.client import Kaggle
from outlast.launch.watch import mark_in

_FILES = 250

_LIMIT = """
import os, pathlib, signal, time
def heard(number, frame):
    print("::outlast heard", signal.Signals(number).name, flush=True)
    pathlib.Path("heard.txt").write_text("a signal came before the end")
signal.signal(signal.SIGTERM, heard)
for number in range({files}):
    pathlib.Path(f"file-{{number:03d}}.txt").write_text("written early")
print("::outlast written {files}", flush=True)
while True:
    time.sleep(1)
"""

_CANCEL = """
import os, pathlib, time
pathlib.Path("kept.txt").write_text("written before the cancel")
parts = os.environ.get("KAGGLE_CONTAINER_NAME", "").rsplit("-", 2)
print("::outlast session", parts[1] if len(parts) == 3 else "unknown", flush=True)
while True:
    time.sleep(1)
"""

_MOUNT = """
import os, pathlib, tempfile
root = pathlib.Path(os.environ.get("OUTLAST_KAGGLE_ROOT", "/")) / "kaggle"
print("::outlast mounted", *sorted(str(p.relative_to(root)) for p in root.glob("input/**/kept.txt")) or ["nothing"], flush=True)
try:
    import kagglehub
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "probe.txt").write_text("from inside a session")
    kagglehub.dataset_upload("{owner}/{slug}", str(folder))
    print("::outlast dataset made", flush=True)
except BaseException as error:
    print("::outlast dataset", type(error).__name__, flush=True)
"""  # noqa: E501 - code for a kernel


@dataclass(frozen=True)
class Finding:
    """One question, the answer, and what outlast does without the answer."""

    question: str
    answer: str
    relies: str


def probe(kaggle: Kaggle, *, seconds: int = 120, tell: Callable[[str], None], pause: float = 10.0) -> list[Finding]:
    """Run the probe. It takes a little longer than `seconds`, and deletes everything that it created.

    Args:
        kaggle: the account.
        seconds: seconds after which Kaggle should stop the first session.
        tell: called with messages for the user.
        pause: seconds between two queries.

    Raises:
        KaggleRefused: a push was refused.
    """
    name = f"outlast-probe-{secrets.token_hex(3)}"
    slugs = [f"{name}-{kind}" for kind in ("limit", "cancel", "mount")]
    try:
        return _ask(kaggle, slugs, name, seconds, tell, pause)
    finally:
        for slug in slugs:
            if kaggle.status(slug) is not None:
                kaggle.delete(slug)
        datasets.delete(kaggle, name)


def _ask(
    kaggle: Kaggle, slugs: list[str], dataset: str, seconds: int, tell: Callable[[str], None], pause: float
) -> list[Finding]:
    limit, cancel, mount = slugs
    kaggle.push(PushRequest(limit, _LIMIT.format(files=_FILES), seconds=seconds, internet=False))
    early = len(list(kaggle.log(limit, until_over=False)))
    was = kaggle.status(limit)
    kaggle.push(PushRequest(cancel, _CANCEL, seconds=max(600, seconds), internet=False))
    tell(f"two CPU sessions run; Kaggle should stop the first after {seconds} s")
    refused = _cancel(kaggle, cancel, pause)
    tell("the second is cancelled" if not refused else f"the second cannot be cancelled: {refused}")
    kept = sum(1 for _ in kaggle.outputs(cancel))
    kaggle.push(
        PushRequest(
            mount, _MOUNT.format(owner=kaggle.user, slug=dataset), kernels=[f"{kaggle.user}/{cancel}"] if kept else []
        )
    )
    mounted, made = "not tested: the cancelled session kept no files", "the session did not report it"
    for line in kaggle.log(mount, pause=pause):
        mounted = (mark_in(line.text, "mounted") or mounted) if kept else mounted
        made = mark_in(line.text, "dataset") or made
    tell("the third session has looked for the files of the second; waiting for the end of the first")
    heard, last = "no signal", Status("queued")
    for line in kaggle.log(limit, pause=pause):
        if word := mark_in(line.text, "heard"):
            heard = f"{word} came"
    last = kaggle.status(limit) or last
    found = [output.name for output in kaggle.outputs(limit)]
    page = kaggle.page(limit, 500)
    return [
        Finding("files of a session at its hard limit",
            f"{len(found)} of {_FILES} kept; it ended as {last.state}: {last.message or 'no message'}",
            "nothing: training stops before the limit"),
        Finding("a signal before the hard limit", heard, "nothing: training stops before the limit"),
        Finding(f"cancel with this login ({kaggle.credential.kind})", refused or "works",
            "`outlast cancel` prints Kaggle's answer"),
        Finding("files of a cancelled session", f"{kept} kept", "a cancelled session without files is skipped"),
        Finding("whether those files mount in the next session", mounted, ("a newer checkpoint of this machine is "
                                                                          "sent as a dataset")),
        Finding("whether the session's own token can create a dataset", made, ("nothing: results are outputs of the "
                                                                              "session")),
        Finding("the log while a session is queued", f"{early} lines while {was.state if was else 'unknown'}",
            "it asks again until there are some"),
        Finding("files on one page of outputs", f"{page} of {len(found)} in a request for 500",
            "it requests 200 per page and reads all pages"),
    ]  # fmt: skip


def _cancel(kaggle: Kaggle, slug: str, pause: float) -> str:
    """Cancel a session by the id that it prints, and wait for its end; returns Kaggle's refusal, or an empty text."""
    session = ""
    while not session and (status := kaggle.status(slug)) is not None and not status.over:
        for line in kaggle.log(slug, until_over=False):
            session = mark_in(line.text, "session") or session
        if not session:
            kaggle.sleep(pause)
    try:
        kaggle.cancel(int(session) if session.isdigit() else 0)
    except KaggleRefused as error:
        return str(error)
    while (status := kaggle.status(slug)) is not None and not status.over:
        kaggle.sleep(pause)
    return ""
