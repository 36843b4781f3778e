"""Launch, logs, fetch and cancel by command line against the stand-in, which really runs what is pushed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import re
import sys
import time
import zipfile

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from outlast.checkpoint import verify
from tests import messages, processes
from tests.launch.helpers import RELAY, launch, over, relay
from tests.standins.kaggle import Fault, Standin


@pytest.mark.long
def test_three_sessions_there_end_as_one_here(laptop, standin: Standin) -> None:
    one = laptop(
        "train", "walk", "--stop-every", "0", "--lr", "0.3", "--experiment-name", "walk", "--checkpoint-dir", "twin"
    )
    assert one.returncode == 0, one.stderr
    for number, after in ((1, ""), (2, ", continuing outlast-walk-001"), (3, ", continuing outlast-walk-002")):
        done = laptop(
            "launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--lr", "0.3", "--experiment-name", "walk"
        )
        assert done.returncode == 0, done.stderr
        messages.said(done.stdout, "kaggle/started", session=f"outlast-walk-00{number}", after=after)
        log = laptop("logs", "walk", "-f", "--checkpoint-dir", "runs")
        assert log.stdout.splitlines()[-1] == f"outlast-walk-00{number}: {'stopped' if number < 3 else 'succeeded'}", (
            log
        )
        assert "::outlast" not in log.stdout
    fetched = laptop("fetch", "walk")
    assert fetched.returncode == 0, fetched.stderr
    messages.said(fetched.stdout, "remote/step-was-copied", step=9, folder=messages.ANY)
    twin, ours = (laptop.folder / root / "walk" for root in ("twin", "runs"))
    assert (twin / "journal.jsonl").read_bytes() == (ours / "journal.jsonl").read_bytes()
    newest = [max(root.glob("checkpoints/step-*")) for root in (twin, ours)]
    for name in ("state.safetensors", "rng.safetensors", "state.json"):
        assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes()
    assert (ours / "artifacts/result.txt").read_text() == (twin / "artifacts/result.txt").read_text()
    record = json.loads((ours / "launches/0003.json").read_text())
    assert record["state"] == "fetched"
    assert record["exit"] == "0"
    assert record["session"].isdigit()
    assert [json.loads(path.read_text())["end"]["reason"] for path in sorted(ours.glob("attempts/*.json"))] == [
        "budget",
        "budget",
        "finished",
    ]
    assert laptop("status", "walk").stdout.count("finished") >= 1
    assert not list((laptop.folder / "runs").glob(".fetched-*"))


def test_a_damaged_and_an_unfinished_download_are_fetched_again(laptop, standin: Standin) -> None:
    launch(laptop)
    over(standin, "outlast-walk-001")
    standin.faults += [
        Fault("download", kind, skip=skip) for skip, kind in ((1, "corrupt"), (2, "cut"), (3, "503"), (9, "corrupt"))
    ]
    done = laptop("fetch", "walk")
    assert done.returncode == 0, done.stderr
    session = standin.world.kernels["ada", "outlast-walk-001"].versions[0].session
    for name in ("journal.jsonl", "attempts/0001.json", "run.json"):
        left = session.files[f"runs/walk/{name}"].read_bytes()
        assert (laptop.folder / "runs/walk" / name).read_bytes() == left, name
    assert [verify(path).step for path in (laptop.folder / "runs/walk/checkpoints").glob("step-*")] == [3]


def test_names_that_lead_elsewhere_are_not_followed(laptop, standin: Standin) -> None:
    launch(laptop)
    over(standin, "outlast-walk-001")
    victim = laptop.folder / "victim.txt"
    victim.write_text("mine")
    session = standin.world.kernels["ada", "outlast-walk-001"].versions[0].session
    session.files["runs/walk/../../../victim.txt"] = session.files["runs/walk/run.json"]
    listed = {"../../victim.txt": "0" * 64}
    whole = {"files": listed, "sha256": hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()}
    session.files["outlast-files.json"].write_text(json.dumps(whole))
    assert laptop("fetch", "walk").returncode == 0
    assert victim.read_text() == "mine"


def test_an_incomplete_download_leaves_the_run_unchanged(laptop, standin: Standin) -> None:
    launch(laptop)
    over(standin, "outlast-walk-001")
    standin.faults.append(Fault("download", "cut", times=1000))
    done = laptop("fetch", "walk")
    assert done.returncode == 1
    messages.said(
        done.stderr,
        "launch/not-fetched-completely",
        files=messages.ANY,
        session="outlast-walk-001",
        missing=messages.ANY,
    )
    assert not (laptop.folder / "runs/walk/checkpoints").exists()
    standin.faults.clear()
    assert laptop("fetch", "walk").returncode == 0


def test_cancel_saves_and_the_next_session_continues_from_there(laptop, standin: Standin) -> None:
    launch(laptop, "--pause", "4", "--save-every", "1 steps", "--stop-every", "0")
    session = standin.world.kernels["ada", "outlast-walk-001"].versions[-1].session
    deadline = time.monotonic() + 60
    while (
        not list(session.folder.glob("kaggle/working/runs/walk/checkpoints/*/MANIFEST.json"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    busy = laptop("launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "walk")
    assert busy.returncode == 2
    messages.said(busy.stderr, "launch/one-writer", session="outlast-walk-001", state="running", run="walk")
    done = laptop("cancel", "walk")
    messages.said(done.stdout, "kaggle/stopping")
    over(standin, "outlast-walk-001")
    assert laptop("cancel", "walk").stdout == "outlast-walk-001 is not running (cancelled); there is nothing to stop.\n"
    done = laptop(
        "launch",
        "walk",
        "--on",
        "kaggle",
        "--accelerator",
        "cpu",
        "--experiment-name",
        "walk",
        "--stop-every",
        "0",
        "--pause",
        "0",
    )
    messages.said(done.stdout, "launch/bringing-home-first", session="outlast-walk-001")
    unknown = {"step": re.compile(r"\d+"), "path": re.compile(r"step-\d+")}
    messages.said(done.stdout, "kaggle/step-is-sent", run="walk", **unknown)
    metadata = standin.world.kernels["ada", "outlast-walk-002"].versions[0].metadata
    assert "kernelDataSources" not in metadata
    over(standin, "outlast-walk-002")
    done = laptop("fetch", "walk")
    messages.said(done.stdout, "remote/step-was-copied", step=9, folder=messages.ANY)
    assert "lost" in {
        json.loads(path.read_text())["end"]["reason"] for path in laptop.folder.glob("runs/walk/attempts/*.json")
    }


def test_a_session_without_its_gpu_ends_at_once(laptop, standin: Standin) -> None:
    standin.world.knobs.gpu_is_there = False
    assert laptop("launch", "walk", "--on", "kaggle", "--experiment-name", "walk").returncode == 0
    log = laptop("logs", "walk", "-f")
    messages.said(log.stdout, "kaggle/asked-for-and-this-session")
    assert log.stdout.splitlines()[-1] == "outlast-walk-001: failed(3)"
    standin.world.knobs.gpu_is_there = True
    assert laptop("launch", "walk", "--on", "kaggle", "--experiment-name", "walk").returncode == 0
    assert laptop("logs", "walk", "-f").stdout.splitlines()[-1] == "outlast-walk-002: stopped"
    record = json.loads((laptop.folder / "runs/walk/launches/0002.json").read_text())
    assert record["device"] == "GPU 0: Tesla T4; GPU 1: Tesla T4"


def test_a_lost_answer_leaves_a_record_and_no_second_session(laptop, standin: Standin) -> None:
    standin.faults.append(Fault("SaveKernel", "drop after"))
    done = laptop("launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "walk")
    assert done.returncode == 1
    messages.said(done.stderr, "kaggle/is-not-known")
    assert json.loads((laptop.folder / "runs/walk/launches/0001.json").read_text())["state"] == "pushing"
    assert laptop("logs", "walk", "-f").stdout.splitlines()[-1] == "outlast-walk-001: stopped"
    launch(laptop)
    assert standin.world.kernels["ada", "outlast-walk-002"].versions[0].metadata["kernelDataSources"] == [
        "ada/outlast-walk-001"
    ]


def test_a_refused_push_says_why_and_the_next_is_a_fresh_one(laptop, standin: Standin) -> None:
    standin.world.knobs.cpu_sessions = 0
    done = laptop("launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "walk")
    assert done.returncode == 1
    messages.said(done.stderr, "kaggle/maximum-batch-cpu-session-count", reached=0)
    standin.world.knobs.cpu_sessions = 5
    launch(laptop)
    assert list(standin.world.kernels) == [("ada", "outlast-walk-001")], "a refused push has used up no name"


def test_a_dry_run_sends_nothing(laptop, standin: Standin) -> None:
    done = laptop("launch", "walk", "--on", "kaggle", "--experiment-name", "walk", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"runs/walk-launch.py would be pushed: \d+ files, .* kB, bundle \w{12}\. It would train walk for 11h",
        done.stdout,
    )
    assert standin.requests == []
    assert (
        "request.json" not in (laptop.folder / "runs/walk-launch.py").read_text().partition("DATA =")[2].splitlines()[0]
    )


def bundle_in(script: str) -> zipfile.ZipFile:
    """The zip in a pushed script."""
    data = re.search(r'^DATA = "(.*)"', script, re.MULTILINE)[1]
    return zipfile.ZipFile(io.BytesIO(lzma.decompress(base64.b85decode(data))))


def test_no_secret_travels(laptop, standin: Standin, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-secret-1")
    (laptop.folder / "walk/secrets.json").write_text('{"WANDB_API_KEY": "planted-secret-1"}')
    (laptop.folder / "walk/key.pem").write_text("planted-secret-1")
    launch(laptop)
    over(standin, "outlast-walk-001")
    laptop("fetch", "walk")
    metadata = standin.world.kernels["ada", "outlast-walk-001"].versions[0].metadata
    packed = bundle_in(metadata["text"])
    texts = [metadata["text"].encode(), *(packed.read(name) for name in packed.namelist())]
    planted = ("secrets.json", "key.pem")
    texts += [path.read_bytes() for path in laptop.folder.rglob("*") if path.is_file() and path.name not in planted]
    assert not any(secret in text for text in texts for secret in (b"planted-secret-1", b"key-of-ada"))


def test_checkpoints_made_here_are_sent_and_continued_there(laptop, standin: Standin) -> None:
    standin.world.knobs.dataset_ready = 1.0
    assert laptop("train", "walk", "--experiment-name", "walk").returncode == 75  # at step 3
    done = laptop("launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "walk")
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "kaggle/step-is-sent", step=3, run="walk", path="step-3")
    ((owner, name),) = standin.world.datasets
    assert standin.world.datasets[owner, name].private
    log = laptop("logs", "walk", "-f")
    messages.said(log.stdout, "kaggle/continues-after", run="walk", attempt=2, step=3, total=9)
    assert log.stdout.splitlines()[-1] == "outlast-walk-001: stopped"
    messages.said(laptop("fetch").stdout, "remote/step-was-copied", step=6, folder=messages.ANY)
    # What is there and as new as here is mounted, not sent again; what went on here is.
    assert laptop("train", "walk", "--experiment-name", "walk").returncode == 0
    launch(laptop)
    assert len(standin.world.datasets) == 2
    metadata = standin.world.kernels["ada", "outlast-walk-002"].versions[0].metadata
    assert metadata["kernelDataSources"] == ["ada/outlast-walk-001"]
    assert "step-9" in metadata["datasetDataSources"][0]


def test_words_for_what_cannot_be(laptop, standin: Standin) -> None:
    messages.said(laptop("logs", "walk").stderr, "cli/no-runs-yet", run="walk")
    messages.said(laptop("launch", "walk").stderr, "kaggle/needs-recipe-and-place")
    messages.said(laptop("fetch").stderr, "kaggle/no-run-in-runs-was-launched")


LEAVES = """
import outlast

