"""Publications as Kaggle datasets: the official wire library over a socket, faults, kills and races."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import messages

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from outlast.cli import main
from outlast.errors import CorruptCheckpoint, ObjectMissing, PublishConflict, PublishFailed, RemoteRefused, UsageError
from outlast.kaggle.credentials import find_credential
from outlast.kaggle.wire import Wire
from outlast.publish import fetching, kaggle
from outlast.publish.destination import Destination
from outlast.publish.kaggle import Dataset, DatasetAddress, KaggleReference, dataset_name, held_as
from outlast.publish.probe import probe
from outlast.publish.transaction import Published, publish
from tests.folders import walk
from tests.publish import making
from tests.publish.test_hubs import in_fork, kill_at
from tests.standins.kaggle import Fault, Standin, log_in, use

OTHER = {**making.FILES, "README.md": b"another"}


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    with Standin(tmp_path / "kaggle") as running:
        use(running, tmp_path / "home", monkeypatch)
        running.world.add_user("eve", "key-of-eve")
        monkeypatch.setattr(kaggle, "account", account)
        yield running
    assert running.strays == []


def account() -> Wire:
    """The account, which waits shorter."""
    return Wire(find_credential(), patience=20.0, sleep=lambda seconds: time.sleep(min(seconds, 0.05)))


def dataset(name: str = making.NAME, owner: str = "ada") -> Dataset:
    return Dataset(account(), owner, name)


def to_kaggle(folder: Path, files: dict[str, bytes] | None = None, name: str = making.NAME) -> Published:
    reference = KaggleReference(dataset(name), folder / "scratch")
    return publish(making.plan(folder, files), None, reference, making.journal(folder))


def held(standin: Standin, name: str = making.NAME) -> dict[str, bytes]:
    """What Kaggle has of a dataset; nothing when it was not made."""
    found = standin.world.datasets.get(("ada", name))
    return found.versions[-1].files if found else {}


def got(folder: Path, name: str = making.NAME) -> dict[str, bytes]:
    found = fetching.fetch_dataset(dataset(name), folder)
    return {file.path: (folder / file.path).read_bytes() for file in found.files}


def asked(standin: Standin, method: str) -> int:
    return [each for each, _ in standin.requests].count(method)


def test_a_dataset_is_made_whole_private_and_once(standin: Standin, tmp_path: Path) -> None:
    done = to_kaggle(tmp_path)
    assert (done.before, done.sent, done.where) == (False, 4, f"kaggle://ada/{making.NAME}")
    assert standin.world.datasets["ada", making.NAME].private
    assert set(held(standin)) == {*making.FILES, "MANIFEST.json"}
    assert asked(standin, "CreateDataset") == 1
    assert got(tmp_path / "got") == making.FILES
    assert (tmp_path / "got/MANIFEST.json").read_bytes() == held(standin)["MANIFEST.json"]
    again = to_kaggle(tmp_path)
    assert (again.before, again.sent, again.identity) == (True, 0, done.identity)
    assert asked(standin, "CreateDataset") == 1


def test_the_owner_may_be_whoever_is_logged_in_and_the_title_is_given(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    walk(tmp_path / "runs", stop=4)
    words = ["publish", "r", "--to", "kaggle://~/results-of-r"]
    assert main([*words, "--title", "Results of a walk"]) == 0
    made = standin.world.datasets["ada", "results-of-r"]
    assert made.title == "Results of a walk"
    assert "kaggle://ada/results-of-r is visible" in capsys.readouterr().out
    assert main(["publish", "--from", "kaggle://~/results-of-r", "-o", "got"]) == 0
    assert (tmp_path / "got/README.md").is_file()
    assert main(["publish", "r", "--to", "folder", "--title", "Results of a walk"]) == 2
    messages.said(capsys.readouterr().err.splitlines(), "publish/title-without-kaggle")


def test_another_publication_of_this_name_stays(standin: Standin, tmp_path: Path) -> None:
    to_kaggle(tmp_path / "a")
    with pytest.raises(PublishConflict):
        to_kaggle(tmp_path / "b", OTHER)
    assert held(standin)["README.md"] == making.FILES["README.md"]
    assert asked(standin, "CreateDataset") == 1, "nothing was sent"


def test_a_dataset_of_another_kind_is_no_publication(standin: Standin, tmp_path: Path) -> None:
    to_kaggle(tmp_path)
    del held(standin)["MANIFEST.json"]
    with messages.raises(PublishConflict, "publish/kaggle-no-publication"):
        to_kaggle(tmp_path)


def test_of_two_publishers_of_one_name_one_wins(standin: Standin, tmp_path: Path) -> None:
    standin.world.knobs.dataset_ready = 0.3
    barrier, came = threading.Barrier(2), ["", ""]

    def run(number: int) -> None:
        barrier.wait()
        try:
            came[number] = str(to_kaggle(tmp_path / str(number), (making.FILES, OTHER)[number]).before)
        except PublishConflict:
            came[number] = "conflict"

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(came) == ["False", "conflict"]
    assert got(tmp_path / "got") == (making.FILES, OTHER)[came.index("False")]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("CreateDataset", "drop after"),
        Fault("CreateDataset", "drop"),
        Fault("CreateDataset", "503"),
        Fault("CreateDataset", "500"),
        Fault("CreateDataset", "429", retry_after=0.01),
        Fault("CreateDataset", "html"),
        Fault("StartBlobUpload", "429", retry_after=0.01),
        Fault("upload", "503"),
        Fault("GetDatasetStatus", "503", skip=1),
        Fault("DownloadDataset", "503"),
        Fault("download", "cut"),
    ],
    ids=lambda fault: f"{fault.method} {fault.kind}",
)
def test_a_request_that_fails_and_is_made_again(standin: Standin, tmp_path: Path, fault: Fault) -> None:
    standin.faults.append(fault)
    done = to_kaggle(tmp_path)
    assert fault.times == 0, "the fault has happened"
    assert done.before is False
    assert got(tmp_path / "got") == making.FILES


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_refusal_leaves_nothing_visible(standin: Standin, tmp_path: Path, status: str) -> None:
    standin.faults.append(Fault("CreateDataset", status))
    with messages.raises(PublishFailed, "publish/nothing-is-visible", error=messages.ANY, more=messages.ANY):
        to_kaggle(tmp_path)
    assert held(standin) == {}
    assert to_kaggle(tmp_path).before is False


def test_a_refusal_that_is_no_taken_name(standin: Standin, tmp_path: Path) -> None:
    """Kaggle answers with status 200 and an error."""
    with pytest.raises(PublishFailed, match="between 6 and 50"):
        to_kaggle(tmp_path, name="short")
    assert standin.world.datasets == {}


def test_it_waits_until_kaggle_has_stored_it(standin: Standin, tmp_path: Path) -> None:
    """Right after it was made Kaggle does not show it; then it is at it; the verdict comes after both."""
    standin.world.knobs.dataset_hidden, standin.world.knobs.dataset_ready = 0.3, 0.6
    began = time.monotonic()
    assert to_kaggle(tmp_path).before is False
    assert time.monotonic() - began > 0.6
    assert got(tmp_path / "got") == making.FILES


def test_waiting_has_an_end(standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "READY_WITHIN", 0.2)
    standin.world.knobs.dataset_ready = 1000.0
    with messages.raises(PublishFailed, "publish/kaggle-not-known"):
        to_kaggle(tmp_path)
    standin.world.datasets["ada", making.NAME].versions[-1].ready_at = 0.0
    assert to_kaggle(tmp_path).before is True


def test_one_that_is_never_shown_is_not_visible(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle, "SHOWN_WITHIN", 0.1)
    standin.world.knobs.dataset_hidden = 1000.0
    with messages.raises(PublishFailed, "publish/kaggle-does-not-have-it"):
        to_kaggle(tmp_path)


def test_what_kaggle_cannot_store_is_told(standin: Standin, tmp_path: Path) -> None:
    with messages.raises(PublishFailed, "publish/kaggle-made-nothing", state="FAILED"):
        to_kaggle(tmp_path, {**making.FILES, "train/a@b.txt": b"x"})


def test_what_kaggle_has_changed_is_found(standin: Standin, tmp_path: Path) -> None:
    """The gate after the verdict reads every file back; so does whoever fetches."""
    to_kaggle(tmp_path)
    files = held(standin)
    for harm in (b"other", b"tseb" * 5000, None):
        path = "train/weights/best.safetensors"
        if harm is None:
            del files[path]
        else:
            files[path] = harm
        found = {"error": re.compile(".*best[.]safetensors.*"), "place": messages.ANY, "command": messages.ANY}
        with messages.raises(PublishFailed, "publish/visible-and-incomplete", **found):
            to_kaggle(tmp_path)
        with pytest.raises((CorruptCheckpoint, ObjectMissing), match="best.safetensors"):
            got(tmp_path / "got")
        assert not (tmp_path / "got").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_archives_and_tables_come_back_as_they_were(standin: Standin, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner.txt", "x")
    files = {
        **making.FILES,
        "train/a.zip": packed.getvalue(),
        "train/a.zip.bin": b"of that name",
        "train/results.csv": b"step,loss\n1,2\n",
        "train/number.json": b"5",
        "train/empty.txt": b"",
    }
    to_kaggle(tmp_path, files)
    assert got(tmp_path / "got") == files
    assert {"train/a.zip.bin", "train/a.zip.bin.bin"} <= set(held(standin))
    assert len({held_as(name) for name in ("x.zip", "x.zip.bin", "x.zip.bin.bin", "x.bin", "x")}) == 5


def continues(standin: Standin, point: int, tmp_path: Path) -> bool:
    """Kill before a request, look at what is there, go on; returns whether there was such a request."""
    name, folder = f"publication-{point}", tmp_path / str(point)

    def work() -> None:
        kill_at(point)
        to_kaggle(folder, name=name)

    standin.world.knobs.dataset_ready = 0.0
    status = in_fork(work)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    assert set(held(standin, name)) in (set(), {*making.FILES, "MANIFEST.json"})
    to_kaggle(folder, name=name)
    assert got(folder / "got", name) == making.FILES
    return status != 0


def test_a_publisher_that_is_killed_goes_on(standin: Standin, tmp_path: Path) -> None:
    """Before and after the one request that makes the dataset."""
    assert [continues(standin, point, tmp_path) for point in (13, 15)] == [True, True]


@pytest.mark.slow
def test_a_publisher_that_is_killed_at_any_request_goes_on(standin: Standin, tmp_path: Path) -> None:
    point = 1
    while continues(standin, point, tmp_path):
        point += 1
    print(f"\nKaggle: {point - 1} requests, killed before each")
    assert point > 15


@pytest.mark.parametrize("text", ["kaggle://", "kaggle://a/b/c", "kaggle://ada/short", "kaggle://ada/Has_Underscore"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        DatasetAddress.of(text)


def test_names_of_datasets() -> None:
    assert dataset_name(making.NAME) == making.NAME
    for name in ("a", "Has_Upper", "x" * 51, "-", "kaggle-train-detection-exp_001.b-20251223-143000"):
        made = dataset_name(name)
        assert DatasetAddress.of(f"kaggle://ada/{made}") == DatasetAddress("ada", made)
    assert len({dataset_name(name) for name in ("a_b", "a.b", "A-b")}) == 3


def test_a_run_goes_out_and_comes_back(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    walk(tmp_path / "runs", stop=10)
    assert main(["publish", "r", "--to", "kaggle://ada", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert standin.requests == []
    assert main(["publish", "r", "--to", "kaggle://ada"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].removeprefix("Get it: outlast ").split()
    ((_, name),) = standin.world.datasets
    assert last == ["publish", "--from", f"kaggle://ada/{name}", "--output", name]
    (row,) = (line for line in plan.splitlines() if "weights/last.safetensors" in line)
    assert row.rstrip().endswith(f"{name}/")
    assert f"dataset: kaggle://ada/{name}" in plan
    assert main(last) == 0
    assert (tmp_path / name / "README.md").read_bytes() == held(standin, name)["README.md"]
    assert main(["publish", name, "--from", "kaggle://ada", "-o", "again"]) == 0
    assert making.fingerprint(tmp_path / "again").keys() == making.fingerprint(tmp_path / name).keys()
    assert main(["publish", "r", "--to", "kaggle://ada"]) == 0
    messages.said(capsys.readouterr().out, "publish/visible-already", reference=f"kaggle://ada/{name}")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["r", "--to", "kaggle://eve"], messages.says("publish/kaggle-of-another-user", mine="kaggle://ada")),
        (["r", "--to", "kaggle://ada/x"], messages.says("publish/kaggle-no-address", address="kaggle://ada/x")),
        (["r", "--to", "kaggle://ada", "--git", "origin"], messages.says("publish/git-belongs", place="kaggle://ada")),
        (["--from", "kaggle://ada"], messages.says("publish/kaggle-needs-one-dataset")),
        (["x", "--from", "kaggle://ada/dataset"], messages.says("publish/kaggle-name-and-dataset")),
    ],
)
def test_what_is_refused(
    standin: Standin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    words: messages.Message,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    walk(tmp_path / "runs", stop=2)
    assert main(["publish", *argv]) == 2
    messages.said(capsys.readouterr().err, words)
    assert standin.world.datasets == {}


def test_without_a_login(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    walk(tmp_path / "runs", stop=2)
    (tmp_path / "home/.kaggle/kaggle.json").unlink()
    assert main(["publish", "r", "--to", "kaggle://ada"]) == 2
    messages.said(capsys.readouterr().err, "publish/kaggle-no-login")


def test_doctor_asks_kaggle(standin: Standin, tmp_path: Path) -> None:
    (line,) = probe(Destination("kaggle://ada/results"))
    messages.said([line], "publish/kaggle-login", address="kaggle://ada/results")
    assert {method for method, _ in standin.requests} == {"GetAcceleratorQuotaStatistics"}
    with pytest.raises(UsageError):
        probe(Destination("kaggle://eve"))
    standin.world.accounts["ada"] = "another key"
    with messages.raises(RemoteRefused, "publish/kaggle-login-refused"):
        probe(Destination("kaggle://ada"))


def test_somebody_elses_dataset(standin: Standin, tmp_path: Path) -> None:
    """A private one looks as if there were none; a public one can be fetched."""
    to_kaggle(tmp_path)
    log_in(tmp_path / "home", "eve")
    with pytest.raises(ObjectMissing):
        got(tmp_path / "got")
    standin.world.datasets["ada", making.NAME].private = False
    assert got(tmp_path / "got") == making.FILES


def test_the_official_client_reads_it(standin: Standin, tmp_path: Path) -> None:
    to_kaggle(tmp_path)
    environment = {"PATH": os.environ["PATH"], **standin.client_environment(tmp_path / "home")}
    words = ["datasets", "download", f"ada/{making.NAME}", "-f", "train/weights/last.safetensors", "-p", "out"]
    tool = Path(sys.executable).with_name("kaggle")
    done = subprocess.run([tool, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert file.read_bytes() == making.FILES["train/weights/last.safetensors"]
