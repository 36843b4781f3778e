"""Sessions on Google Cloud: the command, what a machine does at its end, what is refused. `gcloud` is a stand-in."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from outlast.errors import AnswerLost, LaunchError, LaunchRefused, UsageError
from outlast.launch import providers
from outlast.launch.gcp import startup
from outlast.launch.gcp.gcloud import Absent, Gcloud
from outlast.launch.gcp.machine import Copies
from outlast.launch.gcp.provider import GcpProvider, _Fetched
from outlast.launch.gcp.skypilot import task, write_task
from outlast.launch.gcp.terms import GcpTerms, create_command, skypilot_accelerator
from outlast.launch.provider import Terms
from outlast.launch.start import launch, request_for
from outlast.launch.watch import follow
from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry
from tests import messages, processes
from tests.environment.test_detect import Metadata
from tests.launch.conftest import RECIPE
from tests.standins import gcloud

AT = "gs://bucket/sessions"
HANDLE = {"session": "outlast-walk-001", "bucket": AT, "zone": None, "project": None}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/recipe.py").write_text(RECIPE.replace("from helper import STEP", "STEP = 0.5"))
    monkeypatch.chdir(tmp_path)
    found = gcloud.install(tmp_path / "gcp", monkeypatch)
    yield found
    for place in (found / "machines").iterdir():
        gcloud.kill(place.name)


def walk(**flags: str) -> RecipeWork:
    given = {"experiment_name": "walk", **flags}
    return RecipeWork(prepare.prepare(registry.find("walk"), prepare.Request(flags=given)))


def terms(**options: object) -> Terms:
    return Terms(options={"bucket": AT, "duration": 120.0, **options})


def quick(every: float = 0.5) -> GcpProvider:
    return GcpProvider(Gcloud(1.0, sleep=lambda _: None), every=every)


def calls(world: Path) -> list[list[str]]:
    return [json.loads(line) for line in (world / "calls.jsonl").read_text().splitlines()]


# the command ------------------------------------------------------------------------------------------------------


def test_the_command_of_a_spot_machine_with_a_gpu() -> None:
    given = GcpTerms.of(terms(zone="europe-west4-a", project="my-project-1", gpu="nvidia-tesla-t4:2", duration=3600.0))
    assert create_command("outlast-x-001", given, Path("s.py")) == [
        "compute", "instances", "create", "outlast-x-001",
        "--project=my-project-1", "--zone=europe-west4-a", "--machine-type=n1-standard-8",
        "--accelerator=type=nvidia-tesla-t4,count=2",
        "--image-family=debian-13", "--image-project=debian-cloud", "--boot-disk-size=100GB",
        "--provisioning-model=SPOT",
        "--instance-termination-action=DELETE", "--max-run-duration=4500s",
        "--scopes=storage-rw", "--metadata-from-file=startup-script=s.py", "--labels=made-by=outlast",
    ]  # fmt: skip


def test_a_machine_that_is_not_taken_back() -> None:
    words = create_command("outlast-x-001", GcpTerms.of(terms(gpu="nvidia-l4", spot=False)), Path("s.py"))
    assert {"--no-restart-on-failure", "--maintenance-policy=TERMINATE"} <= set(words)
    assert "--provisioning-model=SPOT" not in words
    words = create_command("outlast-x-001", GcpTerms.of(terms(spot=False)), Path("s.py"))
    assert "--maintenance-policy=TERMINATE" not in words


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"bucket": "bucket"}, "bucket"),
        ({"bucket": "gs://bucket/../other"}, "bucket"),
        ({"bucket": "gs://bucket/a b"}, "bucket"),
        ({"zone": "europe-west4"}, "zone"),
        ({"zone": "europe-west4-a --x"}, "zone"),
        ({"project": "-x"}, "project"),
        ({"machine": "n1 standard"}, "machine"),
        ({"gpu": "nvidia-tesla-t4:0"}, "gpu"),
        ({"image": "debian-13"}, "image"),
        ({"disk": "5"}, "disk"),
        ({"install": "git+https://token@host/x"}, "install"),
        ({"install": "--index-url=x"}, "install"),
    ],
)
def test_options_that_gcloud_would_not_take(options: dict[str, str], key: str) -> None:
    given = {"install": [options["install"]]} if "install" in options else options
    with pytest.raises(UsageError, match=re.escape(f"--{key} is {options[key]!r}; expected such as ")):
        GcpTerms.of(terms(**given))


def test_without_yes_the_command_is_printed_and_nothing_is_started(world: Path, outlast_cli) -> None:
    flags = ("--on", "gcp", "--bucket", AT, "--zone", "us-central1-b", "--experiment-name", "walk", "--lr", "0.5")
    done = outlast_cli("launch", "walk", *flags, template="launch")
    assert done.returncode == 0, done.stderr
    first, _, last = done.stdout.splitlines()
    assert shlex.split(first)[:5] == ["gcloud", "compute", "instances", "create", "outlast-walk-001"]
    messages.said([last], "gcp/costs-money")
    assert not (world / "calls.jsonl").exists(), "gcloud was not called"
    assert not Path("runs/walk").exists()
    assert Path("runs/outlast-walk-001.startup.py").read_text().startswith("#!/usr/bin/env python3\n")
    done = outlast_cli("relay", "walk", *flags, template="launch")
    assert done.returncode == 2
    messages.said(done.stderr.splitlines(), "gcp/relay-costs-money")
    done = outlast_cli("launch", "walk", "--on", "gcp", template="launch")
    assert done.returncode == 2
    messages.said(done.stderr.splitlines(), "gcp/bucket-missing")


def test_the_environment_file_says_where_and_shuts_down(world: Path, outlast_cli) -> None:
    place = Path("configs/environment/gcp.yaml")
    place.parent.mkdir(parents=True)
    place.write_text(
        f"environment:\n  gcp:\n    bucket: {AT}\n    zone: us-central1-b\n    shutdown: yes\n    spot: no\n"
    )
    done = outlast_cli("launch", "walk", "--on", "gcp", template="launch")
    assert done.returncode == 0, done.stderr
    assert "--zone=us-central1-b" in done.stdout
    assert "SPOT" not in done.stdout
    about = re.search(r"^ABOUT = (.*)$", Path("runs/outlast-walk-001.startup.py").read_text(), re.MULTILINE)
    assert about
    assert json.loads(json.loads(about[1]))["shutdown"] is True


def test_no_secret_is_in_the_words_the_metadata_or_the_bucket(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "HF_TOKEN", "KAGGLE_KEY", "OUTLAST_GIT_TOKEN"):
        monkeypatch.setenv(name, "canary-of-a-secret")
    record = launch(quick(), walk(stop_every="0"), terms())
    for _ in follow(quick(), record, pause=0.1):
        pass
    left = [path for path in world.rglob("*") if path.is_file() and "serial" not in path.name]
    assert len(left) > 10
    assert not [path for path in left if b"canary-of-a-secret" in path.read_bytes()]


# the machine's end ------------------------------------------------------------------------------------------------


def ended(world: Path, provider: GcpProvider, **options: object) -> Path:
    """Launch a session and wait until its machine has nothing more to do; returns the machine's place."""
    record = launch(provider, walk(stop_every="0"), terms(**options))
    for _ in follow(provider, record, pause=0.1):
        pass
    return world / "machines" / record.name


