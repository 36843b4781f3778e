"""Small publications, repositories and stores for the tests of publishing."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from outlast.publish import dvc, manifest
from outlast.publish.git import GitReference
from outlast.publish.manifest import ManifestReference
from outlast.publish.plan import Plan, make_plan
from outlast.publish.repository import repository_at
from outlast.publish.transaction import Journal, Published, publish
from outlast.remote.base import Remote

FILES = {
    "README.md": b"# a card\n",
    "train/metrics.json": b'{"loss": 1.0}\n',
    "train/weights/last.safetensors": b"last" * 5000,
    "train/weights/best.safetensors": b"best" * 5000,
}
TIME = "2025-12-23T14:30:00Z"
NAME = "kaggle-train-detection-exp001-20251223-143000"
STORED = {path for path in FILES if path.endswith(".safetensors")}


def plan(folder: Path, files: dict[str, bytes] | None = None, name: str | None = None) -> Plan:
    """A plan with files of these contents."""
    sources = []
    for path, data in (files or FILES).items():
        target = folder / "sources" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != data:
            target.write_bytes(data)
        sources.append((path, target))
    return make_plan(module="detection", experiment="exp001", time=TIME, about={"step": 5}, sources=sources, name=name)


def journal(folder: Path) -> Journal:
    return Journal(folder / "publish" / f"{NAME}.json", {"to": "x"})


def by_manifest(folder: Path, store: Remote, made: Plan | None = None) -> Published:
    """Publish with a manifest."""
    made = made or plan(folder)
    return publish(made, store, ManifestReference(store, "x", folder / "scratch"), journal(folder))


def by_git(
    folder: Path, store: Remote, url: str, repository: Path | None = None, address: str = "", **options: object
) -> Published:
    """Publish with a branch; `address`: of a store that is no folder."""
    made = options.pop("plan", None) or plan(folder)
    scratch = folder / f"scratch-{os.getpid()}"
    subprocess.run(["rm", "-rf", scratch], check=True)
    scratch.mkdir(parents=True)
    found = repository_at(repository, scratch) if repository else None
    address = address or str(store.root)  # type: ignore[attr-defined]
    reference = GitReference(url, address, scratch, repository=found, **options)  # type: ignore[arg-type]
    return publish(made, store, reference, journal(folder))  # type: ignore[arg-type]


ENVIRONMENT = {
    **os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "n",
    "GIT_AUTHOR_EMAIL": "n@localhost", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "n@localhost",
}  # fmt: skip


def git(place: Path, *words: str | Path) -> str:
    """Run git as a user does."""
    done = subprocess.run(["git", "-C", place, *words], env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def server(folder: Path, form: str = "sha1") -> Path:
    """A bare repository without commits."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--bare", "-b", "main", f"--object-format={form}")
    return folder


def clone(of: Path, folder: Path, form: str = "sha1") -> Path:
    """A work tree with one commit that the server has."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "-b", "main", f"--object-format={form}")
    (folder / "code.py").write_text("print(1)\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    git(folder, "remote", "add", "origin", of)
    git(folder, "push", "--quiet", "origin", "main")
    return folder


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the hash of its contents and its time."""
    return {
        str(path.relative_to(folder)): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.lstat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wrong_with_branch(url: Path, store: Path, name: str = NAME) -> str | None:
    """What a consumer of a branch would miss; None: the branch is complete, or there is none."""
    try:
        git(url, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}")
    except subprocess.CalledProcessError:
        return None
    folder = "artifacts/detection/exp001"
    for path, data in FILES.items():
        if path in STORED:
            found = git(url, "show", f"{name}:{folder}/{path}.dvc")
            (object_name,) = dvc.objects_in(found.encode(), path)
            file = store / object_name
            if not file.is_file() or file.read_bytes() != data:
                return f"{path} has no whole object"
        elif git(url, "show", f"{name}:{folder}/{path}") != data.decode().strip():
            return f"{path} is another file"
    return None


def wrong_with_manifest(store: Path, name: str = NAME) -> str | None:
    """The same for a manifest."""
    place = store / manifest.reference_name(name)
    if not place.exists():
        return None
    for file in manifest.read(place.read_bytes(), place).files:
        found = store / file.object
        if not found.is_file() or found.read_bytes() != FILES[file.path]:
            return f"{file.path} has no whole object"
    return None


def is_visible(url: Path, name: str = NAME) -> bool:
    """Whether the server has the branch."""
    return bool(git(url, "for-each-ref", f"refs/heads/{name}"))
