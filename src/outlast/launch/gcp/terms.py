"""The options of a session on Google Cloud, and the command that creates its machine.

Flags: the reference of `gcloud compute instances create`, and the pages on Spot VMs and on limiting the run time of a
VM. A Spot VM takes neither --no-restart-on-failure nor --maintenance-policy; another one with a GPU needs
--maintenance-policy=TERMINATE.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import UsageError
from outlast.launch.options import Option
from outlast.launch.provider import Limits, Terms

BUCKET = r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,8}"
ZONE = r"[a-z]+-[a-z]+[0-9]{1,2}-[a-z]"
PROJECT = r"(?:[a-z0-9.-]{1,60}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"

_REQUIREMENT = r"[A-Za-z0-9][A-Za-z0-9._\[\],<>=!~+-]{0,200}"
"""No address, which may hold a token: the startup script is metadata, which others in the project can read."""

OPTIONS = (
    Option("bucket", "folder of a bucket for code, log and files", "text", setting=True, metavar="gs://BUCKET/FOLDER"),
    Option("zone", "zone of the machine", "text", setting=True, metavar="ZONE", absent="that of gcloud"),
    Option("project", "project that pays", "text", setting=True, metavar="PROJECT", absent="that of gcloud"),
    Option("machine", "machine type", "text", "n1-standard-8", setting=True, metavar="TYPE"),
    Option("gpu", "GPUs of the machine, such as nvidia-tesla-t4:1", "text", setting=True, metavar="TYPE[:COUNT]"),
    Option(
        "image",
        "image family and its project; one with drivers for a GPU",
        "text",
        "debian-13:debian-cloud",
        setting=True,
        metavar="FAMILY:PROJECT",
    ),
    Option("disk", "size of the disk in GB", "text", "100", setting=True, metavar="GB"),
    Option(
        "install", "requirement that pip installs on the machine, such as torch; may be given several times", "list",
        setting=True, metavar="REQUIREMENT",
    ),
    Option("spot", "a Spot machine, which Google may take back", "switch", True, setting=True),
    Option(
        "duration", "time limit of a session, after which it is ended", "seconds", 12 * 3600.0, setting=True,
        metavar="TIME",
    ),
    Option("shutdown", "shut the machine down when all its files are in the bucket", "switch", False, setting=True),
)  # fmt: skip

SETUP = 900.0
"""Seconds that the machine may need to start and to install, besides its --duration."""


def _checked(name: str, value: Any, pattern: str, example: str) -> str | None:
    if value is None or re.fullmatch(pattern, str(value), re.ASCII):
        return None if value is None else str(value)
    raise UsageError(f"--{name} is {str(value)[:120]!r}; expected such as {example}. Nothing was started.")


@dataclass(frozen=True)
class GcpTerms:
    """The terms of a session.

    Attributes:
        bucket: address below which sessions have their folders, or None.
        zone, project: of the machine; None for those of gcloud.
        machine: machine type.
        gpu: type and count, or None.
        image: family and project.
        disk: GB.
        install: requirements that are installed.
        spot: whether Google may take the machine back.
        duration: seconds after which the training is ended.
        shutdown: whether the machine shuts itself down at the end.
    """

    bucket: str | None
    zone: str | None
    project: str | None
    machine: str
    gpu: tuple[str, int] | None
    image: tuple[str, str]
    disk: int
    install: tuple[str, ...]
    spot: bool
    duration: float
    shutdown: bool

    @classmethod
    def of(cls, terms: Terms) -> GcpTerms:
        """The options of a launch, with types.

        Raises:
            UsageError: one of them is none that gcloud takes.
        """
        given = {option.name: option.read(terms.options.get(option.name, option.default)) for option in OPTIONS}
        gpu = _checked("gpu", given["gpu"], r"[a-z0-9-]{2,60}(?::[1-9][0-9]?)?", "nvidia-tesla-t4:1")
        kind, _, count = (gpu or "").partition(":")
        image = _checked("image", given["image"], r"[a-z0-9-]{2,80}:[a-z0-9-]{4,60}", "debian-13:debian-cloud") or ""
        family, _, home = image.partition(":")
        return cls(
            (_checked("bucket", given["bucket"], f"{BUCKET}/?", "gs://my-bucket/outlast") or "").rstrip("/") or None,
            _checked("zone", given["zone"], ZONE, "europe-west4-a"),
            _checked("project", given["project"], PROJECT, "my-project-123"),
            _checked("machine", given["machine"], r"[a-z][a-z0-9-]{2,60}", "n1-standard-8") or "",
            (kind, int(count or 1)) if gpu else None,
            (family, home),
            int(_checked("disk", given["disk"], r"[1-9][0-9]{1,4}", "100") or 0),
            tuple(_checked("install", each, _REQUIREMENT, "torch>=2.6") or "" for each in given["install"] or ()),
            given["spot"],
            given["duration"],
            given["shutdown"],
        )

    @property
    def saving(self) -> float:
        """Seconds at the end of a session for copying its files to the bucket."""
        return min(300.0, self.duration / 10)

    @property
    def limits(self) -> Limits:
        """A session trains for its duration, but for the time in which its files are copied."""
        kind = f"{self.gpu[1]} x {self.gpu[0]}" if self.gpu else self.machine
        count = self.gpu[1] if self.gpu else None  # some types of machines have their own
        return Limits(self.duration, self.saving, accelerator=kind, disk=self.disk * 10**9, gpus=count)


def create_command(name: str, terms: GcpTerms, script: Path) -> list[str]:
    """The words after `gcloud` that create the machine. None of them is a secret.

    Args:
        name: of the machine.
        terms: of the session.
        script: the startup script; gcloud puts its text into the machine's metadata.
    """
    family, home = terms.image
    words = ["compute", "instances", "create", name]
    words += [f"--project={terms.project}"] if terms.project else []
    words += [f"--zone={terms.zone}"] if terms.zone else []
    words += [f"--machine-type={terms.machine}"]
    words += [f"--accelerator=type={terms.gpu[0]},count={terms.gpu[1]}"] if terms.gpu else []
    words += [f"--image-family={family}", f"--image-project={home}", f"--boot-disk-size={terms.disk}GB"]
    words += ["--provisioning-model=SPOT"] if terms.spot else ["--no-restart-on-failure"]
    words += ["--maintenance-policy=TERMINATE"] if terms.gpu and not terms.spot else []
    words += ["--instance-termination-action=DELETE", f"--max-run-duration={terms.duration + SETUP:.0f}s"]
    return [*words, "--scopes=storage-rw", f"--metadata-from-file=startup-script={script}", "--labels=made-by=outlast"]


SIGNS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("nvidia-tesla-", str.upper),
    ("nvidia-", str.upper),
)


def skypilot_accelerator(gpu: tuple[str, int]) -> str:
    """The name that SkyPilot has for GPUs of Google Cloud, such as T4:1 for nvidia-tesla-t4."""
    kind = gpu[0]
    for prefix, change in SIGNS:
        if kind.startswith(prefix):
            kind = change(kind.removeprefix(prefix))
            break
    return f"{kind}:{gpu[1]}"
