"""The errors of outlast, as one tree.

    OutlastError                    exit 1   something failed and a retry will not help
    ├── UsageError                  exit 2   what was typed or written cannot be done
    │   ├── ConfigError             exit 2   a value, key or file of the configuration
    │   └── UnknownName             exit 2   no recipe, run or checkpoint of that name
    ├── RunBusy                     exit 1   another live attempt writes this run
    ├── UnsafeFolder                exit 1   a link or special file stands where a file of a run folder belongs
    ├── ResumeRefused               exit 1   the checkpoint and this program do not fit together
    ├── StateError                  exit 1   something tracked cannot be saved without pickle
    ├── DataError                   exit 1   data missing or malformed
    ├── RankFailed                  exit 1   another process of this attempt failed
    │   └── RankGone                exit 1   it is gone, or did not answer
    ├── LaunchError                 exit 1   an attempt on another machine could not be started, followed or fetched
    │   ├── LaunchRefused           exit 1   a provider has refused something, in its words
    │   ├── QuotaUsedUp             exit 75  no hours are left this week; run the same command again when there are
    │   └── AnswerLost              exit 1   an answer was lost: what was asked may have happened
    ├── RemoteError                 exit 1   a remote has not done what it was asked for
    │   ├── RemoteRefused           exit 1   it will not, however often it is asked: permanent
    │   │   ├── ObjectMissing       exit 1   it holds nothing of that name
    │   │   └── ObjectConflict      exit 1   what it holds under that name is another object
    │   └── RemoteUnavailable       exit 1   it could not this time: transient
    ├── PublishFailed               exit 1   a publication did not become visible, or it is not known whether it did
    │   └── PublishConflict         exit 1   another publication has its name
    ├── TrackerFailed               exit 1   a tracker has not taken all of a run; sending again continues
    ├── SecretFound                 exit 1   a file that was to be published holds a secret
    └── CheckpointError             exit 1
        ├── CorruptCheckpoint       exit 1   one checkpoint fails its hashes
        ├── NoGoodCheckpoint        exit 1   there are checkpoints and none verifies
        └── SaveFailed              exit 1   a save did not reach the disk; the ones before it are intact

    SessionEnded (a SystemExit)     exit 75 or 130; not an error: the session ends, the run continues elsewhere
    RunNotFinished (BaseException)  the same in a notebook or at a prompt, which live on

Messages are sentences that name the thing, what was found, what was expected and what to do next:
docs/reference/style.md.
"""

from __future__ import annotations

from typing import Literal

from outlast.terminal import visible

EXIT_FINISHED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_RUN_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: stopped cleanly with work left, run me again."""
EXIT_INTERRUPTED = 130


ANOTHER_NAME = "another name (open_run's name, or --experiment-name)"
"""How a sentence tells to choose one: scripts and the command line both read it."""


class OutlastError(Exception):
    """Base of every error that outlast raises on purpose."""

    exit_code = EXIT_FAILED

    def __str__(self) -> str:
        """The sentence. Names in it may come from anywhere, and Python prints it in tracebacks as it is."""
        return visible(super().__str__(), keep="\n\t")


class _OneLine(Exception):
    """An error that a notebook shows as one line, because its traceback has no further information.

    Scripts keep theirs.
    """

    def _render_traceback_(self) -> list[str]:
        """The text that IPython shows; with a traceback if the error has a cause."""
        if self.__cause__ is not None and not isinstance(self.__cause__, OutlastError | OSError):
            import traceback  # most programs show no error

            return [line.rstrip("\n") for line in traceback.format_exception(self)]
        return [f"{type(self).__name__}: {self}"]


class UsageError(_OneLine, OutlastError):
    """The request is invalid."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """A key, a value or a file of the configuration is wrong."""


class UnknownName(UsageError):
    """No recipe, run or checkpoint has this name."""


class RunBusy(_OneLine, OutlastError):
    """Another live attempt holds the run's lock."""


class UnsafeFolder(OutlastError):
    """A link or a special file stands where a file or folder of a run folder belongs.

    Nothing was written through it.
    """


class ResumeRefused(_OneLine, OutlastError):
    """The stored state does not fit the program that asks for it."""


