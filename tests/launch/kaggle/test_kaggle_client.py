"""Our calls against the stand-in: what is told when something goes wrong, what is repeated, and what never is."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from outlast.errors import AnswerLost, LaunchError, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.kaggle import Credential, Kaggle, KaggleRefused, PushRequest, find_credential
from outlast.launch.records import LaunchRecord, all_launches
from tests import messages
from tests.standins.kaggle import Fault, Standin


@pytest.fixture
def standin(tmp_path: Path, monkeypatch):
    with Standin(tmp_path / "kaggle") as running:
        running.world.add_user("ada", "key-of-ada", "KGAT_token_of_ada")
        for name, value in running.client_environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        (tmp_path / "home").mkdir()
        yield running
    assert running.strays == []


@pytest.fixture
def waited() -> list[float]:
    return []


@pytest.fixture
def kaggle(standin: Standin, waited: list[float]) -> Kaggle:
    def sleep(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(min(seconds, 0.05))

    return Kaggle(Credential("key", "kaggle.json", "ada", "key-of-ada"), sleep=sleep)


def over(kaggle: Kaggle, slug: str) -> str:
    while not (status := kaggle.status(slug)).over:
        time.sleep(0.02)
    return status.state


def test_a_kernel_from_push_to_deletion(kaggle: Kaggle, standin: Standin) -> None:
    assert kaggle.status("first-run") is None
    pushed = kaggle.push(PushRequest("first-run", "print('hello')\nopen('a.txt', 'w').write('x')", "t4x2", seconds=99))
    assert (pushed.ref, pushed.version) == ("ada/first-run", 1)
    sent = standin.world.kernels["ada", "first-run"].versions[0].metadata
    assert sent["machineShape"] == "NvidiaTeslaT4"
    assert sent["sessionTimeoutSeconds"] == 99
    assert sent.get("isPrivate", False) is True
    assert [line.text for line in kaggle.log("first-run", pause=0.05)] == ["hello"]
    assert over(kaggle, "first-run") == "complete"
    assert [output.name for output in kaggle.outputs("first-run")] == ["a.txt"]
    kaggle.delete("first-run")
    assert kaggle.status("first-run") is None


def test_a_token_says_whose_it_is(standin: Standin) -> None:
    kaggle = Kaggle(Credential("token", "access_token", secret="KGAT_token_of_ada"))
    assert kaggle.user == "ada"
    assert kaggle.quota().gpu_left == 30 * 3600


def test_a_wrong_key_is_not_taken_for_a_missing_kernel(standin: Standin) -> None:
    kaggle = Kaggle(Credential("key", "the test", "ada", "wrong"))
    with messages.raises(KaggleRefused, "kaggle/login-not-accepted", source="the test"):
        kaggle.status("first-run")


@pytest.mark.parametrize("flat", [False, True])
def test_the_reason_of_a_refusal_is_reported(kaggle: Kaggle, standin: Standin, flat: bool) -> None:
    standin.world.knobs.flat_errors, standin.world.knobs.source_limit = flat, 10
    with messages.raises(KaggleRefused, "kaggle/push-refused", push="ada/first-run", status=400):
        kaggle.push(PushRequest("first-run", "#" * 99))


def test_a_refusal_inside_an_answer_is_one(kaggle: Kaggle, standin: Standin) -> None:
    standin.world.knobs.cpu_sessions = 0
    with messages.raises(KaggleRefused, "kaggle/all-slots-in-use", limit=0):
        kaggle.push(PushRequest("first-run", "pass"))


def test_a_kernel_that_would_run_without_its_source_is_deleted(kaggle: Kaggle, standin: Standin) -> None:
    with messages.raises(LaunchError, "kaggle/source-not-found", push="ada/first-run", source="ada/nowhere"):
        kaggle.push(PushRequest("first-run", "pass", kernels=["ada/nowhere"]))
    assert standin.world.kernels == {}


@pytest.mark.parametrize("kind", ["503", "429", "drop", "html"])
def test_questions_are_asked_again(kaggle: Kaggle, standin: Standin, waited: list[float], kind: str) -> None:
    standin.faults.append(Fault("GetAcceleratorQuotaStatistics", kind, times=3))
    assert kaggle.quota().gpu_total == 30 * 3600
    assert len(waited) == 3
    assert 0.7 <= waited[0] <= 1.3
    assert 2.8 <= waited[2] <= 5.2


def test_kaggles_own_wish_of_how_long_to_wait_is_followed(
    kaggle: Kaggle, standin: Standin, waited: list[float]
) -> None:
    standin.faults.append(Fault("GetAcceleratorQuotaStatistics", "429", retry_after=17.0))
    kaggle.quota()
    assert waited == [17.0]


def test_patience_ends(kaggle: Kaggle, standin: Standin) -> None:
    kaggle._patience = 0.5
    standin.faults.append(Fault("GetAcceleratorQuotaStatistics", "503", times=99))
    with messages.raises(LaunchError, "kaggle/no-answer", seconds=0, status=503):
        kaggle.quota()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("503", "503 try again later"),
        ("drop after", "the connection broke (ProxyError)"),
        ("html", "Kaggle sent a web page instead of an answer"),
    ],
)
def test_a_push_is_never_repeated(kaggle: Kaggle, standin: Standin, kind: str, why: str) -> None:
    standin.faults.append(Fault("SaveKernel", kind))
    with messages.raises(AnswerLost, "kaggle/push-unknown", push="ada/first-run", why=why):
        kaggle.push(PushRequest("first-run", "pass"))
    assert sum(method == "SaveKernel" for method, _ in standin.requests) == 1
    assert (kaggle.status("first-run") is not None) == (kind == "drop after")


def test_a_push_that_was_throttled_has_surely_not_arrived(kaggle: Kaggle, standin: Standin) -> None:
    standin.faults.append(Fault("SaveKernel", "429"))
    with messages.raises(KaggleRefused, "kaggle/push-refused-for-now", status=429):
        kaggle.push(PushRequest("first-run", "pass"))


def test_without_a_connection_a_push_has_surely_not_arrived(kaggle: Kaggle, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises((KaggleRefused, AnswerLost)):
        kaggle.push(PushRequest("first-run", "pass"))


def test_a_log_that_is_interrupted_and_replays_is_reported_once(kaggle: Kaggle, standin: Standin) -> None:
    code = "import time\nfor i in range(8):\n    print(i, flush=True)\n    time.sleep(0.1)\n"
    kaggle.push(PushRequest("first-run", code))
    standin.faults += [Fault("logs", "cut", times=2), Fault("logs", "503")]
    assert [line.text for line in kaggle.log("first-run", pause=0.05)] == [str(i) for i in range(8)]
    assert [line.text for line in kaggle.log("first-run", pause=0.05)] == [str(i) for i in range(8)], "the stored one"


def test_the_stored_log_is_requested_until_it_arrives(kaggle: Kaggle, standin: Standin) -> None:
    kaggle.push(PushRequest("first-run", "print('written')"))
    over(kaggle, "first-run")
    standin.faults += [Fault("logs", "503", times=2), Fault("logs", "429")]
    assert [line.text for line in kaggle.log("first-run")] == ["written"]


def test_cancel_by_the_id_that_the_kernel_prints(kaggle: Kaggle, standin: Standin) -> None:
    code = (
        "import os, time\nprint(os.environ['KAGGLE_CONTAINER_NAME'].rsplit('-', 2)[1], flush=True)\n"
        "open('a.txt', 'w').write('x')\nprint('written', flush=True)\ntime.sleep(60)"
    )
    kaggle.push(PushRequest("first-run", code))
    log = kaggle.log("first-run")
    session = int(next(log).text)
    next(log)
    kaggle.cancel(session)
    assert over(kaggle, "first-run") == "stopped"
    assert [output.name for output in kaggle.outputs("first-run")] == ["a.txt"]
    with messages.raises(KaggleRefused, "kaggle/legacy-key-denied", permission="kernelSessions.cancel"):
        kaggle.cancel(123)


def test_states_with_kaggles_own_sentence(kaggle: Kaggle, standin: Standin) -> None:
    kaggle.push(PushRequest("crashing", "raise SystemExit(3)"))
    assert over(kaggle, "crashing") == "error"
    standin.world.knobs.session = 0.5
    kaggle.push(PushRequest("too-long", "import time; time.sleep(60)"))
    assert over(kaggle, "too-long") == "stopped"
    assert "exceeded the max allowed execution duration" in kaggle.status("too-long").message


def test_47_files_in_pages(kaggle: Kaggle, standin: Standin) -> None:
    standin.world.knobs.page = 20
    kaggle.push(PushRequest("first-run", "for i in range(47): open(f'{i:02}', 'w').write('x')"))
    over(kaggle, "first-run")
    assert [output.name for output in kaggle.outputs("first-run")] == [f"{i:02}" for i in range(47)]


def test_the_verb_quota(standin: Standin, outlast_cli, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "home/.kaggle"
    place.mkdir()
    standin.world.gpu_used = 1.5 * 3600
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    done = outlast_cli("quota")
    assert done.returncode == 2
    messages.said(done.stderr, "kaggle/no-login-line")
    (place / "kaggle.json").write_text(json.dumps({"username": "ada", "key": "key-of-ada"}))
    done = outlast_cli("quota")
    assert done.stdout.splitlines()[1].split() == ["GPU", "28.5", "h", "1.5", "h", "30.0", "h"]
    messages.said(done.stdout, "kaggle/quota-renewed", on="Saturday 28 November, 00:00")
    assert json.loads(outlast_cli("quota", "--json").stdout)["gpu"] == {"used": 5400.0, "total": 108000.0}


def test_secrets_are_in_no_repr_and_no_error(standin: Standin) -> None:
    credential = Credential("key", "kaggle.json", "ada", "hidden-key")
    assert "hidden-key" not in repr(credential)
    with pytest.raises(KaggleRefused) as caught:
        Kaggle(credential).quota()
    assert "hidden-key" not in str(caught.value)


def test_logins_are_found_in_the_clients_order(tmp_path: Path) -> None:
    with messages.raises(UsageError, "kaggle/no-login"):
        find_credential({}, tmp_path)
    place = tmp_path / ".kaggle"
    place.mkdir()

    def found(**variables: str) -> tuple[str, str, str]:
        credential = find_credential(variables, tmp_path)
        return credential.kind, credential.user, credential.secret

    (place / "credentials.json").write_text(json.dumps({"refresh_token": "r", "username": "olga"}))
    assert found() == ("oauth", "olga", "")
    config = tmp_path / ".config/kaggle"
    config.mkdir(parents=True)
    (config / "kaggle.json").write_text(json.dumps({"username": "xdg", "key": "x"}))
    assert found() == ("key", "xdg", "x")
    (place / "kaggle.json").write_text(json.dumps({"username": "file", "key": "f"}))
    assert found() == ("key", "file", "f")
    assert found(KAGGLE_USERNAME="env", KAGGLE_KEY="e") == ("key", "env", "e")
    (place / "access_token").write_text("KGAT_file\n")
    assert found(KAGGLE_USERNAME="env", KAGGLE_KEY="e") == ("token", "", "KGAT_file")
    (tmp_path / "elsewhere").write_text("KGAT_path")
    assert found(KAGGLE_API_TOKEN=str(tmp_path / "elsewhere")) == ("token", "", "KGAT_path")
    assert found(KAGGLE_API_TOKEN="KGAT_value") == ("token", "", "KGAT_value")
    inside = {
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_DATA_PROXY_URL": "x",
        "KAGGLE_API_V1_TOKEN": str(tmp_path / "v1"),
    }
    (tmp_path / "v1").write_text("KGAT_session")
    assert found(KAGGLE_API_TOKEN="KGAT_value", **inside) == ("token", "", "KGAT_session")


def test_a_malformed_kaggle_json_is_named(tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text("[]")
    with messages.raises(UsageError, "kaggle/login-file-malformed"):
        find_credential({}, tmp_path)


def test_a_login_that_ends_is_renewed(standin: Standin, tmp_path: Path) -> None:
    """An access token of `kaggle auth login` lives for twelve hours, a relay for days."""
    standin.world.refresh_tokens["refresh-of-ada"] = "ada"
    place = tmp_path / "home/.kaggle/credentials.json"
    place.parent.mkdir()
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=12)).isoformat()
    held = {
        "refresh_token": "refresh-of-ada",
        "access_token": "ended",
        "access_token_expiration": later,
        "username": "ada",
    }
    place.write_text(json.dumps(held))
    kaggle = Kaggle(find_credential(), patience=5.0)
    assert kaggle.quota().gpu_left == 30 * 3600.0
    standin.world.tokens.clear()
    assert kaggle.quota().gpu_left == 30 * 3600.0, "renewed again"
    standin.world.tokens.clear()
    standin.world.refresh_tokens.clear()
    with messages.raises(KaggleRefused, "kaggle/login-not-accepted", source=kaggle.credential.source):
        kaggle.quota()


def test_what_a_talkative_session_has_said_so_far_comes_soon(kaggle: Kaggle, standin: Standin) -> None:
    kaggle.push(PushRequest("first-run", "import time\nwhile True: print('again', flush=True); time.sleep(0.2)"))
    while kaggle.status("first-run").state == "queued":
        time.sleep(0.02)
    begun = time.monotonic()
    lines = list(kaggle.log("first-run", until_over=False, longest=4.0))
    assert {line.text for line in lines} == {"again"}
    assert time.monotonic() - begun < 14


def test_lines_that_come_in_pieces_are_joined_and_letters_stay(kaggle: Kaggle, standin: Standin) -> None:
    kaggle.push(PushRequest("first-run", "pass"))
    assert over(kaggle, "first-run") == "complete"
    session = standin.world.kernels["ada", "first-run"].versions[0].session
    pieces = [("stdout", "::outlast ses"), ("stderr", "Ångström\n"), ("stdout", "sion 41\nend"), ("stdout", "ing")]
    session.log[:] = [{"stream_name": name, "time": n, "data": text} for n, (name, text) in enumerate(pieces)]
    assert [line.text for line in kaggle.log("first-run")] == ["Ångström", "::outlast session 41", "ending"]


def test_processes_that_learn_something_of_one_launch_do_not_undo_each_other(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "walk")
    ours = LaunchRecord.begin(folder, 1, slug="outlast-walk-001", on="kaggle", accelerator="cpu", state="pushed")
    (theirs,) = all_launches(folder)
    theirs.learn(state="fetched", step=3)
    ours.learn(seconds=12.5)
    (record,) = all_launches(folder)
    assert (record.record["state"], record.record["step"], record.record["seconds"]) == ("fetched", 3, 12.5)
    assert ours.record["state"] == "fetched"
