"""Facts and limits of a machine, from planted files, variables and a loopback metadata server."""

from __future__ import annotations

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from urllib.parse import parse_qs, urlsplit

import pytest
from tests import messages

from outlast.environment import base, colab, detect, gcp, kaggle, local
from outlast.errors import UsageError


class Metadata(ThreadingHTTPServer):
    """Google's metadata server as far as it is asked, on 127.0.0.1."""

    daemon_threads = True

    def __init__(self) -> None:
        self.values = {
            "instance/id": "1234",
            "instance/machine-type": "projects/1/machineTypes/n1-standard-8",
            "instance/zone": "projects/1/zones/europe-west4-a",
            "instance/scheduling/preemptible": "TRUE",
            "instance/preempted": "FALSE",
        }
        self.flavor, self.asked, self.changed = True, [], Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                key = url.path.removeprefix("/computeMetadata/v1/")
                server.asked.append((key, self.headers.get("Metadata-Flavor")))
                if "wait_for_change" in parse_qs(url.query):
                    server.changed.wait(10)
                found = server.values.get(key)
                self.send_response(200 if found else 404)
                if server.flavor:
                    self.send_header("Metadata-Flavor", "Google")
                self.end_headers()
                self.wfile.write((found or "").encode())

            def log_message(self, *words: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def metadata(monkeypatch):
    server = Metadata()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    yield server
    server.changed.set()
    server.shutdown()
    server.server_close()
    thread.join()


def plant(root: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_local_is_the_fallback(tmp_path: Path) -> None:
    plant(tmp_path, sys__class__dmi__id__product_name="ThinkPad")
    found = detect(root=tmp_path)
    assert found.name == "local"
    assert found.limits.seconds is None
    assert found.limits.cores >= 1


def test_gcp_by_its_metadata_server(metadata: Metadata, tmp_path: Path) -> None:
    found = detect(root=tmp_path)
    assert found.name == "gcp"
    assert found.facts == {"machine": "n1-standard-8", "zone": "europe-west4-a", "spot": "yes"}
    assert "Google Cloud service account (metadata server)" in found.secrets
    assert all(flavor == "Google" for _, flavor in metadata.asked)


def test_a_server_without_the_header_is_not_googles(metadata: Metadata, tmp_path: Path) -> None:
    metadata.flavor = False
    assert detect(root=tmp_path).name == "local"


def test_a_silent_server_costs_half_a_second(monkeypatch, tmp_path: Path) -> None:
    import socket

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{deaf.getsockname()[1]}")
        begun = time.monotonic()
        assert detect(root=tmp_path).name == "local"
        assert time.monotonic() - begun < 3


def test_other_machines_query_no_metadata_server(monkeypatch, tmp_path: Path) -> None:
    plant(tmp_path, sys__class__dmi__id__product_name="Standard PC (Q35)")
    monkeypatch.setattr(gcp, "ask", lambda *a, **k: pytest.fail("asked"))
    monkeypatch.setattr(gcp, "_resolves", lambda host: pytest.fail("resolved"))
    assert not gcp.detected(tmp_path)


def test_no_query_if_the_name_does_not_resolve(monkeypatch, tmp_path: Path) -> None:
    plant(tmp_path, sys__class__dmi__id__product_name="Google Compute Engine")
    monkeypatch.setattr(gcp, "ask", lambda *a, **k: pytest.fail("asked"))
    monkeypatch.setattr(gcp, "HOST", "no-such-host.invalid")
    assert not gcp.detected(tmp_path)


def test_no_query_on_kaggle(metadata: Metadata, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "kaggle/working").mkdir(parents=True)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert detect(root=tmp_path).name == "kaggle"
    assert metadata.asked == []


def test_preemption_is_noticed(metadata: Metadata) -> None:
    stop, answers = Event(), []
    thread = threading.Thread(target=lambda: answers.append(gcp.wait_for_preemption(stop)))
    thread.start()
    time.sleep(0.2)
    assert not answers
    metadata.values["instance/preempted"] = "TRUE"
    metadata.changed.set()
    thread.join(5)
    assert answers == ["Google Cloud takes this machine back"]


def test_kaggle(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "kaggle/working").mkdir(parents=True)
    environ = {
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_DOCKER_IMAGE": "sha256:12",
        "KAGGLE_USER_SECRETS_TOKEN": "s3cret",
        "WANDB_API_KEY": "s3cret",
    }
    assert kaggle.detected(tmp_path, environ)
    ticks = os.sysconf("SC_CLK_TCK")
    plant(
        tmp_path,
        proc__uptime="9000.5 1.0",
        proc__1__stat=f"1 (jupyter (x) y) S {' '.join(['0'] * 18)} {5400 * ticks} 0 0",
    )
    found = kaggle.describe(tmp_path, environ)
    assert found.limits.seconds == pytest.approx(12 * 3600 - 3600.5, abs=1)
    assert found.limits.disk == 20 * 10**9
    assert found.facts == {"kernel": "Batch", "image": "sha256:12"}
    assert found.secrets == ("WANDB_API_KEY", "Kaggle secrets (UserSecretsClient)")
    assert found.inputs == (tmp_path / "kaggle/input",)
    assert "s3cret" not in repr(found)
    assert kaggle.describe(tmp_path, {**environ, "TPU_ACCELERATOR_TYPE": "v5e-8"}).limits.seconds == pytest.approx(
        9 * 3600 - 3600.5, abs=1
    )
    assert found.quota is None, "hours of a CPU are not counted"
    assert kaggle.describe(tmp_path, {**environ, "TPU_ACCELERATOR_TYPE": "v5e-8"}).quota == "TPU"
    monkeypatch.setattr(base, "gpus", lambda: (base.Gpu("Tesla T4", 15 * 2**30, bf16=False),))
    assert kaggle.describe(tmp_path, environ).quota == "GPU"
    assert not kaggle.detected(tmp_path, {}), "a folder alone may be a coincidence"
    assert not kaggle.detected(tmp_path / "elsewhere", environ)


def test_an_unreadable_start_time_is_age_zero(tmp_path: Path) -> None:
    assert kaggle.session_age(plant(tmp_path, proc__uptime="x", proc__1__stat="")) == 0


def test_kaggles_reserve() -> None:
    assert kaggle.reserve(0) == 900
    assert kaggle.reserve(10 * 10**9) == 180 + 1200


def test_memory_of_both_cgroup_versions(tmp_path: Path) -> None:
    assert base.ram(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    plant(tmp_path / "2", proc__self__cgroup="0::/a/b\n", sys__fs__cgroup__a__memory_max="")
    plant(
        tmp_path / "2", **{"sys__fs__cgroup__a__memory.max": "1000000\n", "sys__fs__cgroup__a__b__memory.max": "max\n"}
    )
    assert base.ram(tmp_path / "2") == 1_000_000
    plant(tmp_path / "1", sys__fs__cgroup__memory__memory_limit_in_bytes="")
    plant(tmp_path / "1", **{"sys__fs__cgroup__memory__memory.limit_in_bytes": "2000000"})
    assert base.ram(tmp_path / "1") == 2_000_000


def test_cores_of_both_cgroup_versions_and_affinity(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert base.cores(tmp_path) == 8
    assert base.cores(plant(tmp_path / "2", **{"sys__fs__cgroup__cpu.max": "350000 100000"})) == 3
    assert base.cores(plant(tmp_path / "max", **{"sys__fs__cgroup__cpu.max": "max 100000"})) == 8
    one = plant(
        tmp_path / "1",
        **{"sys__fs__cgroup__cpu__cpu.cfs_quota_us": "50000", "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000"},
    )
    assert base.cores(one) == 1
    free = plant(
        tmp_path / "-1",
        **{"sys__fs__cgroup__cpu__cpu.cfs_quota_us": "-1", "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000"},
    )
    assert base.cores(free) == 8


def test_gpus() -> None:
    assert base.parse_gpu("Tesla T4, 15360, 7.5") == base.Gpu("Tesla T4", 15360 * 2**20, bf16=False)
    assert base.parse_gpu("NVIDIA A100-SXM4-40GB, 40960, 8.0") == base.Gpu(
        "NVIDIA A100-SXM4-40GB", 40960 * 2**20, bf16=True
    )
    assert base.parse_gpu("No devices were found") is None


def test_a_planted_nvidia_smi(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla T4, 15360, 7.5'\necho 'Tesla T4, 15360, 7.5'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [gpu.name for gpu in base.gpus()] == ["Tesla T4", "Tesla T4"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert base.gpus() == ()


def test_a_forced_environment_keeps_the_machines_limits(tmp_path: Path) -> None:
    forced = detect("kaggle", root=plant(tmp_path, sys__class__dmi__id__product_name="x"))
    assert forced.name == "kaggle"
    assert forced.facts["detected"] == "local"
    assert forced.limits.seconds is None
    with messages.raises(UsageError, "environment/no-environment-choose-one-of-auto", environment="azure"):
        detect("azure")


def test_detection_changes_no_variable(tmp_path: Path) -> None:
    before = dict(os.environ)
    local.describe(tmp_path)
    detect(root=tmp_path)
    assert dict(os.environ) == before


def test_no_internet_is_said_soon(monkeypatch) -> None:
    found = local.describe()._replace(probe_host="no-such-host.invalid")
    assert found.internet() is False


def test_variables_state_facts_that_cannot_be_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a session, such as SLURM_JOB_END_TIME, and folders with runs of earlier sessions."""
    monkeypatch.setenv("OUTLAST_SESSION_ENDS", f"{time.time() + 100:.3f}")
    monkeypatch.setenv("OUTLAST_INPUTS", f"{tmp_path}{os.pathsep}{tmp_path / 'b'}")
    found = detect(root=tmp_path)
    assert 90 < found.limits.seconds <= 100
    assert found.inputs == (tmp_path, tmp_path / "b")
    for wrong in ("tomorrow", "nan", "inf"):
        monkeypatch.setenv("OUTLAST_SESSION_ENDS", wrong)
        with messages.raises(UsageError, "environment/session-ends", value=repr(wrong)):
            detect(root=tmp_path)


def test_colab(tmp_path: Path, metadata: Metadata) -> None:
    """Its runtimes are machines of Google Cloud, and no Spot machines of the user."""
    (tmp_path / "content").mkdir()
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/stat").write_text("1 (a b) S " + "0 " * 18 + f"{100 * os.sysconf('SC_CLK_TCK')}")
    (tmp_path / "proc/uptime").write_text("700.0 0.0")
    environ = {"COLAB_RELEASE_TAG": "release-colab_20261101", "HF_TOKEN": "s3cret"}
    assert colab.detected(tmp_path, environ)
    assert not colab.detected(tmp_path, {})
    assert not colab.detected(tmp_path / "proc", environ)
    found = colab.describe(tmp_path, environ)
    assert found.limits.seconds == 12 * 3600 - 600
    longer = {**environ, "OUTLAST_SESSION_ENDS": f"{time.time() + 20 * 3600}"}
    stated = base.stated(colab.describe(tmp_path, longer), longer)
    assert stated.limits.seconds == pytest.approx(20 * 3600, abs=5)
    assert found.age == 600
    assert found.facts == {"release": "release-colab_20261101", "drive": "not mounted"}
    assert "s3cret" not in str(found.record())
    assert found.secrets == ("HF_TOKEN",)


def test_colab_is_asked_before_google_cloud(tmp_path: Path, metadata: Metadata, monkeypatch) -> None:
    (tmp_path / "content").mkdir()
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert detect(root=tmp_path).name == "colab"
    assert metadata.asked == []
