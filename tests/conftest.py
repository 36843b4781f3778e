"""Shared fixtures. Nothing here is silent: a test that cannot run says why."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import lzma
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import outlast
from outlast.environment import Environment, Limits
from tests import messages, processes, template
from tests.standins import slurm

# Two test processes with two threads each would wait for each other on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What JAX compiled for one test, the next need not compile again; nor a process that a test starts.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "outlast-tests-jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Tests compile much and compute little: three times as fast to compile, and the same program.
_FLAGS = ["--xla_backend_optimization_level=0"]
with contextlib.suppress(importlib.metadata.PackageNotFoundError):
    if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (
        0,
        11,
    ):  # JAX 0.12 ends a process that gives it
        _FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))

# Python before 3.11.8 fails with SystemError when its parser is entered again by garbage that is collected in it
# (CPython gh-106905). A traceback parses its lines, to place carets, also one that pytest writes for such garbage.
if sys.version_info < (3, 11, 8):
    traceback._extract_caret_anchors_from_line_segment = lambda _: None

# Whoever starts the tests in the background or under nohup ignores these; the tests are about what they do.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).parents[1]
BETWEEN_MODULES, BETWEEN_TESTS = 300_000_000, 1_000_000_000
"""Bytes by which a test process grows before compiled code is released between two modules, and between two tests."""
RELEASED_AT = pytest.StashKey[int]()
SLOW_TIMEOUT = 1800.0  # seconds, of a `slow` test; pyproject.toml says it of the others

# `make test-new` names packages that are not installed on purpose: what needs one is skipped, and says so. Elsewhere
# this is empty.
WITHOUT = frozenset(filter(None, os.environ.get("OUTLAST_TESTS_WITHOUT", "").split(",")))
_MISSING = re.compile(r"No module named '(\w+)|Install its extra, such as pip install 'outlast\[(\w+)\]'")


def _without(text: str) -> str | None:
    """The package of WITHOUT that a failure is about."""
    found = _MISSING.search(text)
    name = (found[1] or found[2]) if found else None
    return name if name in WITHOUT else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: at the end no worker has to wait for one. Slow ones hang later."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


def pytest_collection_finish() -> None:
    """What all tests share, frameworks and tests, is not looked through at every collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What JAX compiled for tests is released where it has become large; without this, a worker grows to 5 GB."""
    if "jax" not in sys.modules or _name(item) == _name(nextitem):  # cases of one test share what is compiled
        return
    bound = BETWEEN_TESTS if nextitem and nextitem.path == item.path else BETWEEN_MODULES
    if _resident() > item.session.stash.get(RELEASED_AT, 0) + bound:
        sys.modules["jax"].clear_caches()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # the C library keeps what is free
            ctypes.CDLL(None).malloc_trim(0)
        item.session.stash[RELEASED_AT] = _resident()


def _name(item: pytest.Item | None) -> str:
    """The path and the name of a test, without its parameters."""
    return item.nodeid.partition("[")[0] if item else ""


def _resident() -> int:
    """Bytes of memory that this process has now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    report = yield
    if report.failed and (name := _without(str(report.longrepr))):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {name}, which OUTLAST_TESTS_WITHOUT names")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.failed and (name := _without(str(report.longrepr))):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: needs {name}, which OUTLAST_TESTS_WITHOUT names")
    return report


@pytest.fixture(autouse=True, scope="session")
def _packed_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All test processes, and those that they fork, compress the same code once: it takes seconds, at every launch."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "packed"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template, "PACKED", str(folder))
        patch.setenv("OUTLAST_TESTS_PACKED", str(folder))
        patch.setattr(lzma, "compress", template.packed_once)
        yield


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's home, secrets or metadata server, or writes into the checkout."""
    for name in list(os.environ):
        if name.startswith(("KAGGLE_", "GCE_", "WANDB_", "GITHUB_", "GOOGLE_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    messages.use(tmp_path.parent)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A message names the case that it belongs to."""
    return val.key if isinstance(val, messages.Message) else None


@pytest.fixture(autouse=True)
def _fsync(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests about durability, and what they fork, wait for the disk: 3 ms a call, a third of many tests' time."""
    if request.path.parent.name not in ("durability", "folder"):
        monkeypatch.setattr(os, "fsync", processes.no_fsync)


@pytest.fixture
def here() -> Environment:
    """A machine without an end, so that detection costs nothing."""
    return Environment("local", Limits(seconds=None, ram=2**34, cores=2))


@pytest.fixture
def opened(tmp_path: Path, here):
    """open_run for a run named r below tmp_path, silent, on a machine without an end."""

    def open_(name: str = "r", **options):
        return outlast.open_run(name, **{"root": tmp_path, "progress": "none", "environment": here, **options})

    return open_


@pytest.fixture
def outlast_cli():
    """Run the command line in a process of its own, one that is forked; returns the completed process."""

    def run(
        *words: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 120,
        template: str = "torch",
    ):
        return processes.run(
            [sys.executable, "-m", "outlast.cli", *words],
            cwd=cwd,
            env={**os.environ, "COLUMNS": "120", **(env or {})},
            timeout=timeout,
            template="jax" if "emergence" in words else template,
        )

    return run


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    """A real Slurm cluster of two nodes, shared by the tests of this process."""
    with slurm.cluster(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running