def train(run, config):
    state = run.restore({"x": 0})
    for step in run.steps(2):
        run.offer(state, value=step)
    for number in range(20):  # each with its manifest
        with run.artifact(f"sample_{number:02d}.bin") as path:
            path.write_bytes(bytes([number]) * 5000)

recipe = outlast.Recipe(name="walk", summary="leaves many files", Config=outlast.Config, train=train)
"""


def test_many_files_over_three_pages_with_one_corrupted_and_addresses_that_end(laptop, standin: Standin) -> None:
    (laptop.folder / "walk/recipe.py").write_text(LEAVES)
    standin.world.knobs.page = 20
    launch(laptop)
    over(standin, "outlast-walk-001")
    left = standin.world.kernels["ada", "outlast-walk-001"].versions[0].session.files
    assert len(left) >= 47
    standin.faults += [Fault("download", "corrupt", skip=30), Fault("download", "403", skip=10, times=25)]
    done = laptop("fetch", "walk")
    assert done.returncode == 0, done.stderr
    pages = [method for method, _ in standin.requests].count("ListKernelSessionOutput")
    assert pages >= 6, "three pages, and all of them again for new addresses"
    artifacts = laptop.folder / "runs/walk/artifacts"
    assert [path.read_bytes()[:1] for path in sorted(artifacts.glob("*.bin"))] == [
        bytes([number]) for number in range(20)
    ]
    for path in artifacts.iterdir():
        assert path.read_bytes() == left[f"runs/walk/artifacts/{path.name}"].read_bytes()


def test_a_launched_run_continues_by_its_name_with_its_values(laptop, standin: Standin) -> None:
    done = laptop(
        "launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "slow-walk", "--lr", "0.7"
    )
    assert done.returncode == 0, done.stderr
    over(standin, "outlast-slow-walk-001")
    unasked = laptop("relay", "slow-walk", "--accelerator", "cpu", "--ask-every", "0.1")
    record = re.compile(r".*0001\.json")
    other = {"command": messages.ANY, "words": messages.ANY}
    messages.said(unasked.stderr, "recipe/is-a-file", said_by=record, recipe="walk", **other)
    done = laptop("relay", "slow-walk", "--recipe", "walk", "--accelerator", "cpu", "--ask-every", "0.1")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (laptop.folder / "runs/slow-walk/journal.jsonl").read_text().splitlines()]
    assert [line["rate"] for line in lines] == [0.7] * 9
    assert len(standin.world.kernels) == 3


def test_a_session_that_does_not_find_its_checkpoint_leaves_at_once_and_the_next_is_sent_it(
    laptop, standin: Standin
) -> None:
    launch(laptop)
    over(standin, "outlast-walk-001")
    standin.world.knobs.layouts = ()  # nothing is mounted anywhere
    done = relay(laptop, "--max-sessions", "1")
    messages.said(done.stdout, "launch/session-did-not-find-its-checkpoint", session=2)
    standin.world.knobs.layouts = ("old",)
    done = relay(laptop)
    assert done.returncode == 0, done
    messages.said(done.stdout, "kaggle/step-is-sent", step=3, run="walk", path="step-3")
    assert len(standin.world.kernels) == 4


def test_a_finish_that_saved_nothing_new_is_copied(laptop, standin: Standin) -> None:
    text = (laptop.folder / "walk/recipe.py").read_text()
    broken = text.replace(
        '    with run.artifact("result.txt")',
        '    raise ValueError("the evaluation is broken")\n    with run.artifact("result.txt")',
    )
    (laptop.folder / "walk/recipe.py").write_text(broken)
    launch(laptop, "--stop-every", "0")
    assert laptop("logs", "walk", "-f").stdout.splitlines()[-1] == "outlast-walk-001: failed(1)"
    laptop("fetch")
    messages.said(laptop("status").stdout, "kaggle/evaluation-is-broken")
    (laptop.folder / "walk/recipe.py").write_text(text)
    done = relay(laptop)
    assert done.returncode == 0, done
    messages.said([done.stdout.splitlines()[-1]], "launch/walk-is-finished-at-step", step=9)
    assert (laptop.folder / "runs/walk/artifacts/result.txt").exists()


def test_what_a_session_did_is_not_mixed_with_what_was_done_here_meanwhile(laptop, standin: Standin) -> None:
    standin.world.knobs.dataset_ready = 1.0
    assert laptop("train", "walk", "--experiment-name", "walk").returncode == 75  # at step 3
    launch(laptop, "--stop-every", "0")
    assert laptop("logs", "walk", "-f").stdout.splitlines()[-1] == "outlast-walk-001: succeeded"  # it went on to step 9
    assert laptop("train", "walk", "--experiment-name", "walk").returncode == 1
    launches = laptop.folder / "runs/walk/launches"
    launches.rename(laptop.folder / "launches")  # a machine that does not know of the launch
    assert laptop("train", "walk", "--experiment-name", "walk").returncode == 75  # and so did we, to step 6
    (laptop.folder / "launches").rename(launches)
    ours = {path: path.read_bytes() for path in (laptop.folder / "runs/walk/checkpoints").rglob("*") if path.is_file()}
    done = laptop("fetch")
    assert done.returncode == 1, done
    assert "does not continue the one at step 6" in " ".join(done.stderr.split())
    assert {path: path.read_bytes() for path in ours} == ours
    assert not (laptop.folder / "runs/walk/artifacts/result.txt").exists()
    there = laptop.folder / "runs/.fetched-outlast-walk-001/runs/walk"
    assert (there / "artifacts/result.txt").exists()
    # What to do is said, and works.
    checkpoint = there / "checkpoints/step-00000009"
    assert f"--resume {checkpoint.relative_to(laptop.folder)}." in " ".join(done.stderr.split())
    assert laptop("train", "walk", "--resume", str(checkpoint), "--experiment-name", "theirs").returncode == 0


def test_two_at_once_are_refused(laptop, standin: Standin) -> None:
    launch(laptop, "--pause", "60", "--stop-every", "0")
    process = processes.start([sys.executable, "-m", "outlast.cli", *RELAY], cwd=laptop.folder, template="launch")
    messages.said(process.stdout.readline(), "launch/session-outlast-walk-is-on-record", session=1)
    done = relay(laptop)
    process.kill()
    process.wait()
    assert done.returncode == 1
    messages.said(done.stderr, "kaggle/is-being-written-by-relay")


def test_a_fork_is_begun_there_from_its_checkpoint(laptop, standin: Standin) -> None:
    assert laptop("train", "walk", "--experiment-name", "old").returncode == 75
    done = laptop(
        "launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--resume", "runs/old/checkpoints/step-00000003",
        "--experiment-name", "young", "--stop-every", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "kaggle/step-is-sent", step=3, run="young", path="step-3")
    messages.said(laptop("logs", "-f").stdout, "kaggle/continues-after", run="young", attempt=1, step=3, total=9)
    laptop("fetch")
    parent = json.loads((laptop.folder / "runs/young/run.json").read_text())["parent"]
    assert (parent["run"], parent["step"]) == ("old", 3)


def test_a_recipe_is_found_at_home_again_after_a_fetch(laptop, standin: Standin) -> None:
    launch(laptop)
    over(standin, "outlast-walk-001")
    laptop("fetch")
    assert json.loads((laptop.folder / "runs/walk/run.json").read_text())["recipe"] == "walk"
    refused = laptop("resume", "walk", "--stop-every", "0")
    assert refused.returncode == 2
    messages.said(
        refused.stderr,
        "recipe/is-a-file",
        said_by=messages.ANY,
        recipe="walk",
        command=messages.ANY,
        words=messages.ANY,
    )
    assert laptop("resume", "walk", "--recipe", "walk", "--stop-every", "0").returncode == 0


def test_what_looks_like_a_key_stays_and_is_said(laptop, standin: Standin) -> None:
    folder = laptop.folder / "walk"
    (folder / "venv/lib").mkdir(parents=True)
    (folder / "venv/pyvenv.cfg").write_text("")
    (folder / "venv/lib/big.py").write_text("x = 1")
    for name in ("access_token.txt", "client_secrets.json", "tokenizer.json", "tokens.py"):
        (folder / name).write_text("1")
    done = laptop("launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--dry-run")
    text = (laptop.folder / "runs/walk-launch.py").read_text()
    packed = bundle_in(text)
    own = sorted(name.removeprefix("recipe/") for name in packed.namelist() if name.startswith("recipe/"))
    assert own == ["helper.py", "recipe.py", "tokenizer.json", "tokens.py"]
    messages.said(
        done.stdout, "kaggle/left-out-as-their-names-say", file="access_token.txt", file2="client_secrets.json"
    )


def test_a_file_that_kaggle_does_not_list_is_missed(laptop, standin: Standin) -> None:
    """The session's own list says what it left; what is deleted there after a fetch is gone."""
    launch(laptop)
    over(standin, "outlast-walk-001")
    files = standin.world.kernels["ada", "outlast-walk-001"].versions[0].session.files
    name = next(name for name in files if name.endswith("MANIFEST.json"))
    manifest = files.pop(name)
    done = laptop("fetch")
    assert done.returncode == 1
    messages.said(done.stderr, "launch/not-fetched-completely", files=messages.ANY, session=messages.ANY, missing=1)
    messages.said(laptop("down", "--unfinished").stderr, "launch/files-would-be-deleted", run="walk")
    files[name] = manifest
    assert laptop("fetch").returncode == 0