@pytest.mark.slow
def test_a_machine_shuts_down_only_when_the_config_says_so(world: Path) -> None:
    provider = quick()
    machine = ended(world, provider)
    assert not (machine / "off").exists()
    assert provider.state(HANDLE)
    provider.delete(HANDLE)
    assert not machine.exists()
    machine = ended(world, provider, shutdown=True)
    gcloud.wait_for(lambda: (machine / "off").exists())
    state = provider.state({**HANDLE, "session": machine.name})
    assert state
    assert (state.word, state.exit) == ("completed", 0)


def test_a_machine_whose_files_are_not_saved_stays_up(world: Path, tmp_path: Path, monkeypatch) -> None:
    """The bucket refuses all writes: nothing is there, so the machine is not shut down."""
    from outlast.launch.gcp import machine

    folder = tmp_path / "session"
    (folder / "work").mkdir(parents=True)
    (folder / "log.txt").write_text("")
    (folder / "request.json").write_text('{"ranks": false}')
    monkeypatch.setattr(machine, "training_command", lambda *_: [sys.executable, "-c", ""])
    monkeypatch.setattr(Copies, "_wait", lambda *_: None)
    off: list[list[str]] = []
    run = subprocess.run
    monkeypatch.setattr(
        machine.subprocess,
        "run",
        lambda words, **more: off.append(words) if words[0] == "shutdown" else run(words, **more),
    )
    about = {"at": "gs://no-such-bucket/x", "seconds": 30.0, "grace": 1.0, "every": 0.2, "shutdown": True}
    assert machine.main(folder, about) == 1
    assert off == []
    assert machine.main(folder, {**about, "at": f"{AT}/outlast-x-001"}) == 0
    assert off == [["shutdown", "-h", "now"]]
    assert (world / "buckets/bucket/sessions/outlast-x-001/end.json").exists()


