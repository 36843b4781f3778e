"""The options of a session on Kaggle, and the times that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outlast.environment.kaggle import HOURS, HOURS_TPU, KEPT, reserve
from outlast.launch.options import Option
from outlast.launch.provider import Limits, Terms

OPTIONS = (
    Option(
        "accelerator",
        "accelerator of the session",
        "choice",
        "t4x2",
        ("t4x2", "tpu", "cpu"),
        setting=True,
        meanings={"gpu": "t4x2", "none": "cpu"},
    ),
    Option("internet", "internet access of the session", "switch", True, setting=True),
    Option("secrets", "keys of `outlast kaggle secrets push` for the session", "switch", False, setting=True),
    Option(
        "dataset",
        "dataset of yours that is attached below /kaggle/input; may be given several times",
        "list",
        metavar="OWNER/SLUG",
    ),
    Option(
        "wheels",
        "folder of wheels to install from, for a session without internet",
        "path",
        repeated=False,
        metavar="FOLDER",
    ),
)
REMARKS = (
    Option(
        "kernel_type",
        "kind of kernel",
        "choice",
        "script",
        ("script", "notebook"),
        remark={
            "notebook": "outlast pushes a script, which has the same sessions; `outlast notebook RECIPE` writes a "
            "notebook for the browser."
        },
    ),
)
METERED = {"t4x2": "GPU", "tpu": "TPU"}
GPUS = {"t4x2": 2}

# seconds of quota below which no session is started, because twenty minutes are needed to start and to store outputs
_LEAST = 2400.0
_MARGIN = 5 * 60  # seconds before Kaggle's own limit that stay unused, in addition to those for storing outputs
_SETUP = 15 * 60  # seconds that a session may need before it trains


@dataclass(frozen=True)
class KaggleTerms:
    """The terms of a session.

    Attributes:
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether the kernel has internet access.
        secrets: whether the dataset of `push_secrets` is attached.
        datasets: further "owner/slug" to attach.
        wheels: a folder of wheels for the bundle.
    """

    accelerator: str = "t4x2"
    internet: bool = True
    secrets: bool = False
    datasets: tuple[str, ...] = ()
    wheels: Path | None = None

    @classmethod
    def of(cls, terms: Terms) -> KaggleTerms:
        """The options of a launch, with types."""
        found = {option.name: option.read(terms.options.get(option.name, option.default)) for option in OPTIONS}
        return cls(
            found["accelerator"],
            found["internet"],
            found["secrets"],
            tuple(found["dataset"] or ()),
            Path(found["wheels"]) if found["wheels"] else None,
        )

    @property
    def limits(self) -> Limits:
        """Kaggle's limits. The training time is the session's limit minus the time to save the outputs."""
        session = 3600.0 * (HOURS_TPU if self.accelerator == "tpu" else HOURS)
        return Limits(
            session,
            reserve(0) + _MARGIN,
            _LEAST,
            self.accelerator,
            METERED.get(self.accelerator),
            KEPT,
            gpus=GPUS.get(self.accelerator, 0),
        )

    def backstop(self, training: float) -> int:
        """Seconds after which Kaggle should end the session, late enough to save outputs of the largest size."""
        return int(min(self.limits.session, training + reserve(KEPT) + _SETUP))
