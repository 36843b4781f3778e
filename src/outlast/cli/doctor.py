"""outlast doctor [RECIPE] [flags]."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.text import Text

import outlast
from outlast.cli import flags, measuring, show
from outlast.config import Config, resolve
from outlast.config import show as show_value
from outlast.config.units import format_bytes, format_seconds
from outlast.environment import Environment
from outlast.environment.base import disk_free
from outlast.errors import EXIT_FAILED, EXIT_FINISHED, OutlastError, RunBusy, UsageError
from outlast.launch.records import check_closed
from outlast.recipe import prepare, publishing, recipe, registry
from outlast.recipe.surroundings import surroundings
from outlast.remote.address import open_remote
from outlast.remote.probe import probe
from outlast.remote.revision import PushedRun
from outlast.report import read_run
from outlast.run.arguments import remote_address
from outlast.run.session import Session
from outlast.terminal import counted, say, say_json

_PACKAGES = ("torch", "jax", "numpy", "ultralytics", "kaggle", "wandb", "dvc")
_DISK_NEEDED = 2 * 10**9

_GUARANTEE = """what a resume gives
  exact            same versions, same kind of device, same number of threads; on a GPU also --deterministic
  not the last bit another version, another GPU, a GPU instead of a CPU: it continues, and the attempt says what differed
  refused          another architecture, other data or another seed: begin a new run under another name (--experiment-name)"""  # noqa: E501 - a table as it is printed

Row = tuple[str, str, str]
"""Mark ("ok", "!" or "-"), name of the check, and its result."""


def run(argv: list[str]) -> int:
    """Print the state of this machine, the values of a session, and what was measured.

    Exit code 1 if a check fails.
    """
    named = bool(argv) and not argv[0].startswith("-")
    if not named:
        measuring.check_has_recipe(argv)
    found, request, values = flags.read(
        "outlast doctor",
        "Check machine, limits, data, disk and remotes before a session starts.",
        argv,
        more=measuring.flags() if named else None,
        leave_out=("dry-run",),
    )
    measured = found is not None and measuring.wanted(values)
    environment, _ = surroundings(request.environment)
    result = measuring.Result()
    rows: list[Row] = [*_machine(environment), *_secrets(environment), *_software()]
    if found is None:
        config = resolve(Config, flags=request.flags).config
        rows += _session(environment, config.budget, config.reserve, config.checkpoint_dir)
        rows += [*_remote(remote_address(config.remote), None), *_publication(config)]
    else:
        rows += _recipe(found, request)
        if measured:
            rows += measuring.rows(found, request, values, result)
    bad = sum(mark == "!" for mark, _, _ in rows)
    if values.json:
        shown = [{"mark": mark, "name": what, "value": value} for mark, what, value in rows]
        say_json({"problems": bad, "checks": shown, **result.numbers}, indent=1)
        return EXIT_FAILED if bad else EXIT_FINISHED
    table = show.table("", "", "")
    table.show_header = False
    for mark, what, value in rows:
        style = {"ok": "green", "!": "red", "-": "bright_black"}[mark]
        table.add_row(Text(mark, style=style), what, value)
    show.console().print(table)
    say("", *_GUARANTEE.splitlines())
    say("", f"{counted(bad, 'problem')}: see the lines marked with !" if bad else "No problems found.")
    return EXIT_FAILED if bad else EXIT_FINISHED


def _machine(environment: Environment) -> Iterator[Row]:
    limits = environment.limits
    yield (
        "ok",
        "environment",
        ", ".join([environment.name, *(f"{key} {value}" for key, value in environment.facts.items())]),
    )
    yield "ok", "cores, memory", f"{limits.cores} cores, {format_bytes(limits.ram)}"
    for name in limits.places:
        yield "-", "bounded", f"{name.replace('_', ' ')}: {show.bound(environment, name)}"
    gpus = ", ".join(
        f"{gpu.name} {format_bytes(gpu.memory)}{'' if gpu.bf16 else ' (no bf16: float16 with loss scaling)'}"
        for gpu in limits.gpus
    )
    yield "ok" if gpus else "-", "GPUs", gpus or "none"
    yield (
        ("ok", "internet", "yes")
        if environment.internet()
        else ("-", "internet", f"no ({environment.probe_host} does not answer)")
    )


def _secrets(environment: Environment) -> Iterator[Row]:
    yield "ok" if environment.secrets else "-", "secrets", ", ".join(environment.secrets) or "none present"


def _software() -> Iterator[Row]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    yield "ok", "versions", f"outlast {outlast.__version__}, Python {platform.python_version()}, {versions}"
    if platform.system() != "Linux":
        yield "-", "system", f"{platform.system()} is untested; Linux is what the tests run on"


def _session(environment: Environment, budget: float | None, reserve: float | None, root: Path) -> Iterator[Row]:
    limits = environment.limits
    yield (
        "ok",
        "session limit",
        format_seconds(limits.seconds) + " left" if limits.seconds is not None else "none stated",
    )
    try:
        session = Session(environment, budget=budget, reserve=reserve)
    except UsageError as error:
        yield "!", "budget", str(error)
        return
    left = session.seconds_left
    kept = session.limit_reserve if limits.seconds is not None else session.reserve
    words = (
        "no end: it trains until the run is finished"
        if left is None
        else f"train for {format_seconds(left)}, {format_seconds(kept)} kept back (grows with the state)"
    )
    yield "ok" if left is None or left > 0 else "!", "budget", words
    free = disk_free(root)
    kept_limit = f"; {format_bytes(limits.disk)} are kept in all" if limits.disk else ""
    yield "ok" if free > _DISK_NEEDED else "!", "disk", f"{format_bytes(free)} free in {root}{kept_limit}"


def _remote(address: str | None, run_id: str | None) -> Iterator[Row]:
    """The run's remote: its capabilities, and the checkpoints in it."""
    if address is None:
        return
    try:
        with contextlib.closing(open_remote(address)) as remote:
            yield "ok", "remote", f"{address}: {probe(remote)}"
            if run_id is None:
                return
            revision = PushedRun(remote, run_id).revision
    except OutlastError as error:
        yield "!", "remote", str(error)
        return
    steps = ", ".join(map(str, sorted(revision.checkpoints) if revision else ()))
    words = f"{run_id} with the steps {steps}" if steps else f"no checkpoint of {run_id}"
    yield "ok", "", f"{address}: {words}"


