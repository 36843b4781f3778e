"""What every provider of sessions must do: one suite, run on each. Kaggle is the stand-in, which really runs what is
pushed. Slurm is a real cluster on loopback."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import messages, processes
from tests.launch import commands
from tests.launch.conftest import RECIPE
from tests.standins import colab, gcloud
from tests.standins.kaggle import Standin, use

from outlast.checkpoint import CheckpointStore
from outlast.errors import LaunchError, UnknownName, UsageError
from outlast.launch import providers
from outlast.launch.colab.client import Colab
from outlast.launch.colab.provider import ColabProvider
from outlast.launch.down import down
from outlast.launch.fetch import fetch
from outlast.launch.gcp.gcloud import Gcloud
from outlast.launch.gcp.provider import GcpProvider
from outlast.launch.provider import Handle, Provider, Terms
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.relay import Bounds, Pace, relay
from outlast.launch.slurm.provider import SlurmProvider
from outlast.launch.slurm.scheduler import Scheduler
from outlast.launch.start import launch
from outlast.launch.watch import cancel, follow, state_of
from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry

FOREIGN: dict[str, Handle] = {
    "kaggle": {"session": "outlast-walk-001"},
    "local": {"slug": "outlast-walk-001", "user": "ada", "datasets": []},
    "slurm": {"slug": "outlast-walk-001", "user": "ada", "datasets": []},
    "gcp": {"slug": "outlast-walk-001", "user": "ada", "datasets": []},
    "colab": {"slug": "outlast-walk-001", "user": "ada", "datasets": []},
}
"""For each provider, a handle of another one."""
PLACES = {"kaggle": "Kaggle", "local": "this machine", "slurm": "Slurm", "gcp": "Google Cloud", "colab": "Colab"}


@dataclass(frozen=True)
class Place:
    """A provider, and what to ask of it so that tests are quick."""

    provider: Provider
    terms: Terms
    short: Callable[[], None]
    pause: str = "0.5"

    def prepared(self, **flags: str) -> RecipeWork:
        found = registry.find("walk")
        return RecipeWork(prepare.prepare(found, prepare.Request(flags={"experiment_name": "walk", **flags})))

    def launch(self, **flags: str) -> LaunchRecord:
        return launch(self.provider, self.prepared(**flags), self.terms)

    def relay(self, bounds: Bounds | None = None, told: list[str] | None = None, **flags: str) -> list[str]:
        told = [] if told is None else told
        pace = Pace(ask=0.1, settles=3.0)
        relay(self.provider, lambda: self.prepared(**flags), self.terms, bounds=bounds, tell=told.append, pace=pace)
        return told

    def over(self, record: LaunchRecord) -> str:
        for _ in follow(self.provider, record, pause=0.05):
            pass
        return state_of(self.provider, record)


SLOW = {"gcp": [pytest.mark.slow], "colab": [pytest.mark.slow]}
"""Providers whose sessions cost seconds of a core each; tests/launch/gcp and colab have the shorter ones."""


@pytest.fixture(params=[pytest.param(name, marks=SLOW.get(name, [])) for name in sorted(providers.NAMES)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/recipe.py").write_text(RECIPE.replace("from helper import STEP", "STEP = 0.5"))
    if request.param == "local":
        provider = providers.connect("local", Path("runs"))
        local = Place(provider, Terms(options={"session": 120.0}), lambda: local.terms.options.update(session=3.0))  # type: ignore[attr-defined]
        yield local
        return
    if request.param == "gcp":
        world = gcloud.install(tmp_path / "gcp", monkeypatch)
        machines = GcpProvider(Gcloud(20.0, sleep=lambda _: time.sleep(0.1)), every=0.2)
        options = {"bucket": "gs://bucket/sessions", "duration": 120.0}
        # What is asked of a machine, and what it says, goes through a bucket: longer steps for a cancel in between.
        gcp = Place(machines, Terms(options=options), lambda: options.update(duration=4.0), pause="3")
        yield gcp
        for place_of_it in (world / "machines").iterdir():
            gcloud.kill(place_of_it.name)
        return
    if request.param == "colab":
        world = colab.install(tmp_path / "colab", monkeypatch)
        runtimes = ColabProvider(
            Path("runs").absolute() / ".colab",
            lambda auth: Colab(auth, 20.0, sleep=lambda _: time.sleep(0.1)),
            every=0.2,
        )
        runtimes.looks = (0.05, 0.5)
        options = {"runtime": "cpu", "lifetime": 120.0, "auth": "adc"}
        # What a session says is fetched by commands: longer steps for a cancel in between.
        yield Place(runtimes, Terms(options=options), lambda: options.update(lifetime=4.0), pause="2")
        for place_of_it in colab.servers():
            colab.take_back(place_of_it)
        return
    if request.param == "slurm":
        cluster = request.getfixturevalue("slurm_cluster")
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        scheduler = Scheduler(60.0, sleep=lambda seconds: time.sleep(min(seconds, 0.2)))
        jobs = SlurmProvider(Path("runs").absolute() / ".jobs", scheduler, late=2.0)
        slurm = Place(jobs, Terms(options={"time": 120.0}), lambda: slurm.terms.options.update(time=3.0))  # type: ignore[attr-defined]
        yield slurm
        return
    kaggle = pytest.importorskip("outlast.launch.kaggle")
    pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")
    with Standin(tmp_path / "kaggle") as standin:
        use(standin, tmp_path / "home", monkeypatch)
        account = kaggle.Kaggle(
            kaggle.Credential("key", "the test", "ada", "key-of-ada"),
            sleep=lambda seconds: time.sleep(min(seconds, 0.1)),
        )
        terms = Terms(options={"accelerator": "cpu"})
        yield Place(kaggle.KaggleProvider(lambda: account), terms, lambda: setattr(standin.world.knobs, "session", 2.5))
    assert standin.strays == []


@pytest.fixture
def twin(tmp_path: Path) -> bytes:
    """The journal of the same run, uninterrupted."""
    flags = ["--experiment-name", "walk", "--stop-every", "0", "--checkpoint-dir", "twin"]
    # In a process without torch, as the sessions are: what is imported has generators, which are saved.
    processes.run([sys.executable, "-m", "outlast.cli", "train", "walk", *flags], check=True, template="launch")
    return (tmp_path / "twin/walk/journal.jsonl").read_bytes()


ALIVE = re.compile("queued|running|saving")


def test_a_session_from_start_to_deletion(place: Place, tmp_path: Path) -> None:
    provider = place.provider
    assert provider.state(place_of(place, "outlast-walk-001")) is None
    record = place.launch(stop_every="0")
    assert (record.provider, record.name, record.record["state"]) == (provider.name, "outlast-walk-001", "pushed")
    assert "outlast-walk-001" in provider.label(record.handle)
    assert "outlast-walk-001" in provider.address(record.handle)
    with messages.raises(UsageError, "launch/session-alive", session="outlast-walk-001", state=ALIVE):
        place.launch(stop_every="0")
    assert place.over(record) == "succeeded"
    state = provider.state(record.handle)
    assert state
    assert state.over
    lines = [line.text for line in provider.log(record.handle)]
    assert any("walk" in line for line in lines)
    assert [line.text for line in provider.log(record.handle, since=2)] == lines[2:]
    outputs = {output.name: output for output in provider.outputs(record.handle)}
    assert {"runs/walk/run.json", "runs/walk/journal.jsonl", "runs/walk/artifacts/result.txt"} <= outputs.keys()
    outputs["runs/walk/artifacts/result.txt"].save(tmp_path / "result.txt")
    fetch(provider, record)
    assert (tmp_path / "result.txt").read_bytes() == (tmp_path / "runs/walk/artifacts/result.txt").read_bytes()
    assert record.record["step"] == 9
    assert record.record["seconds"] > 0
    assert down(record.folder) == ["outlast-walk-001"]
    assert provider.state(record.handle) is None
    assert provider.delete(record.handle) == []
    assert all_launches(record.folder)[0].record["state"] == "deleted"


def place_of(place: Place, name: str) -> Handle:
    """The handle that a session of this name would have."""
    from outlast.launch.start import request_for

    request = request_for(place.provider, place.prepared(), place.terms)
    return place.provider.plan(dataclasses.replace(request, name=name))


def test_a_relay_ends_as_an_uninterrupted_run_does(place: Place, twin: bytes, tmp_path: Path) -> None:
    told = place.relay()
    assert told[-1] == "walk is finished at step 9"
    assert (tmp_path / "runs/walk/journal.jsonl").read_bytes() == twin
    ours, theirs = (max((tmp_path / root / "walk/checkpoints").glob("step-*")) for root in ("runs", "twin"))
    for name in ("state.safetensors", "rng.safetensors", "state.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    records = all_launches(place.prepared().folder)
    assert [record.record["step"] for record in records] == [3, 6, 9]
    assert [record.record["after"] for record in records] == ["", "outlast-walk-001", "outlast-walk-002"]


def test_a_session_that_fails_ends_a_relay(place: Place) -> None:
    with messages.raises(LaunchError, "launch/session-would-fail-again", session=1, state="failed(1)", step=0):
        place.relay(pause="-1")
    (record,) = all_launches(place.prepared(pause="-1").folder)
    state = place.provider.state(record.handle)
    assert state
    assert state.word == "failed"


BEFORE = """
def before(config, flags, begun):
    yield f"before {begun} {config.pause} {'--pause=0.125' in flags}"
    if config.seed == 7:
        raise outlast.DataError("the data are broken")


