"""The options of a session on Colab."""

from __future__ import annotations

from dataclasses import dataclass

from outlast.environment.colab import HOURS
from outlast.launch.options import Option
from outlast.launch.provider import Limits, Terms

RUNTIMES = ("cpu", "t4", "l4", "g4", "a100", "h100", "v5e1", "v6e1")
"""Names of runtimes. The client takes an unknown GPU for an A100, so only these are passed on."""

AUTHS = ("auto", "oauth2", "adc")

OPTIONS = (
    Option(
        "runtime", "kind of runtime; what is granted depends on the account", "choice", "t4", RUNTIMES, setting=True,
        meanings={"gpu": "t4", "none": "cpu"},
    ),
    Option("highmem", "a runtime with more memory, for accounts that pay", "switch", False, setting=True),
    Option(
        "lifetime", "time after which Colab ends a runtime", "seconds", HOURS * 3600.0, setting=True, metavar="TIME"
    ),
    Option(
        "hold", "how long a runtime waits at its end for its files to be fetched", "seconds", setting=True,
        metavar="TIME", absent="to the end of --lifetime",
    ),
    Option(
        "auth", "login of the client: its own (oauth2), that of gcloud (adc), or whichever there is", "choice", "auto",
        AUTHS, setting=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class ColabTerms:
    """The terms of a session.

    Attributes:
        runtime: one of RUNTIMES.
        highmem: whether more memory is asked for.
        lifetime: seconds after which Colab ends the runtime.
        hold: seconds that it waits for its files to be fetched, or None: to its end.
        auth: the kind of login, one of AUTHS.
    """

    runtime: str
    highmem: bool
    lifetime: float
    hold: float | None
    auth: str

    @classmethod
    def of(cls, terms: Terms) -> ColabTerms:
        """The options of a launch, with types."""
        return cls(*(option.read(terms.options.get(option.name, option.default)) for option in OPTIONS))

    @property
    def saving(self) -> float:
        """Seconds of a session in which its code is sent, and at whose end its files are fetched."""
        return min(1200.0, self.lifetime / 10)

    @property
    def training(self) -> float:
        """Seconds after which the training is ended."""
        return self.lifetime - self.saving

    @property
    def limits(self) -> Limits:
        """A session trains for its lifetime, but for the time in which code is sent and files are fetched."""
        return Limits(self.lifetime, self.saving, accelerator=self.runtime)

    @property
    def flags(self) -> list[str]:
        """The flags of `colab new`."""
        kind = {"cpu": [], "v5e1": ["--tpu", "v5e1"], "v6e1": ["--tpu", "v6e1"]}
        wanted = kind.get(self.runtime, ["--gpu", self.runtime.upper()])
        return [*wanted, *(["--high-mem"] if self.highmem else [])]