class StateError(_OneLine, OutlastError):
    """Something tracked cannot be stored as arrays and JSON."""


class DataError(OutlastError):
    """Training data is missing or malformed."""


class RankFailed(OutlastError):
    """Several processes train together, and another one of them failed or is gone."""


class RankGone(RankFailed):
    """Several processes train together, and another one of them is gone, or did not answer."""


class LaunchError(OutlastError):
    """An attempt on another machine could not be started, followed or fetched."""


class QuotaUsedUp(LaunchError):
    """No hours are left for a session. Run the same command again when the quota is renewed."""

    exit_code = EXIT_RUN_AGAIN


class LaunchRefused(LaunchError):
    """A provider has refused a request.

    Attributes:
        again: whether the same request may be accepted later: "moment" (the provider is busy, or was not reached),
            "full" (other sessions use all slots), or "" (it will be refused again).
    """

    def __init__(self, words: str, again: Literal["", "moment", "full"] = "") -> None:
        super().__init__(words)
        self.again = again


class AnswerLost(LaunchError):
    """The answer to something that must not be done twice was lost."""


class RemoteError(OutlastError):
    """A remote has not done what it was asked for.

    Attributes:
        reason: why, in the words of the service or the system.
    """

    def __init__(self, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason


class RemoteRefused(RemoteError):
    """The same request would be refused again: not allowed, not possible, no space, a bad name."""


class ObjectMissing(RemoteRefused):
    """The remote holds nothing under this name."""


class ObjectConflict(RemoteRefused):
    """The remote holds another object under this name than the one that was meant."""


class RemoteUnavailable(RemoteError):
    """The same request may succeed later.

    Examples are a timeout, a lost connection, or a service that asks to be left alone for a while.

    Attributes:
        after: seconds after which the service asks to be asked again, if it says so.
    """

    def __init__(self, sentence: str, reason: str = "", after: float | None = None) -> None:
        super().__init__(sentence, reason)
        self.after = after


class PublishFailed(OutlastError):
    """A publication did not become visible, or it is not known whether it did; it is complete if it did."""


class TrackerFailed(OutlastError):
    """A tracker has not taken all of a run; sending again continues after what it has."""


class SecretFound(OutlastError):
    """A file that was to be published holds a secret; nothing has left the machine."""


class PublishConflict(PublishFailed):
    """Another publication has this name; it was not changed."""


class CheckpointError(OutlastError):
    """Base of what can go wrong with checkpoints."""


class CorruptCheckpoint(CheckpointError):
    """A checkpoint's files differ from its manifest."""


class NoGoodCheckpoint(CheckpointError):
    """Checkpoints exist and none of them verifies."""


class SaveFailed(CheckpointError):
    """A checkpoint could not be written; earlier ones are untouched."""


class SessionEnded(SystemExit):
    """Leaves the training loop when the session must end and the run has work left.

    It is a SystemExit, so that a plain script ends with the right exit code without a line of its own, and so that an
    `except Exception` around the loop does not swallow it. The state is already saved when it is raised.

    Attributes:
        code: 75 when the run wants to be started again, 130 when the user interrupted it.
        reason: the attempt's end reason: "budget", "preempted" or "cancelled".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(EXIT_INTERRUPTED if reason == "cancelled" else EXIT_RUN_AGAIN)
        self.reason = reason


class RunNotFinished(BaseException):
    """Raised in a notebook's cell, or at a prompt, in place of SessionEnded.

    The state is saved. It is raised, so that "Run all" and tools such as nbclient and papermill stop at this cell, and
    the cells after it do not run on an unfinished model; the notebook shows its sentence and no traceback. `except
    outlast.RunNotFinished` continues all the same.

    Attributes:
        reason: the attempt's end reason: "budget", "preempted" or "cancelled".
        code: the exit code that a script would have ended with: 75 or 130.
    """

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.code = EXIT_INTERRUPTED if reason == "cancelled" else EXIT_RUN_AGAIN

    def _render_traceback_(self) -> list[str]:
        """The text that IPython shows."""
        return [f"{type(self).__name__}: {self}"]
