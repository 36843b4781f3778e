"""What Kaggle remembers and does: accounts, kernels and their sessions, datasets, quota. Knows no HTTP."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import threading
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OVER_TIME = "Your notebook was stopped because it exceeded the max allowed execution duration."
OVER_MEMORY = "Your notebook tried to allocate more memory than is available."
SHAPES = {"": "cpu", "None": "cpu", "NvidiaTeslaT4": "gpu", "TpuV5E8": "tpu"}
RETIRED = {"NvidiaTeslaP100": "NvidiaTeslaT4", "TpuV38": "TpuV5E8", "Tpu1VmV38": "TpuV5E8"}


@functools.cache
def interpreter() -> Path:
    """A Python with all that this one has but outlast, as an image of Kaggle would be: what is pushed has to bring it.

    One for all worlds of this process.
    """
    folder = Path(tempfile.mkdtemp(prefix="outlast-image-"))
    atexit.register(_remove, folder, os.getpid())
    venv.create(folder, symlinks=True)
    packages = folder / "packages"
    packages.mkdir()
    for place in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "outlast" not in place.name and place.suffix != ".pth":
            (packages / place.name).symlink_to(place)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "packages.pth").write_text(f"{packages}\n")
    shutil.copyfile(Path(__file__).with_name("compiled.py"), site / "sitecustomize.py")
    return folder / "bin/python"


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and no fork of it
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Knobs:
    """How this Kaggle behaves. Times in seconds, short by default.

    Attributes:
        queue: between a push and RUNNING.
        saving: of the phase after a session's end in which its files appear one by one.
        session: length of a session, whatever the push asked for.
        keep_at_limit: whether the files of a session that hit its limit are kept. Contested on the real service, so
            they are not.
        keep_at_cancel: the same for a cancelled one.
        gpu_sessions, cpu_sessions: at once.
        gpu_seconds: left this week.
        dataset_ready: until a dataset can be mounted.
        dataset_hidden: after a dataset was made, for which it is answered with 403 as if there were none.
        early_version_403: whether a second version is refused before the first is ready.
        source_limit: bytes of code in one push.
        signed_seconds: how long a download URL lives.
        page: files in one page of outputs, whatever is asked for, at most.
        layouts: of mounts: "new" (/input/datasets/OWNER/SLUG), "old" (/input/SLUG).
        gpu_is_there: whether a session that asked for a GPU finds one.
        flat_errors: {"code", "message"} instead of {"error": {...}}.
        session_token: whether a session finds a token of its account, as kagglehub uses it there. Whether that one may
            write datasets on the real
            service is not known.
        memory_marker: a session that writes a file of this name dies as out of memory.
    """

    queue: float = 0.05
    saving: float = 0.05
    session: float = 3600.0
    keep_at_limit: bool = False
    keep_at_cancel: bool = True
    gpu_sessions: int = 2
    cpu_sessions: int = 5
    gpu_seconds: float = 30 * 3600.0
    dataset_ready: float = 0.05
    dataset_hidden: float = 0.0
    early_version_403: bool = True
    source_limit: int = 1_000_000
    signed_seconds: float = 60.0
    page: int = 200
    layouts: tuple[str, ...] = ("new",)
    gpu_is_there: bool = True
    flat_errors: bool = False
    session_token: bool = True
    memory_marker: str = "out-of-memory"


class Refused(Exception):
    """An HTTP status and Kaggle's reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass
class Session:
    """One execution of one version of a kernel."""

    id: int
    folder: Path
    shape: str
    seconds: float
    status: str = "QUEUED"
    failure: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    begun: float = 0.0
    ended: float = 0.0
    cancelled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    deleted: bool = False

    @property
    def alive(self) -> bool:
        return not self.over.is_set()


@dataclass
class Version:
    number: int
    metadata: dict[str, Any]
    session: Session | None = None


@dataclass
class Kernel:
    id: int
    owner: str
    slug: str
    title: str
    versions: list[Version] = field(default_factory=list)


@dataclass
class DatasetVersion:
    number: int
    files: dict[str, bytes]
    ready_at: float

    @property
    def status(self) -> str:
        """Kaggle finds out while it stores the files that a name has a character that it does not take."""
        if self.ready_at > time.monotonic():
            return "BLOBS_RECEIVED"
        return "FAILED" if any("@" in name for name in self.files) else "READY"


@dataclass
class Dataset:
    owner: str
    slug: str
    private: bool
    title: str = ""
    versions: list[DatasetVersion] = field(default_factory=list)
    made: float = field(default_factory=time.monotonic)


