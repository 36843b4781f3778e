"""Google's own client on the stand-in of the service, and the stand-in of the client held against it.

The client is installed into an environment of its own, as a user does; nothing of outlast imports it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlast.launch.colab.client import Colab, Gone
from outlast.launch.colab.provider import ColabProvider
from outlast.launch.provider import Terms
from outlast.launch.records import all_launches
from outlast.launch.relay import Pace, relay
from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry
from tests import processes
from tests.launch.conftest import RECIPE
from tests.standins import colab
from tests.standins.colab import service

pytestmark = pytest.mark.slow
CLIENT = "google-colab-cli==0.7.5"
SERVER = ("jupyter_server", "ipykernel")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the client, and with the server of a runtime."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl, which makes the certificate of the stand-in")
    place = tmp_path_factory.mktemp("colab-client")
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    # 0.7.5 asks for Python 3.12, and runs with 3.11.
    words = ["install", "--quiet", "--ignore-requires-python", CLIENT, *SERVER]
    done = subprocess.run([place / "bin/python", "-m", "pip", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {CLIENT}: {done.stderr.strip()[-200:]}")
    own = subprocess.run(
        [place / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # What a training needs is that of this interpreter.
    (Path(own.stdout.strip()) / "more.pth").write_text(sysconfig.get_path("purelib"))
    return place


@pytest.fixture
def google(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[service.Colab]:
    """The service, with the client on PATH and logged in."""
    with service.Colab(tmp_path / "service", environment / "bin/python") as running:
        for name, value in running.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield running
    assert running.strays == []


# the same words ---------------------------------------------------------------------------------------------------

Said = list[tuple[str, int, str, str]]


def spoken(folder: Path, take_back: Callable[[], None]) -> Said:
    """What `colab` says to one command after the other: the words, its exit code, and both outputs."""
    said: Said = []

    def ask(*words: str) -> None:
        done = subprocess.run(
            ["colab", "--auth", "adc", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
        )
        out, error = (without(text, folder) for text in (done.stdout, done.stderr))
        said.append((" ".join(without(word, folder) for word in words), done.returncode, out, error))

    (folder / "file").write_bytes(bytes(range(256)))
    (folder / "cell.py").write_text("print('hello', flush=True)\n")
    (folder / "bad.py").write_text("print('hello', flush=True)\nraise ValueError('x')\n")
    ask("usage")
    ask("sessions")
    ask("stop", "-s", "a")
    ask("download", "-s", "a", "content/x", str(folder / "x"))
    ask("new", "-s", "a")
    ask("new", "-s", "b", "--gpu", "T4", "--high-mem")
    ask("new", "-s", "c", "--tpu", "v5e1")
    ask("new", "-s", "c")
    ask("sessions")
    ask("usage")
    ask("exec", "-s", "a", "-f", str(folder / "cell.py"), "--timeout", "86400")
    ask("exec", "-s", "a", "-f", str(folder / "bad.py"), "--timeout", "86400")
    ask("upload", "-s", "a", str(folder / "file"), "content/file")
    ask("upload", "-s", "a", str(folder / "file"), "content/no/file")
    ask("upload", "-s", "a", str(folder / "none"), "content/file")
    ask("download", "-s", "a", "content/file", str(folder / "back"))
    ask("download", "-s", "a", "content/none", str(folder / "none"))
    ask("stop", "-s", "b")
    take_back()
    ask("download", "-s", "a", "content/file", str(folder / "again"))
    ask("stop", "-s", "a")
    ask("sessions")
    ask("download", "-s", "a", "content/file", str(folder / "again"))
    assert (folder / "back").read_bytes() == bytes(range(256))
    assert not (folder / "again").exists()
    return said


def without(text: str, folder: Path) -> str:
    """An output without what differs: the test's folder, colours, and the words of libraries after a failure."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace(str(folder), "FOLDER")
    text = re.sub(r"(failed: (?:HTTPConnectionPool|500 Server Error)).*", r"\1", text)
    return "" if "Traceback" in text or "Error:" in text else text


def test_the_stand_in_of_the_client_says_what_the_client_says(
    google: service.Colab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    real = spoken(tmp_path / "one", lambda: google.take_back("m-s-1"))
    monkeypatch.undo()
    colab.install(tmp_path / "colab", monkeypatch)
    ours = spoken(tmp_path / "two", lambda: colab.take_back(colab.servers()[0]))
    for expected, found in zip(real, ours, strict=True):
        assert found == expected


# sessions ---------------------------------------------------------------------------------------------------------


def walk(**flags: str) -> RecipeWork:
    given = {"experiment_name": "walk", **flags}
    return RecipeWork(prepare.prepare(registry.find("walk"), prepare.Request(flags=given)))


def test_a_relay_with_the_client_ends_as_an_uninterrupted_run_does(
    google: service.Colab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-of-a-secret")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/recipe.py").write_text(RECIPE.replace("from helper import STEP", "STEP = 0.5"))
    flags = ["--experiment-name", "walk", "--stop-every", "0", "--checkpoint-dir", "twin"]
    processes.run([sys.executable, "-m", "outlast.cli", "train", "walk", *flags], check=True, template="launch")
    client = functools.partial(Colab, patience=120.0)
    provider = ColabProvider(Path("runs").absolute() / ".colab", client, every=1.0)
    told: list[str] = []
    terms = Terms(options={"runtime": "cpu", "auth": "adc", "lifetime": 1800.0})
    relay(provider, lambda: walk(stop_every="5"), terms, tell=told.append, pace=Pace(ask=2.0, settles=3.0))
    assert told[-1] == "walk is finished at step 9"
    assert Path("runs/walk/journal.jsonl").read_bytes() == Path("twin/walk/journal.jsonl").read_bytes()
    assert [each.record["step"] for each in all_launches(walk().folder)] == [5, 9]
    assert google.runtimes == {}
    left = [path for path in (tmp_path / "home/.config/colab-cli").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in left} == {0o600}, "they hold tokens"
    seen = [*left, *(tmp_path / "runs").rglob("*"), *google.folder.rglob("*")]
    assert not [path for path in seen if path.is_file() and b"canary-of-a-secret" in path.read_bytes()]
    tokens = [
        path for path in (tmp_path / "runs").rglob("*") if path.is_file() and b"token-of-m-s" in path.read_bytes()
    ]
    assert tokens == [], "the token of a runtime is the client's"


def test_a_kernel_goes_on_without_the_client_and_a_taken_runtime_is_gone(google: service.Colab, tmp_path: Path) -> None:
    asked = Colab("adc", patience=30.0)
    asked.new("a", [])
    cell = tmp_path / "cell.py"
    cell.write_text("import time\nprint('::outlast begun', flush=True)\ntime.sleep(3)\nopen('done', 'w').write('x')\n")
    began = time.monotonic()
    asked.start("a", cell)
    assert time.monotonic() - began < 60
    deadline = time.monotonic() + 60
    while not (google.runtimes["m-s-1"]["root"] / "content/done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    google.take_back("m-s-1")
    with pytest.raises(Gone):
        asked.download("a", "content/done", tmp_path / "done")
