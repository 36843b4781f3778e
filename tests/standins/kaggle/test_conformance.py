"""The official client, unmodified, against the stand-in over a real socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from tests.standins.kaggle import Fault, Knobs, Standin, log_in

CLI = Path(sys.executable).with_name("kaggle")


class Client:
    """The command line of the official client, with a home of its own."""

    def __init__(self, standin: Standin, home: Path) -> None:
        self.standin, self.home = standin, home
        log_in(home)

    def __call__(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], **self.standin.client_environment(self.home), **more}
        return subprocess.run(
            [str(CLI), *words], env=environment, cwd=self.home, capture_output=True, text=True, timeout=60
        )

    def push(self, code: str, slug: str = "first-run", **metadata: object) -> subprocess.CompletedProcess[str]:
        folder = self.home / slug
        folder.mkdir(exist_ok=True)
        (folder / "code.py").write_text(code)
        about = {
            "id": f"ada/{slug}",
            "title": slug,
            "code_file": "code.py",
            "language": "python",
            "kernel_type": "script",
            "is_private": True,
            "enable_internet": False,
            **metadata,
        }
        (folder / "kernel-metadata.json").write_text(json.dumps(about))
        return self("kernels", "push", "-p", str(folder))

    def wait(self, slug: str = "first-run") -> str:
        session = self.standin.world.kernels["ada", slug].versions[-1].session
        assert session
        assert session.over.wait(30)
        return session.status


@pytest.fixture
def standin(tmp_path: Path):
    with Standin(tmp_path / "kaggle") as running:
        running.world.add_user("ada", "key-of-ada", "KGAT_token_of_ada")
        yield running
    assert running.strays == []


@pytest.fixture
def client(standin: Standin, tmp_path: Path) -> Client:
    return Client(standin, tmp_path / "home")


def test_push_status_logs_output_and_delete(client: Client, standin: Standin, tmp_path: Path) -> None:
    code = (
        "import os, sys\nprint('hello'); print('trouble', file=sys.stderr)\n"
        "os.makedirs('deep')\nopen('deep/a.bin', 'wb').write(bytes(range(256)))\n"
    )
    done = client.push(code)
    assert "Kernel version 1 successfully pushed." in done.stdout, done
    assert client.wait() == "COMPLETE"
    assert (
        'ada/first-run has status "KernelWorkerStatus.COMPLETE"' in client("kernels", "status", "ada/first-run").stdout
    )
    assert client("kernels", "output", "ada/first-run", "-p", str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out/deep/a.bin").read_bytes() == bytes(range(256))
    log = json.loads((tmp_path / "out/first-run.log").read_text())
    assert {entry["stream_name"]: entry["data"] for entry in log} == {"stdout": "hello\n", "stderr": "trouble\n"}
    assert client("kernels", "delete", "ada/first-run", "-y").returncode == 0
    missing = client("kernels", "status", "ada/first-run")
    assert missing.returncode == 1
    assert "Permission 'kernels.get' was denied" in missing.stdout + missing.stderr


def test_the_log_is_followed_while_it_grows(client: Client) -> None:
    client.push("import time\nfor i in range(4):\n    print('line', i, flush=True)\n    time.sleep(0.5)\n")
    time.sleep(0.3)
    done = client("kernels", "logs", "ada/first-run", "-f")
    assert [line for line in done.stdout.splitlines() if line.startswith("line")] == [f"line {i}" for i in range(4)]


def test_a_token_is_introspected_and_a_wrong_key_looks_like_a_missing_kernel(client: Client, standin: Standin) -> None:
    (client.home / ".kaggle/kaggle.json").unlink()
    assert "GPU" in client("quota", KAGGLE_API_TOKEN="KGAT_token_of_ada").stdout
    assert ("IntrospectToken", "Bearer") in standin.requests
    log_in(client.home, "ada", "wrong")
    refused = client("kernels", "status", "ada/first-run")
    assert refused.returncode == 1
    assert "Permission 'kernels.get' was denied" in refused.stdout + refused.stderr


def test_quota(client: Client, standin: Standin) -> None:
    standin.world.gpu_used = 1.5 * 3600
    rows = json.loads(client("quota", "--format", "json").stdout)
    assert rows[0] == {
        "resource": "GPU",
        "used": "1.50h",
        "remaining": "28.50h",
        "total": "30.00h",
        "refreshAt": "2026-11-28T00:00:00",
    }


def test_refusals_that_exit_0_and_sources_that_only_warn(client: Client, standin: Standin) -> None:
    standin.world.knobs.cpu_sessions = 1
    client.push("import time; time.sleep(60)")
    second = client.push("pass", "second-run")
    assert second.returncode == 0
    assert "Kernel push error: Maximum batch CPU session count of 1 reached." in second.stdout + second.stderr
    standin.world.knobs.cpu_sessions = 5
    third = client.push("pass", "third-run", kernel_sources=["ada/nowhere"])
    assert "successfully pushed" in third.stdout
    assert "The following are not valid kernel sources" in third.stdout + third.stderr


def test_too_much_code_and_a_title_that_is_not_the_slug(client: Client, standin: Standin) -> None:
    standin.world.knobs.source_limit = 100
    assert client.push("#" * 200).returncode == 1
    client.push("pass", "short-name", title="Another title")
    assert ("ada", "another-title") in standin.world.kernels


def test_a_dataset_is_made_becomes_ready_and_is_mounted_in_both_layouts(client: Client, standin: Standin) -> None:
    standin.world.knobs.layouts = ("new", "old")
    standin.world.knobs.dataset_ready = 1000.0
    folder = client.home / "data"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(100_000))
    about = {"id": "ada/my-weights", "title": "my-weights", "licenses": [{"name": "CC0-1.0"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(about))
    standin.faults.append(Fault("upload", "503"))
    made = client("datasets", "create", "-p", str(folder))
    assert made.returncode == 0, made
    assert standin.world.datasets["ada", "my-weights"].versions[0].files["weights.bin"] == bytes(100_000)
    assert client("datasets", "status", "ada/my-weights").stdout.strip() == "blobs_received"
    early = client("datasets", "version", "-p", str(folder), "-m", "too early")
    assert "403" in early.stdout + early.stderr
    standin.world.datasets["ada", "my-weights"].versions[0].ready_at = 0.0
    assert client("datasets", "status", "ada/my-weights").stdout.strip() == "ready"
    code = (
        "import os\nroot = os.environ['OUTLAST_KAGGLE_ROOT'] + '/kaggle/input'\n"
        "print(os.path.getsize(root + '/datasets/ada/my-weights/weights.bin') "
        "+ os.path.getsize(root + '/my-weights/weights.bin'))"
    )
    client.push(code, dataset_sources=["ada/my-weights"])
    client.wait()
    session = standin.world.kernels["ada", "first-run"].versions[-1].session
    assert session
    assert session.log[0]["data"] == "200000\n"
    assert client("datasets", "version", "-p", str(folder), "-m", "again", "-d").returncode == 0
    assert [version.number for version in standin.world.datasets["ada", "my-weights"].versions] == [2]


def test_outputs_of_one_kernel_are_the_input_of_the_next(client: Client, standin: Standin) -> None:
    client.push("open('state.txt', 'w').write('7')")
    client.wait()
    client.push(
        "import os; print(open(os.environ['OUTLAST_KAGGLE_ROOT'] + "
        "'/kaggle/input/notebooks/ada/first-run/state.txt').read())",
        "second-run",
        kernel_sources=["ada/first-run"],
    )
    client.wait("second-run")
    session = standin.world.kernels["ada", "second-run"].versions[-1].session
    assert session
    assert session.log[0]["data"] == "7\n"


@pytest.mark.parametrize(("keep", "names"), [(False, []), (True, ["early.txt"])])
def test_the_limit_kills_and_may_lose_the_files(client: Client, standin: Standin, keep: bool, names: list[str]) -> None:
    standin.world.knobs.session, standin.world.knobs.keep_at_limit = 0.7, keep
    client.push("import time; open('early.txt', 'w').write('x'); time.sleep(60)")
    assert client.wait() == "CANCEL_ACKNOWLEDGED"
    assert "exceeded the max allowed execution duration" in client("kernels", "status", "ada/first-run").stdout
    session = standin.world.kernels["ada", "first-run"].versions[-1].session
    assert session
    assert sorted(session.files) == names


def test_a_cancelled_session_saves_its_files_one_by_one(client: Client, standin: Standin) -> None:
    standin.world.knobs.saving = 1.0
    code = (
        "import time\nfor i in range(5): open(f'{i}.txt', 'w').write('x')\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    client.push(code)
    session = standin.world.kernels["ada", "first-run"].versions[-1].session
    assert session
    while not session.log:
        time.sleep(0.02)
    standin.world.cancel("ada", session.id)
    seen = set()
    while session.alive:
        seen.add((session.status, len(session.files)))
        time.sleep(0.02)
    assert {count for status, count in seen if status == "CANCEL_REQUESTED"} >= {1, 2, 3, 4}
    assert session.status == "CANCEL_ACKNOWLEDGED"
    assert len(session.files) == 5


def test_a_notebook_and_a_crash_and_too_little_memory(client: Client, standin: Standin) -> None:
    cells = [{"cell_type": "code", "source": ["print(1)\n", "%time"]}, {"cell_type": "markdown", "source": "x"}]
    folder = client.home / "first-run"
    folder.mkdir()
    client.push("pass")
    client.wait()
    (folder / "code.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    about = json.loads((folder / "kernel-metadata.json").read_text()) | {
        "kernel_type": "notebook",
        "code_file": "code.ipynb",
    }
    (folder / "kernel-metadata.json").write_text(json.dumps(about))
    assert "version 2" in client("kernels", "push", "-p", str(folder)).stdout
    assert client.wait() == "COMPLETE"
    client.push("open('kept.txt', 'w').write('x'); raise SystemExit(3)", "crashing")
    assert client.wait("crashing") == "ERROR"
    client.push("open('out-of-memory', 'w'); import os; os.kill(os.getpid(), 9)", "too-large")
    assert client.wait("too-large") == "ERROR"
    assert "allocate more memory" in client("kernels", "status", "ada/too-large").stdout


def test_47_files_come_in_three_pages(client: Client, standin: Standin, tmp_path: Path) -> None:
    client.push("for i in range(47): open(f'{i:02}.txt', 'w').write(str(i))")
    client.wait()
    client("kernels", "output", "ada/first-run", "-p", str(tmp_path / "out"))
    assert len(list((tmp_path / "out").glob("*.txt"))) == 47
    assert sum(method == "ListKernelSessionOutput" for method, _ in standin.requests) == 3


@pytest.mark.parametrize("kind", ["429", "503", "drop", "drop after", "html"])
def test_faults_reach_the_client(client: Client, standin: Standin, kind: str) -> None:
    standin.faults.append(Fault("SaveKernel", kind))
    assert client.push("pass").returncode == 1
    assert (("ada", "first-run") in standin.world.kernels) == (kind == "drop after")


def test_a_signed_address_expires(client: Client, standin: Standin, tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    standin.world.knobs.signed_seconds = 0.2
    address = standin.sign(b"data")
    assert urllib.request.urlopen(address).read() == b"data"
    time.sleep(0.3)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address)


def test_it_listens_on_the_loopback_only_and_forwards_nothing(tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    with Standin(tmp_path, Knobs()) as standin:
        assert standin.url.startswith("http://127.0.0.1:")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": standin.url}))
        with pytest.raises(urllib.error.HTTPError, match="599"):
            opener.open("http://example.com/")
        assert standin.strays == ["http://example.com/"]


HUB = """
import sys, kagglehub
kagglehub.dataset_upload("ada/from-the-hub", sys.argv[1], version_notes="by a test")
"""


def test_kagglehub_uploads_a_folder_and_a_second_version(client: Client, standin: Standin) -> None:
    folder = client.home / "data"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "a.txt").write_text("1")
    (folder / "deep/er/b.bin").write_bytes(bytes(range(256)) * 1000)

    def upload() -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], **standin.client_environment(client.home)}
        command = [sys.executable, "-c", HUB, str(folder)]
        return subprocess.run(command, env=environment, cwd=client.home, capture_output=True, text=True, timeout=60)

    done = upload()
    assert done.returncode == 0, done.stderr
    dataset = standin.world.datasets["ada", "from-the-hub"]
    assert dataset.private
    assert {name: len(data) for name, data in dataset.versions[0].files.items()} == {
        "a.txt": 1,
        "deep/er/b.bin": 256_000,
    }
    standin.world.knobs.dataset_ready = 1000.0
    (folder / "a.txt").write_text("2")
    assert upload().returncode == 0
    assert dataset.versions[-1].files["a.txt"] == b"2"
    early = upload()
    assert early.returncode != 0, "a version before the last one is ready"
    assert "403" in early.stderr


def test_kagglehub_inside_a_session_has_the_sessions_own_token(client: Client, standin: Standin) -> None:
    code = """
import os, kagglehub
os.makedirs("out"); open("out/result.txt", "w").write("42")
kagglehub.dataset_upload("ada/from-inside", "out")
"""
    assert "successfully pushed" in client.push(code, enable_internet=True).stdout
    session = standin.world.kernels["ada", "first-run"].versions[-1].session
    assert client.wait() == "COMPLETE", session.log
    assert standin.world.datasets["ada", "from-inside"].versions[0].files == {"result.txt": b"42"}
    assert "token-of-session" not in json.dumps(session.log)
