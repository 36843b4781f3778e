"""Facts that are measured in the same way on every machine: memory, cores, disk and GPUs."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import NamedTuple

from outlast.errors import UsageError
from outlast.terminal import shortened

SECRETS = (
    "WANDB_API_KEY",
    "GITHUB_TOKEN",
    "KAGGLE_KEY",
    "KAGGLE_API_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HF_TOKEN",
)
"""Environment variables that hold secrets. Their names are facts; their values are never read here."""

Notice = Callable[[Event], str | None]
"""Waits until the platform announces the end of the session, or the event is set; returns the reason, or None."""


class Gpu(NamedTuple):
    """One GPU: memory in bytes, and whether it computes in bfloat16 (compute capability 8.0 or later)."""

    name: str
    memory: int
    bf16: bool


class Limits(NamedTuple):
    """Hard facts of this machine. They are not a config layer: a value over a limit is clamped or refused.

    Attributes:
        seconds: left in this session, None when it has no end.
        ram: bytes that this process may use: the smaller of the machine's memory and the cgroup's limit.
        cores: CPU cores that it may use, with respect to its affinity and cgroup quota.
        gpus: the GPUs.
        disk: bytes that the platform keeps in total (20 GB on Kaggle); None if only the free space counts.
        places: name of a limit -> the place of a bound that is smaller than what was measured.
        measured: name of such a limit -> what was measured; None where nothing was.
    """

    seconds: float | None
    ram: int
    cores: int
    gpus: tuple[Gpu, ...] = ()
    disk: int | None = None
    places: Mapping[str, str] = MappingProxyType({})
    measured: Mapping[str, float | None] = MappingProxyType({})

    def within(self, bounds: Mapping[str, float], places: Mapping[str, str], age: float = 0.0) -> Limits:
        """These limits, none of them above its bound. A bound never makes a limit larger.

        Args:
            bounds: "seconds" of the whole session, bytes of "ram", "disk" and "gpu_memory" (of each GPU), "cores".
            places: the place of each bound.
            age: seconds since the session began.
        """
        now: dict[str, float | None] = {"seconds": self.seconds, "ram": self.ram, "cores": self.cores}
        now |= {"disk": self.disk, "gpu_memory": max((gpu.memory for gpu in self.gpus), default=0)}
        wanted = {**bounds, **({"seconds": bounds["seconds"] - age} if "seconds" in bounds else {})}
        lower = {name: bound for name, bound in wanted.items() if (had := now[name]) is None or bound < had}
        most = lower.get("gpu_memory")
        gpus = self.gpus if most is None else tuple(g._replace(memory=min(g.memory, int(most))) for g in self.gpus)
        whole = {name: int(lower[name]) for name in ("ram", "cores", "disk") if name in lower}
        return self._replace(
            seconds=lower.get("seconds", self.seconds),
            gpus=gpus,
            places={**self.places, **{name: places[name] for name in lower}},
            measured={**self.measured, **{name: now[name] for name in lower}},
            **whole,
        )


class Environment(NamedTuple):
    """The environment of a session.

    Attributes:
        name: local, kaggle, gcp, slurm or colab.
        limits: its limits.
        facts: other facts, for `doctor` and the attempt record; never the value of a secret.
        secrets: names of the sources of secrets.
        inputs: folders below which checkpoints of earlier sessions may be attached, read-only.
        reserve: function from the bytes in the run folder to the seconds of the session's limit to leave unused.
        notice: waits for the platform's warning of the end; None if it gives no warning.
        failure_seconds: assumed mean time between two ends without a warning. With the cost of a save, it determines
            the save interval.
        probe_host: a host that is reachable if there is internet access.
        quota: the kind of hours that the platform counts while this session lasts, such as "GPU" (None: none)
        age: seconds since the session began, if the platform counts them; else 0.
        detected: the time on `clock` from which the limit of seconds counts; None: from the beginning of the session.
    """

    name: str
    limits: Limits
    facts: Mapping[str, str] = MappingProxyType({})
    secrets: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    reserve: Callable[[int], float] = lambda _: 0.0
    notice: Notice | None = None
    failure_seconds: float = 3 * 86400.0
    probe_host: str = "example.com"
    quota: str | None = None
    age: float = 0.0
    detected: float | None = None

    def named(self, name: str) -> Environment:
        """The same machine with the name of another platform; the facts state this."""
        return self._replace(name=name, facts={**self.facts, "detected": self.name})

    def internet(self, timeout: float = 1.0) -> bool:
        """Whether a connection to the outside can be opened now."""
        import socket  # takes a millisecond, and few programs ask

        try:
            with socket.create_connection((self.probe_host, 443), timeout=timeout):
                return True
        except OSError:
            return False

    def record(self) -> dict[str, object]:
        """The environment as in an attempt record."""
        limits = self.limits
        return {
            "name": self.name,
            "facts": dict(self.facts),
            "limits": {
                "seconds": limits.seconds,
                "ram": limits.ram,
                "cores": limits.cores,
                "disk": limits.disk,
                "gpus": [gpu.name for gpu in limits.gpus],
                **({"stated": dict(limits.places)} if limits.places else {}),
            },
        }


def _choose_clock() -> Callable[[], float]:
    if hasattr(time, "CLOCK_BOOTTIME"):
        identifier = time.CLOCK_BOOTTIME
    elif sys.platform == "darwin":  # there CLOCK_MONOTONIC counts sleep and time.monotonic() does not
        identifier = time.CLOCK_MONOTONIC
    else:
        return time.monotonic
    return lambda: time.clock_gettime(identifier)


clock = _choose_clock()
"""Seconds on a clock that never jumps and that runs while a laptop sleeps: a lease ends at its hour."""


def stated(found: Environment, environ: Mapping[str, str] = os.environ) -> Environment:
    """An environment with the values of its variables.

    OUTLAST_SESSION_ENDS bounds the session, OUTLAST_INPUTS adds inputs.

    Raises:
        UsageError: OUTLAST_SESSION_ENDS is no time.
    """
    ends, limits = environ.get("OUTLAST_SESSION_ENDS", ""), found.limits
    if ends:
        try:
            left = float(ends) - time.time()
        except ValueError:
            left = math.nan
        if not math.isfinite(left):
            raise UsageError(
                f"OUTLAST_SESSION_ENDS is {ends[:60]!r}; expected a Unix time in seconds, such as "
                f"{time.time() + 3600:.0f}."
            )
        limits = limits._replace(seconds=left if limits.seconds is None else min(left, limits.seconds))
    return found._replace(limits=limits, inputs=(*found.inputs, *_inputs(environ)))


def without_folder(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Warnings for paths in OUTLAST_INPUTS that are not folders."""
    return [
        f"OUTLAST_INPUTS names {shortened(place)}, which is not a folder, so no run is looked for in it. It names "
        f"folders that hold runs, separated by {os.pathsep!r}."
        for place in _inputs(environ)
        if not os.path.isdir(place)  # noqa: PTH112 - False for what no path can be
    ]