class Config("""


def test_what_a_recipe_does_before_a_training_is_done_in_each_session(place: Place, tmp_path: Path) -> None:
    recipe = tmp_path / "walk/recipe.py"
    text = recipe.read_text().replace("class Config(", BEFORE.lstrip())
    recipe.write_text(text.replace("train=train)", "train=train, before=before)"))
    with messages.raises(LaunchError, "launch/session-would-fail-again", session=1, state="failed(1)", step=0):
        place.relay(seed="7")
    (record,) = all_launches(place.prepared().folder)
    assert not any(output.name.startswith("runs/") for output in place.provider.outputs(record.handle))
    place.relay(stop_every="5", pause="0.125")
    records = all_launches(place.prepared().folder)[1:]
    said = [[line.text for line in place.provider.log(record.handle)] for record in records]
    assert [[line for line in lines if line.startswith("before")] for lines in said] == [
        ["before False 0.125 True"], ["before True 0.125 True"]
    ]  # fmt: skip


def test_two_sessions_without_progress_end_a_relay(place: Place) -> None:
    place.short()
    told: list[str] = []
    flag = place.provider.capabilities.longer
    advice, facts = ("-too-short", {"flag": flag}) if flag else ("", {})
    with messages.raises(LaunchError, f"launch/no-progress{advice}", step=0, **facts):
        place.relay(told=told, stop_every="0", pause="60")
    (ended, _) = [sentence for sentence in told if "timed-out" in sentence]
    messages.said([ended], "launch/session-timed-out", number=1, why=messages.ANY, before=0, after=0)
    assert len(all_launches(place.prepared(pause="60").folder)) == 2


def test_a_session_is_cancelled_twice(place: Place) -> None:
    record = place.launch(stop_every="0", pause=place.pause, save_every="1 steps")
    deadline = time.monotonic() + 90
    while not any("saved step" in line for line in follow(place.provider, record, until_over=False)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    place.provider.cancel(record.handle)
    place.provider.cancel(record.handle)
    assert place.over(record) == "cancelled"
    place.provider.cancel(record.handle)
    with messages.raises(UsageError, "launch/nothing-to-stop", session="outlast-walk-001"):
        cancel(place.provider, record)
    assert any(output.name == "runs/walk/run.json" for output in place.provider.outputs(record.handle))
    fetch(place.provider, record)
    assert record.record["step"] > 0


def test_a_session_that_runs_is_deleted(place: Place) -> None:
    record = place.launch(stop_every="0", pause="60")
    while (state := place.provider.state(record.handle)) and state.word != "running":
        time.sleep(0.05)
    others: list[Handle] = [
        {},
        {"datasets": 5},
        {"datasets": [{}]},
        {"session": None},
    ]  # records of other runs, as they were found
    assert place.provider.delete(record.handle, others) == ["outlast-walk-001"]
    assert place.provider.state(record.handle) is None


def test_what_was_fetched_is_cleared_but_for_state_and_log(place: Place) -> None:
    record = place.launch(stop_every="0")
    assert place.over(record) == "succeeded"
    fetch(place.provider, record)
    state, lines = place.provider.state(record.handle), list(place.provider.log(record.handle))
    for _ in range(2):
        place.provider.clear(record.handle)
        assert place.provider.state(record.handle) == state
        assert list(place.provider.log(record.handle)) == lines
    fetch(place.provider, record)
    assert record.record["state"] == "fetched"
    place.provider.clear(place_of(place, "outlast-nobody-001"))


def test_a_session_that_does_not_exist(place: Place) -> None:
    handle = place_of(place, "outlast-nobody-001")
    provider = place.provider
    assert provider.state(handle) is None
    assert provider.delete(handle) == []
    for ask in (
        lambda: list(provider.log(handle)),
        lambda: list(provider.outputs(handle)),
        lambda: provider.cancel(handle),
    ):
        with pytest.raises(UnknownName, match="outlast-nobody-001"):
            ask()


@pytest.mark.parametrize(
    "method", ["check", "state", "label", "address", "log", "outputs", "cancel", "clear", "delete"]
)
def test_a_handle_of_another_provider_is_refused(place: Place, method: str) -> None:
    with messages.raises(UsageError, "launch/not-a-session", place=PLACES[place.provider.name], why=messages.ANY):
        list(getattr(place.provider, method)(FOREIGN[place.provider.name]) or [])


@pytest.mark.parametrize("name", ["../../somewhere", "outlast-../x", "somebody-else", "outlast-secrets", ""])
def test_a_handle_names_only_what_outlast_has_made(place: Place, name: str) -> None:
    """Records come with run folders, and what they name is deleted."""
    key = next(key for key, value in place_of(place, "outlast-walk-001").items() if value == "outlast-walk-001")
    with messages.raises(UsageError, "launch/not-a-session", place=PLACES[place.provider.name], why=messages.ANY):
        place.provider.delete({key: name})


class Died(BaseException):
    """What a kill is to the relay in this process: nothing catches it."""


@pytest.mark.parametrize("after", [False, True])
def test_a_relay_that_dies_at_each_write_of_its_records_starts_nothing_twice(
    place: Place, after: bool, twin: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One death after the other, at the first write, the second, and so on."""
    write, count, die = LaunchRecord.write, 0, 0

    def dying(self: LaunchRecord) -> None:
        nonlocal count
        count += 1
        if count == die and not after:
            raise Died
        write(self)
        if count == die:
            raise Died

    monkeypatch.setattr(LaunchRecord, "write", dying)
    deaths = 0
    while True:
        count, die = 0, deaths + 1
        try:
            place.relay()
        except Died:
            deaths += 1
        else:
            break
    assert deaths >= 4
    assert (tmp_path / "runs/walk/journal.jsonl").read_bytes() == twin
    assert len(list((tmp_path / "runs/walk/attempts").glob("*.json"))) == 3, "one attempt for each session"
    fetched = [record.name for record in all_launches(place.prepared().folder) if record.record["state"] == "fetched"]
    assert len(fetched) == len(set(fetched)) == 3


def test_a_command_is_relayed_until_it_ends_with_0(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code is sent, kept files travel as checkpoints, and all else ends with the session."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    commands.write(tmp_path)
    told: list[str] = []
    words = ["python", "count.py", "--to=three"]
    terms = dataclasses.replace(place.terms, seconds=60.0)
    relay(place.provider, lambda: commands.work(words), terms, tell=told.append, pace=Pace(ask=0.1, settles=3.0))
    folder = commands.work().folder
    assert [each.record["state"] for each in all_launches(folder)] == ["fetched"] * 3
    assert "--to=three" not in json.dumps([each.record for each in all_launches(folder)])
    opened, _ = CheckpointStore(folder).open_newest()
    assert opened
    assert (opened.checkpoint.step, opened.checkpoint.reason) == (3, "final")
    assert list(opened.state.parts["files"]["state"]) == ["out/state"]
    assert bytes(opened.arrays("files")["out/state"].data) == b"3"
    log = [line.text for line in place.provider.log(all_launches(folder)[-1].handle)]
    assert "counted to 3 --to=three" in log
    assert not (tmp_path / "out").exists()
    before = len(told)
    relay(place.provider, lambda: commands.work(words), terms, tell=told.append, pace=Pace(ask=0.1, settles=3.0))
    assert len(told) == before + 1  # finished: nothing is started


@pytest.mark.slow
def test_a_command_that_fails_is_not_started_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bad.py").write_text("import sys\nprint('it is', 'bad')\nsys.exit(9)\n")
    with messages.raises(LaunchError, "launch/session-would-fail-again", session=1, state="failed(1)", step=1):
        work = commands.work(["python", "bad.py"])
        relay(place.provider, lambda: work, place.terms, tell=lambda _: None, pace=Pace(ask=0.1, settles=3.0))
    (record,) = all_launches(commands.work().folder)
    assert "it is bad" in [line.text for line in place.provider.log(record.handle)]