def test_the_end_is_recorded_after_all_files(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.txt").write_text("said")
    asked: list[str] = []

    def answer(self: Copies, *words: str, quiet: bool = False) -> bool:
        asked.append(words[-1].rpartition("/")[2])
        return words[0] != "rsync" or asked.count("work") == 3

    monkeypatch.setattr(Copies, "_gcloud", answer)
    monkeypatch.setattr(Copies, "_wait", lambda *_: None)
    copies = Copies(tmp_path, f"{AT}/x", 60.0)
    copies.start()
    assert copies.finish()
    assert asked == ["log.txt", "work", "work", "work", "end.json"]
    monkeypatch.setattr(Copies, "_gcloud", lambda *words, **_: words[1] != "rsync")
    copies = Copies(tmp_path, f"{AT}/x", 60.0)
    copies.start()
    assert not copies.finish()


@pytest.mark.slow
def test_a_machine_that_is_taken_back_leaves_what_it_had_copied(world: Path) -> None:
    provider = quick(every=0.2)
    record = launch(provider, walk(stop_every="0", pause="0.5", save_every="1 steps"), terms())
    work = world / "buckets/bucket/sessions/outlast-walk-001/work"
    gcloud.wait_for(lambda: any(work.rglob("MANIFEST.json")))
    gcloud.take_back("outlast-walk-001")
    state = provider.state(record.handle)
    assert state
    assert state.word == "lost"
    messages.said([state.message], "gcp/taken-back")
    assert any(output.name.endswith("MANIFEST.json") for output in provider.outputs(record.handle))
    record = launch(provider, walk(stop_every="0"), terms())
    for _ in follow(provider, record, pause=0.1):
        pass
    assert record.name == "outlast-walk-002"
    log = [line.text for line in provider.log(record.handle)]
    assert any("continues after step" in line for line in log), log


def test_the_notice_of_preemption_stops_a_training_in_time(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google gives 30 seconds; the answer to a long poll arrives at once, and the step that runs is finished."""
    server = Metadata()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    words = [
        sys.executable,
        "-m",
        "outlast",
        "train",
        "walk",
        "--stop-every",
        "0",
        "--pause",
        "0.3",
        "--save-every",
        "never",
    ]
    training = processes.start(words, env={**os.environ, "GCE_METADATA_HOST": os.environ["GCE_METADATA_HOST"]})
    gcloud.wait_for(lambda: any("wait" in key or key == "instance/preempted" for key, _ in server.asked))
    gcloud.wait_for(lambda: Path("runs/walk/attempts").is_dir())
    server.values["instance/preempted"] = "TRUE"
    server.changed.set()
    began = time.monotonic()
    out, err = training.communicate(60)
    assert time.monotonic() - began < 20
    assert training.returncode == 75, out + err
    (attempt,) = [json.loads(path.read_text()) for path in Path("runs/walk/attempts").glob("0001.json")]
    assert attempt["end"]["reason"] == "preempted"
    assert list(Path("runs/walk/checkpoints").glob("step-*"))
    server.shutdown()


def test_a_machine_that_starts_again_trains_no_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_GCP_ROOT", str(tmp_path))
    monkeypatch.setattr(startup, "ABOUT", json.dumps({"name": "outlast-x-001"}))
    (tmp_path / "outlast-x-001").mkdir()
    (tmp_path / "outlast-x-001/begun").write_text("")
    assert startup.main() == 0


def test_code_that_was_changed_in_the_bucket_is_not_run(world: Path) -> None:
    provider = quick()
    copy = provider.gcloud.copy

    def changing(*words: str) -> None:
        copy(*words)
        if words[-1].endswith("session.zip"):
            path = world / "buckets/bucket/sessions/outlast-walk-001/session.zip"
            path.write_bytes(path.read_bytes() + b"x")

    provider.gcloud.copy = changing  # type: ignore[method-assign]
    record = launch(provider, walk(), terms())
    provider.gcloud.copy = copy  # type: ignore[method-assign]
    for _ in follow(provider, record, pause=0.1):
        pass
    state = provider.state(record.handle)
    assert state
    assert (state.word, state.message) == ("failed", "The code in the bucket was changed. Launch the run again.")


# what goes wrong --------------------------------------------------------------------------------------------------


def fault(world: Path, words: str, error: str, code: int = 1, when: str = "") -> None:
    (world / "fault").write_text(f"{words}|{when}|{error}|{code}")


def test_a_refusal_starts_nothing_and_says_why(world: Path) -> None:
    fault(
        world, "create", "ERROR: (gcloud.compute.instances.create) Could not fetch resource:\n - Quota 'GPUS' exceeded."
    )
    with messages.raises(LaunchRefused, "gcp/refused"):
        launch(quick(), walk(), terms())
    assert not (world / "buckets/bucket/sessions/outlast-walk-001").exists()
    assert quick().state(HANDLE) is None


def test_an_answer_that_was_lost_is_asked_for_before_another_start(world: Path) -> None:
    fault(world, "create", "ERROR: (gcloud.compute.instances.create) HTTPError 503: Backend Error", when="after")
    with pytest.raises(AnswerLost):
        launch(quick(), walk(stop_every="0", pause="1"), terms())
    state = quick().state(HANDLE)
    assert state
    assert not state.over
    assert quick().delete(HANDLE) == ["outlast-walk-001"]


def test_code_without_a_machine_is_no_session(world: Path) -> None:
    """The answer was lost on its way there: the code is in the bucket, and no machine has begun with it."""
    fault(world, "create", "ERROR: (gcloud.compute.instances.create) HTTPError 503: Backend Error")
    with pytest.raises(AnswerLost):
        launch(quick(), walk(), terms())
    assert (world / "buckets/bucket/sessions/outlast-walk-001/session.zip").exists()
    assert quick().state(HANDLE) is None
    assert quick().delete(HANDLE) == ["outlast-walk-001"]
    assert not (world / "buckets/bucket/sessions/outlast-walk-001").exists()


def test_a_question_is_repeated_while_google_does_not_answer(world: Path) -> None:
    fault(world, "ls", "ERROR: (gcloud.storage.ls) HTTPError 503: Backend Error")
    (world / "buckets/bucket/x").write_text("x")
    assert Gcloud(60.0, sleep=lambda _: None).ask("storage", "ls", "gs://bucket/") == "gs://bucket/x\n"
    fault(world, "ls", "ERROR: (gcloud.storage.ls) HTTPError 503: Backend Error")
    with messages.raises(LaunchError, "gcp/not-answered"):
        Gcloud(0.0, sleep=lambda _: None).ask("storage", "ls", "gs://bucket/")
    fault(world, "ls", "ERROR: (gcloud.storage.ls) You do not currently have an active account selected.")
    with messages.raises(LaunchError, "gcp/failed"):
        Gcloud(60.0, sleep=lambda _: None).ask("storage", "ls", "gs://bucket/")
    with pytest.raises(Absent):
        Gcloud(60.0).ask("storage", "ls", "gs://bucket/none/")


def test_a_machine_without_gcloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with messages.raises(UsageError, "gcp/no-gcloud"):
        providers.connect("gcp", tmp_path).state(HANDLE)


def test_a_remote_that_the_machine_has_no_login_for(world: Path) -> None:
    request = request_for(quick(), walk(), terms())
    for remote in ("gs://bucket/runs", None):
        assert quick().plan(replace(request, asked={**request.asked, "values": {"remote": remote}})) == HANDLE
    with messages.raises(UsageError, "gcp/remote", remote="s3://bucket/x"):
        quick().plan(replace(request, asked={**request.asked, "values": {"remote": "s3://bucket/x"}}))


@pytest.mark.parametrize(
    "handle", [{"bucket": "gs://bucket/.."}, {"zone": "x --y"}, {"project": "--x"}, {"bucket": "b"}]
)
def test_a_handle_from_elsewhere_names_no_other_place(world: Path, handle: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="not a session on Google Cloud"):
        quick().delete({**HANDLE, **handle})
    assert not (world / "calls.jsonl").exists()


def test_a_listing_names_no_file_outside_of_its_folder(world: Path, tmp_path: Path) -> None:
    (world / "buckets/bucket/sessions/x/work").mkdir(parents=True)
    (world / "buckets/bucket/sessions/x/work/a").write_text("a")
    fetched = _Fetched(quick().gcloud, f"{AT}/x/work")
    fetched.save("a", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "a"
    for name in ("../../etc/hostname", "/etc/hostname", "b"):
        with pytest.raises(OSError, match="has not arrived"):
            fetched.save(name, tmp_path / "b")


# SkyPilot ---------------------------------------------------------------------------------------------------------


def sky_task(tmp_path: Path, **options: object) -> dict:
    request = request_for(quick(), walk(), terms(**options))
    return task(request, GcpTerms.of(request.terms), tmp_path)


def test_a_task_of_skypilot(world: Path, tmp_path: Path) -> None:
    found = sky_task(tmp_path, gpu="nvidia-tesla-t4:2", zone="us-central1-b", install=["torch"])
    assert found["resources"] == {
        "infra": "gcp/*/us-central1-b",
        "accelerators": "T4:2",
        "disk_size": 100,
        "use_spot": True,
        "job_recovery": {"recover_on_exit_codes": [75]},
        "autostop": {"idle_minutes": 10, "down": True},
    }
    assert f"--remote={AT}/runs" in found["run"]
    assert "outlast train recipe --experiment-name=walk" in found["run"]
    assert "torch" in found["setup"]
    assert found["file_mounts"] == {"~/outlast": str(tmp_path)}
    assert sky_task(tmp_path, spot=False)["resources"]["instance_type"] == "n1-standard-8"


def test_the_file_of_a_task_is_the_task(world: Path, tmp_path: Path) -> None:
    request = request_for(quick(), walk(), terms())
    path = write_task(request, GcpTerms.of(request.terms), tmp_path)
    text = path.read_text()
    assert yaml.safe_load(text) == task(request, GcpTerms.of(request.terms), tmp_path / f"{request.name}.code")
    assert "run: |-\n  cd ~/outlast\n  OUTLAST_INPUTS=inputs python3 -m outlast train" in text
    assert (tmp_path / f"{request.name}.code/recipe/recipe.py").is_file()


@pytest.mark.parametrize(
    ("gpu", "name"), [("nvidia-tesla-t4", "T4:1"), ("nvidia-l4", "L4:1"), ("nvidia-a100-80gb", "A100-80GB:1")]
)
def test_names_of_gpus(gpu: str, name: str) -> None:
    assert skypilot_accelerator((gpu, 1)) == name


def test_skypilots_own_loader_takes_the_task(world: Path, tmp_path: Path) -> None:
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed; it is no dependency")
    request = request_for(quick(), walk(), terms(gpu="nvidia-l4", zone="us-central1-b"))
    said = quick().preview(request, tmp_path / "out")
    path = tmp_path / "out/outlast-walk-001.skypilot.yaml"
    assert str(path) in said
    loaded = sky.Task.from_yaml(str(path))
    (resources,) = loaded.resources
    assert resources.use_spot
    assert resources.accelerators == {"L4": 1}
    assert resources.job_recovery["recover_on_exit_codes"] == [75]
    assert resources.autostop_config.down