class World:
    """Everything that Kaggle holds, behind one lock.

    Args:
        folder: where sessions get their disks.
        knobs: how it behaves; may be changed at any time.
        url: of the server, for code in kernels.
    """

    def __init__(self, folder: Path, knobs: Knobs, url: Callable[[], str]) -> None:
        self.folder, self.knobs, self.url = folder, knobs, url
        self.lock = threading.RLock()
        self.accounts: dict[str, str] = {}  # user -> legacy key
        self.tokens: dict[str, str] = {}  # token -> user
        self.refresh_tokens: dict[str, str] = {}  # of `kaggle auth login` -> user
        self.secrets: dict[str, str] = {}  # attached in the browser: label -> value
        self.kernels: dict[tuple[str, str], Kernel] = {}
        self.datasets: dict[tuple[str, str], Dataset] = {}
        self.blobs: dict[str, dict[str, Any]] = {}
        self.gpu_used = 0.0
        self.pushed = 0
        self.refresh = "2026-11-28T00:00:00Z"
        self.commands: set[str] = set()  # argument lists of the processes that sessions were seen to run
        self.ids = iter(range(41_000_001, 2**31))

    # accounts ------------------------------------------------------------------------------------------------------

    def add_user(self, name: str, key: str = "", token: str = "") -> None:
        self.accounts[name] = key
        if token:
            self.tokens[token] = name

    # kernels -------------------------------------------------------------------------------------------------------

    def push(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        """SaveKernel. A refusal that Kaggle sends with status 200 is a dict with "error"."""
        text = request.get("text", "")
        if len(text.encode()) > self.knobs.source_limit:
            raise Refused(400, "The kernel source must not exceed 1 megabytes in size.")
        owner, _, slug = request.get("slug", "").partition("/")
        title = request.get("newTitle", "") or slug
        if owner != user:
            raise Refused(403, "Permission 'kernels.update' was denied")
        if len(slug) < 5 or len(title) < 5:
            raise Refused(400, "The slug and the title must have at least 5 characters.")
        filed = slugify(title) or slug
        shape = RETIRED.get(request.get("machineShape", ""), request.get("machineShape", ""))
        if not shape and request.get("enableGpu"):
            shape = "NvidiaTeslaT4"
        if shape not in SHAPES:
            return {"error": f"The machine shape {shape} is not available to you."}
        kind = SHAPES[shape]
        with self.lock:
            alive = [session for session in self.sessions() if session.alive and SHAPES[session.shape] == kind]
            cap = {"gpu": self.knobs.gpu_sessions, "cpu": self.knobs.cpu_sessions, "tpu": 1}[kind]
            if len(alive) >= cap and request.get("kernelExecutionType") != "QUICK_SAVE":
                return {"error": f"Maximum batch {kind.upper()} session count of {cap} reached."}
            if kind == "gpu" and self.gpu_used >= self.knobs.gpu_seconds:
                return {"error": "You have used all of your weekly GPU quota."}
            invalid_kernels = [ref for ref in request.get("kernelDataSources", []) if not self._outputs_of(ref)]
            invalid_datasets = [ref for ref in request.get("datasetDataSources", []) if not self._dataset(ref)]
            kernel = self.kernels.setdefault((user, filed), Kernel(next(self.ids), user, filed, title))
            version = Version(len(kernel.versions) + 1, dict(request))
            kernel.versions.append(version)
            self.pushed += 1
            if request.get("kernelExecutionType") != "QUICK_SAVE":
                asked = float(request.get("sessionTimeoutSeconds") or self.knobs.session)
                number = next(self.ids)
                version.session = Session(
                    number, self.folder / "sessions" / str(number), shape, min(asked, self.knobs.session)
                )
                threading.Thread(target=self._live, args=(kernel, version), daemon=True).start()
        return {
            "ref": f"/code/{user}/{filed}",
            "url": f"https://www.kaggle.com/code/{user}/{filed}",
            "versionNumber": version.number,
            "kernelId": kernel.id,
            "invalidKernelSources": invalid_kernels,
            "invalidDatasetSources": invalid_datasets,
        }

    def version(self, user: str, owner: str, slug: str, label: str = "") -> Version:
        """The version that a label such as "v3" names, or the newest."""
        kernel = self.kernels.get((owner, slug))
        if kernel is None or owner != user:
            raise Refused(403, "Permission 'kernels.get' was denied")
        if label:
            found = [version for version in kernel.versions if f"v{version.number}" == label]
            if not found:
                raise Refused(404, f"There is no version {label}.")
            return found[0]
        return kernel.versions[-1]

    def session(self, user: str, owner: str, slug: str, label: str = "") -> Session:
        session = self.version(user, owner, slug, label).session
        if session is None:
            raise Refused(404, "No runs found for this kernel")
        return session

    def sessions(self) -> Iterator[Session]:
        for kernel in self.kernels.values():
            for version in kernel.versions:
                if version.session:
                    yield version.session

    def cancel(self, user: str, number: int) -> None:
        for kernel in self.kernels.values():
            for version in kernel.versions:
                if version.session and version.session.id == number and kernel.owner == user:
                    version.session.cancelled.set()
                    return
        raise Refused(403, "Permission 'kernelSessions.cancel' was denied")

    def delete(self, user: str, owner: str, slug: str) -> None:
        self.version(user, owner, slug)
        for version in self.kernels.pop((owner, slug)).versions:
            if version.session:
                version.session.deleted = True
                version.session.cancelled.set()

    def quota(self) -> dict[str, Any]:
        running = sum(
            time.monotonic() - session.begun
            for session in self.sessions()
            if session.begun and not session.ended and SHAPES[session.shape] == "gpu"
        )
        used = {"timeUsed": f"{self.gpu_used + running:.3f}s", "totalTimeAllowed": f"{self.knobs.gpu_seconds:.3f}s"}
        tpu = {"timeUsed": "0s", "totalTimeAllowed": "72000s"}
        return {"quotaRefreshTime": self.refresh, "gpuQuota": used, "tpuQuota": tpu}

    # a session's life ----------------------------------------------------------------------------------------------

    def _live(self, kernel: Kernel, version: Version) -> None:
        session = version.session
        assert session
        try:
            if session.cancelled.wait(self.knobs.queue):
                session.status = "CANCEL_ACKNOWLEDGED"
                return
            working = self._mount(session, version)
            session.status, session.begun = "RUNNING", time.monotonic()
            code, stopped = self._execute(kernel, version, session, working)
            session.ended = time.monotonic()
            if SHAPES[session.shape] == "gpu":
                self.gpu_used += session.ended - session.begun
            keep, final = True, "COMPLETE" if code == 0 else "ERROR"
            if stopped == "limit":
                keep, final, session.failure = self.knobs.keep_at_limit, "CANCEL_ACKNOWLEDGED", OVER_TIME
            elif stopped == "cancel":
                keep, final, session.status = self.knobs.keep_at_cancel, "CANCEL_ACKNOWLEDGED", "CANCEL_REQUESTED"
            elif (working / self.knobs.memory_marker).exists():
                final, session.failure = "ERROR", OVER_MEMORY
            self._save_outputs(session, working, keep=keep and not session.deleted)
            session.status = final
        finally:
            session.over.set()

    def _mount(self, session: Session, version: Version) -> Path:
        working, inputs = session.folder / "kaggle/working", session.folder / "kaggle/input"
        working.mkdir(parents=True)
        inputs.mkdir()
        for ref in version.metadata.get("datasetDataSources", []):
            dataset = self._dataset(ref)
            ready = [each for each in dataset.versions if each.ready_at <= time.monotonic()] if dataset else []
            if dataset and ready:
                for place in self._places(inputs, "datasets", dataset.owner, dataset.slug):
                    for name, data in ready[-1].files.items():
                        (place / name).parent.mkdir(parents=True, exist_ok=True)
                        (place / name).write_bytes(data)
        for ref in version.metadata.get("kernelDataSources", []):
            owner, slug = ref.split("/")[:2]
            for place in self._places(inputs, "notebooks", owner, slug):
                for name, path in self._outputs_of(ref).items():
                    (place / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place / name)
        return working

    def _places(self, inputs: Path, kind: str, owner: str, slug: str) -> list[Path]:
        places = {"new": inputs / kind / owner / slug, "old": inputs / slug}
        return [places[layout] for layout in self.knobs.layouts]

    def _outputs_of(self, ref: str) -> dict[str, Path]:
        owner, slug = ref.split("/")[:2]
        kernel = self.kernels.get((owner, slug))
        ended = [v.session for v in kernel.versions if v.session and not v.session.alive] if kernel else []
        return ended[-1].files if ended else {}

    def _dataset(self, ref: str) -> Dataset | None:
        owner, slug = ref.split("/")[:2]
        return self.datasets.get((owner, slug))

    def _execute(self, kernel: Kernel, version: Version, session: Session, working: Path) -> tuple[int, str]:
        """Run the code; returns its exit code, and "limit" or "cancel" when it was killed for that."""
        script = session.folder / "script.py"
        script.write_text(source_of(version.metadata))
        home = session.folder / "home"
        home.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "KAGGLE_CONTAINER_NAME": f"kaggle_standin-{kernel.id}-{session.id}-webtier",
            "KAGGLE_DOCKER_IMAGE": "gcr.io/kaggle-images/python@sha256:" + "0" * 64,
            "KAGGLE_URL_BASE": self.url(),
            "KAGGLE_USER_SECRETS_TOKEN": "session-secret-token",
            "KAGGLE_DATA_PROXY_URL": self.url(),
            "KAGGLE_DATA_PROXY_TOKEN": "session-proxy-token",
            "OUTLAST_KAGGLE_ROOT": str(session.folder),
            # Whatever the session's code asks of Kaggle is asked here, and can go nowhere else.
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.url(),
            "NO_PROXY": "127.0.0.1",
        }
        if self.knobs.session_token:
            place = home / "api-v1-token"
            place.write_text(token := f"token-of-session-{session.id}")
            self.tokens[token] = kernel.owner
            environment["KAGGLE_API_V1_TOKEN"] = str(place)
        if SHAPES[session.shape] == "gpu" and self.knobs.gpu_is_there:
            tool = home / "bin/nvidia-smi"
            tool.parent.mkdir()
            tool.write_text("#!/bin/sh\necho 'GPU 0: Tesla T4 (UUID: GPU-0)'\necho 'GPU 1: Tesla T4 (UUID: GPU-1)'\n")
            tool.chmod(0o755)
            environment["PATH"] = f"{tool.parent}:{environment['PATH']}"
        process = subprocess.Popen(
            [str(interpreter()), str(script)],
            cwd=working,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        readers = [
            threading.Thread(target=self._read, args=(session, name, stream), daemon=True)
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for reader in readers:
            reader.start()
        end, stopped = time.monotonic() + session.seconds, ""
        looked = 0.0
        while process.poll() is None:
            if time.monotonic() > looked + 0.3:
                self._look_at(process.pid)
                looked = time.monotonic()
            if session.cancelled.wait(0.02):
                stopped = "cancel"
            elif time.monotonic() >= end:
                stopped = "limit"
            if stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for reader in readers:
            reader.join(timeout=5)
        return process.returncode, stopped

    def _look_at(self, group: int) -> None:
        """Note the argument lists of a session's processes, as anybody on such a machine could."""
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                if int((place / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                    self.commands.add((place / "cmdline").read_text().replace("\0", " "))

    def _read(self, session: Session, name: str, stream: Any) -> None:
        for line in stream:
            entry = {"stream_name": name, "time": round(time.monotonic() - session.begun, 3), "data": line}
            session.log.append(entry)

    def _save_outputs(self, session: Session, working: Path, *, keep: bool) -> None:
        paths = (
            [path for path in sorted(working.rglob("*")) if path.is_file() and not path.is_symlink()] if keep else []
        )
        for path in paths:
            time.sleep(self.knobs.saving / len(paths))
            session.files[str(path.relative_to(working))] = path

    # datasets ------------------------------------------------------------------------------------------------------

    def create_dataset(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        owner, slug = request.get("ownerSlug") or user, request.get("slug", "")
        if owner != user:
            raise Refused(403, "Permission 'datasets.create' was denied")
        if not 6 <= len(slug) <= 50:
            return {"status": "error", "error": "The dataset slug must be between 6 and 50 characters"}
        if not re.fullmatch("[A-Za-z0-9-]+", slug):
            return {"status": "error", "error": 'Slug can only contain alphanumeric or "-" characters'}
        if not 6 <= len(request.get("title", "")) <= 50:
            return {"status": "error", "error": "The dataset title must be between 6 and 50 characters"}
        if (owner, slug) in self.datasets:
            return {"status": "error", "error": f"The requested title is already in use by a dataset: {slug}"}
        dataset = self.datasets[owner, slug] = Dataset(owner, slug, bool(request.get("isPrivate")), request["title"])
        self._add_version(dataset, request)
        return {
            "status": "ok",
            "ref": f"/datasets/{owner}/{slug}",
            "url": f"https://www.kaggle.com/datasets/{owner}/{slug}",
        }

    def create_version(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        dataset = self._own_dataset(user, request)
        if self.knobs.early_version_403 and dataset.versions[-1].ready_at > time.monotonic():
            raise Refused(403, "Permission 'datasets.update' was denied")
        body = request.get("body", {})
        if body.get("deleteOldVersions"):
            del dataset.versions[:-1]
        self._add_version(dataset, body)
        if body.get("deleteOldVersions"):
            del dataset.versions[:-1]
        return {"status": "ok", "ref": f"/datasets/{user}/{dataset.slug}"}

    def dataset_status(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"status": self._own_dataset(user, request).versions[-1].status}

    def dataset_files(self, user: str, request: dict[str, Any]) -> dict[str, bytes]:
        return self._own_dataset(user, request).versions[-1].files

    def dataset_file(self, user: str, request: dict[str, Any]) -> bytes:
        """A file of the newest version; unless it is asked for raw, a table comes as an archive."""
        dataset = self.datasets.get((request.get("ownerSlug", ""), request.get("datasetSlug", "")))
        if dataset is None or (dataset.private and dataset.owner != user):
            raise Refused(403, "Permission 'datasets.get' was denied")
        version, name = dataset.versions[-1], request.get("fileName", "")
        if version.status != "READY" or name not in version.files:
            raise Refused(404, "Not found")
        data = version.files[name]
        if request.get("raw") or not name.endswith(".csv"):
            return data
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(name.rpartition("/")[2], data)
        return packed.getvalue()

    def dataset_about(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        dataset = self._own_dataset(user, request)
        return {"ref": f"{dataset.owner}/{dataset.slug}", "currentVersionNumber": dataset.versions[-1].number}

    def dataset_metadata(self, user: str, request: dict[str, Any]) -> dict[str, Any]:
        dataset = self._own_dataset(user, request)
        return {"datasetSlug": dataset.slug, "ownerUser": dataset.owner, "isPrivate": dataset.private, "licenses": []}

    def delete_dataset(self, user: str, request: dict[str, Any]) -> None:
        dataset = self._own_dataset(user, request)
        del self.datasets[dataset.owner, dataset.slug]

    def _own_dataset(self, user: str, request: dict[str, Any]) -> Dataset:
        dataset = self.datasets.get((request.get("ownerSlug", ""), request.get("datasetSlug", "")))
        hidden = dataset is not None and time.monotonic() < dataset.made + self.knobs.dataset_hidden
        if dataset is None or dataset.owner != user or hidden:
            raise Refused(403, "Permission 'datasets.get' was denied")
        return dataset

    def _add_version(self, dataset: Dataset, request: dict[str, Any]) -> None:
        files: dict[str, bytes] = {}
        self._collect(files, "", request)
        number = dataset.versions[-1].number + 1 if dataset.versions else 1
        dataset.versions.append(DatasetVersion(number, files, time.monotonic() + self.knobs.dataset_ready))

    def _collect(self, files: dict[str, bytes], prefix: str, request: dict[str, Any]) -> None:
        """The uploaded files of a request and of the folders in it."""
        for each in request.get("files", []):
            blob = self.blobs.get(each["token"])
            if blob is None or len(blob["data"]) != blob["size"]:
                raise Refused(400, "A file was not uploaded.")
            name = prefix + blob["name"]
            if name.endswith(".zip"):  # archives are unpacked
                with zipfile.ZipFile(io.BytesIO(blob["data"])) as archive:
                    inner = [each for each in archive.infolist() if not each.is_dir()]
                    files |= {f"{name[:-4]}/{each.filename}": archive.read(each) for each in inner}
                continue
            files[name] = bytes(blob["data"])
        for folder in request.get("directories", []):
            self._collect(files, f"{prefix}{folder['name']}/", folder)

    def start_blob(self, request: dict[str, Any]) -> str:
        token = f"blob-{next(self.ids)}"
        self.blobs[token] = {"name": request["name"], "size": int(request.get("contentLength", 0)), "data": bytearray()}
        return token


def slugify(title: str) -> str:
    """As Kaggle makes a slug of a title."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())


def source_of(metadata: dict[str, Any]) -> str:
    """The Python of a pushed script or notebook."""
    text = str(metadata.get("text", ""))
    if metadata.get("kernelType") != "notebook":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    return "\n\n".join(
        "\n".join(line for line in source.splitlines() if not line.startswith(("!", "%"))) for source in sources
    )