def _publication(config: Config) -> Iterator[Row]:
    """The place of publication, if it is configured."""
    if config.publish.to is None and config.publish.when == "never":
        return
    from outlast.publish import probe as publish_probe

    try:
        for line in publish_probe.probe(publishing.destination_of(config.publish)):
            yield "ok", "publish", line
    except OutlastError as error:
        yield "!", "publish", str(error)


def _recipe(found: recipe.Recipe, request: prepare.Request) -> Iterator[Row]:
    prepared = prepare.prepare(found, request)
    resolved: Any = prepared.resolved
    config = resolved.config
    if (prepared.folder.path / "run.json").is_file():
        info = read_run(prepared.folder.path)
        yield (
            "ok",
            "run",
            f"{info.status} at step {info.step} of {info.total_steps or '?'}; it is continued, with the values it had",
        )
    try:
        check_closed(prepared.folder)
    except RunBusy as error:
        yield "!", "launched", str(error)
    if detected := prepared.environment.facts.get("detected"):
        yield "-", "environment", f"this machine is {detected}; it is treated as {prepared.environment.name}"
    yield "ok", "recipe", f"{found.name}, resume grade {found.grade}; run {prepared.folder.path}"
    yield from _session(prepared.environment, config.budget, config.reserve, config.checkpoint_dir)
    yield from _remote(remote_address(config.remote), prepared.run_id)
    yield from _publication(config)
    try:
        if check := registry.loaded(found).check:
            yield "ok", "data", check(config)
    except OutlastError as error:
        yield "!", "data", str(error)
    for key, value in resolved.requested.items():
        yield "-", "would change", f"{key} {value} -> {resolved.values[key]} ({resolved.origins[key]})"
    for key, origin in resolved.origins.items():
        if origin.layer == "environment":
            yield "-", "from the file", f"{key} {show_value(resolved.values[key])} ({origin})"
    for change in resolved.changes:
        yield "-", "differs from run", str(change)