def _inputs(environ: Mapping[str, str]) -> list[Path]:
    return [Path(place) for place in environ.get("OUTLAST_INPUTS", "").split(os.pathsep) if place]


def machine_limits(root: Path, *, seconds: float | None = None, disk: int | None = None) -> Limits:
    """The limits of any machine, and those of its platform."""
    return Limits(seconds=seconds, ram=ram(root), cores=cores(root), gpus=gpus(), disk=disk)


def present_secrets(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names of the secrets that environment variables hold."""
    return tuple(name for name in SECRETS if environ.get(name))


def ram(root: Path) -> int:
    """Bytes of memory this process may use."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        physical = 2**63 - 1
    stated = [_whole(path / "memory.max") for path in cgroup2_folders(root)]
    stated.append(_whole(root / "sys/fs/cgroup/memory/memory.limit_in_bytes"))
    return min([physical, *(limit for limit in stated if limit)])


def affinity() -> int:
    """CPU cores on which this process may run, whatever its share of them."""
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known else os.cpu_count() or 1


def cores(root: Path) -> int:
    """CPU cores this process may use: never more than its affinity and its cgroup quota."""
    quotas = [_quota2(path / "cpu.max") for path in cgroup2_folders(root)]
    folder = root / "sys/fs/cgroup/cpu"
    quota, period = _whole(folder / "cpu.cfs_quota_us"), _whole(folder / "cpu.cfs_period_us")
    if quota and period and quota > 0:
        quotas.append(quota / period)
    allowed = min([float(affinity()), *(share for share in quotas if share)])
    return max(1, int(allowed))


def cgroup2_folders(root: Path) -> list[Path]:
    """The process's own cgroup (version 2) and its parents. A limit of any of them applies."""
    top = root / "sys/fs/cgroup"
    own = ""
    for line in _text(root / "proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            own = line.removeprefix("0::").strip().strip("/")
    folders = [top]
    for part in [name for name in own.split("/") if name and name != ".."]:
        folders.append(folders[-1] / part)
    return folders


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that nvidia-smi lists. No framework is imported."""
    program = shutil.which("nvidia-smi")
    if not program:
        return ()
    query = [program, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(gpu for gpu in map(parse_gpu, answer.splitlines()) if gpu)


def parse_gpu(line: str) -> Gpu | None:
    """One line of nvidia-smi's answer, e.g. "Tesla T4, 15360, 7.5"; None for any other line."""
    try:
        name, memory, capability = (part.strip() for part in line.split(","))
        return Gpu(name, int(memory) * 2**20, float(capability) >= 8.0)
    except ValueError:
        return None


def disk_free(folder: Path) -> int:
    """Bytes free where a folder is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _whole(path: Path) -> int | None:
    try:
        return int(_text(path).strip())
    except ValueError:  # absent, or "max"
        return None


def _quota2(path: Path) -> float | None:
    try:
        quota, period = _text(path).split()
        return int(quota) / int(period)
    except ValueError:
        return None