def test_another_accounts_login_is_refused_for_what_was_launched(laptop, standin: Standin) -> None:
    launch(laptop)
    over(standin, "outlast-walk-001")
    standin.world.add_user("bob", "key-of-bob")
    (laptop.folder.parent / "home/.kaggle/kaggle.json").write_text(json.dumps({"username": "bob", "key": "key-of-bob"}))
    for words in (
        ("fetch",),
        ("down", "--unfinished"),
        RELAY,
    ):
        done = laptop(*words)
        assert done.returncode == 2, words
        messages.said(done.stderr, "kaggle/login-belongs-to", found="bob", expected="ada")
    assert list(standin.world.kernels) == [("ada", "outlast-walk-001")]


def test_a_session_is_as_long_as_this_weeks_hours_allow(laptop, standin: Standin) -> None:
    standin.world.gpu_used = 28 * 3600.0
    done = laptop("launch", "walk", "--on", "kaggle", "--experiment-name", "walk", "--budget", "5h")
    messages.said(done.stderr, "kaggle/warning-hours-are-left-this-week", hours="2.0")
    record = json.loads((laptop.folder / "runs/walk/launches/0001.json").read_text())
    assert record["budget"] == 100 * 60
    assert record["terms"]["seconds"] == 5 * 3600, "the next one is asked for as this one was"
    over(standin, "outlast-walk-001")
    sent = standin.world.kernels["ada", "outlast-walk-001"].versions[0].metadata
    assert sent["sessionTimeoutSeconds"] == 100 * 60 + (3 + 2 * 20) * 60 + 15 * 60, "time to store 20 GB and to start"
