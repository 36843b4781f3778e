"""The transaction with a manifest in a folder: what becomes visible when, and what a failure leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlast.errors import (
    CorruptCheckpoint,
    ObjectConflict,
    OutlastError,
    PublishConflict,
    PublishFailed,
    RemoteRefused,
    RemoteUnavailable,
    UsageError,
)  # fmt: skip
from outlast.publish import fetching, manifest, transaction
from outlast.publish.manifest import ManifestReference
from outlast.publish.plan import make_plan, slug
from outlast.publish.transaction import publish
from outlast.remote import parallel
from outlast.remote.base import Capabilities
from outlast.remote.folder import FolderRemote
from tests import messages
from tests.publish import making


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same order of requests each time, which most of these tests look at."""
    monkeypatch.setattr(parallel, "AT_ONCE", 1)


@pytest.fixture
def store(tmp_path: Path) -> FolderRemote:
    return FolderRemote(tmp_path / "store")


def record_of(folder: Path) -> dict:
    return json.loads((folder / "publish" / f"{making.NAME}.json").read_text())


def test_a_publication_is_visible_and_comes_back(tmp_path: Path, store: FolderRemote) -> None:
    done = making.by_manifest(tmp_path, store)
    assert (done.name, done.before, done.sent) == (making.NAME, False, 4)
    assert record_of(tmp_path)["state"] == "visible"
    assert record_of(tmp_path)["identity"] == done.identity
    assert fetching.names_in(store) == [making.NAME]
    seen = []
    found = fetching.fetch(store, making.NAME, tmp_path / "got", lambda name, size: seen.append((name, size)))
    assert {path: (tmp_path / "got" / path).read_bytes() for path in making.FILES} == making.FILES
    assert dict(seen) == {path: len(data) for path, data in making.FILES.items()}
    assert found.record["step"] == 5
    assert making.wrong_with_manifest(store.root) is None


def test_the_same_again_is_not_sent(tmp_path: Path, store: FolderRemote) -> None:
    first = making.by_manifest(tmp_path, store)
    again = making.by_manifest(tmp_path, store)
    assert (again.before, again.sent, again.identity) == (True, 0, first.identity)
    (tmp_path / "publish" / f"{making.NAME}.json").unlink()
    assert making.by_manifest(tmp_path, store).before is True, "without the journal too"


def test_a_blob_that_was_lost_comes_again(tmp_path: Path, store: FolderRemote) -> None:
    making.by_manifest(tmp_path, store)
    made = making.plan(tmp_path)
    (store.root / manifest.blob_name(made.files[0].sha256)).unlink()
    assert making.by_manifest(tmp_path, store).sent == 1
    assert making.wrong_with_manifest(store.root) is None


def test_another_publication_of_this_name_stays(tmp_path: Path, store: FolderRemote) -> None:
    making.by_manifest(tmp_path / "a", store)
    before = (store.root / manifest.reference_name(making.NAME)).read_bytes()
    other = making.plan(tmp_path / "b", {**making.FILES, "README.md": b"another"})
    with pytest.raises(PublishConflict, match=f"--name {making.NAME}-2"):
        making.by_manifest(tmp_path / "b", store, other)
    assert (store.root / manifest.reference_name(making.NAME)).read_bytes() == before
    renamed = making.plan(tmp_path / "b", {**making.FILES, "README.md": b"another"}, f"{making.NAME}-2")
    assert making.by_manifest(tmp_path / "b", store, renamed).before is False


def test_a_changed_publication_of_ones_own_is_distinguished_from_anothers(tmp_path: Path, store: FolderRemote) -> None:
    making.by_manifest(tmp_path, store)
    with messages.raises(PublishConflict, "publish/name-taken-by-own"):
        making.by_manifest(tmp_path, store, making.plan(tmp_path, {**making.FILES, "README.md": b"more"}))


def test_a_damaged_object_is_not_relied_on(tmp_path: Path, store: FolderRemote) -> None:
    """Exists is not enough: an object of the right name and other contents stops the publication."""
    made = making.plan(tmp_path)
    place = store.root / manifest.blob_name(made.files[2].sha256)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    with messages.raises(PublishFailed, "publish/object-is-damaged"):
        making.by_manifest(tmp_path, store)
    assert place.read_bytes() == b""
    assert fetching.names_in(store) == []
    place.unlink()
    assert making.by_manifest(tmp_path, store).before is False


class Store(FolderRemote):
    """A folder that fails as a network does, at the calls that a test names."""

    def __init__(self, root: Path, **failures: object) -> None:
        super().__init__(root)
        self.failures = failures
        self.calls: list[str] = []

    def _call(self, what: str, name: str, *, after: bool = False) -> None:
        if not after:
            self.calls.append(f"{what} {name.partition('/')[0]}")
        found = self.failures.get(f"{what}_{name.partition('/')[0]}{'_after' if after else ''}")
        if isinstance(found, list):
            found = found.pop(0) if found else None
        if isinstance(found, Exception):
            raise found

    def put_if_absent(self, name: str, file: Path) -> bool:
        self._call("put", name)
        wrote = super().put_if_absent(name, file)
        self._call("put", name, after=True)
        return wrote

    def stat(self, name: str):
        self._call("stat", name)
        return super().stat(name)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self._call("get", name)
        yield from super().get(name, start, stop)


REFUSED = RemoteRefused("403: not allowed.", "403")
LATER = RemoteUnavailable("503: busy.", "503")


@pytest.mark.parametrize("error", [REFUSED, LATER])
@pytest.mark.parametrize("call", ["put_blobs", "stat_blobs", "put_publications", "get_publications"])
def test_a_request_that_fails_makes_nothing_visible(tmp_path: Path, call: str, error: Exception) -> None:
    store = Store(tmp_path / "store", **{call: error})
    with messages.raises(PublishFailed, "publish/nothing-is-visible", error=str(error), more=messages.ANY):
        making.by_manifest(tmp_path, store)
    assert fetching.names_in(FolderRemote(store.root)) == []
    if call == "put_publications":
        assert store.calls.count("put publications") == (1 if error is REFUSED else transaction.TRIES)
    assert making.by_manifest(tmp_path, FolderRemote(store.root)).before is False


def test_a_lost_reply_is_not_a_failure(tmp_path: Path) -> None:
    """The server has created the reference, and the reply says otherwise: only what is read back counts."""
    store = Store(tmp_path / "store", put_publications_after=LATER)
    assert making.by_manifest(tmp_path, store).before is False
    assert record_of(tmp_path)["state"] == "visible"


def test_a_good_reply_without_a_reference_is_not_believed(tmp_path: Path) -> None:
    class Liar(FolderRemote):
        def put_if_absent(self, name: str, file: Path) -> bool:
            return True if name.startswith("publications") else super().put_if_absent(name, file)

    with pytest.raises(PublishFailed):
        making.by_manifest(tmp_path, Liar(tmp_path / "store"))
    assert record_of(tmp_path)["state"] == "planned"


def test_a_verdict_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", get_publications=[None, LATER])
    with messages.raises(PublishFailed, "publish/reference-not-known"):
        making.by_manifest(tmp_path, store)
    assert making.by_manifest(tmp_path, FolderRemote(store.root)).before is True


def test_the_gate_sees_a_blob_that_went_meanwhile(tmp_path: Path) -> None:
    class Losing(FolderRemote):
        def put_if_absent(self, name: str, file: Path) -> bool:
            wrote = super().put_if_absent(name, file)
            if "blobs" in name and not lost:
                lost.append(self._path(name))
                lost[0].unlink()
            return wrote

    lost: list[Path] = []
    with messages.raises(PublishFailed, "publish/blob-missing"):
        making.by_manifest(tmp_path, Losing(tmp_path / "store"))
    assert fetching.names_in(FolderRemote(tmp_path / "store")) == []


def test_the_order_is_blobs_gate_reference_verdict(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    making.by_manifest(tmp_path, store)
    assert store.calls == [
        "get publications", *["put blobs"] * 4, *["stat blobs"] * 4, "put publications", "get publications",
    ]  # fmt: skip


def test_blobs_are_put_and_looked_at_several_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "AT_ONCE", 4)
    puts, looks = threading.Barrier(4, timeout=10), threading.Barrier(4, timeout=10)

    class Together(FolderRemote):
        def put_if_absent(self, name: str, file: Path) -> bool:
            if name.startswith("blobs"):
                puts.wait()
            return super().put_if_absent(name, file)

        def stat(self, name: str):
            looks.wait()
            return super().stat(name)

    assert making.by_manifest(tmp_path, Together(tmp_path / "store")).sent == 4
    assert making.wrong_with_manifest(tmp_path / "store") is None


def test_after_the_deadline_blobs_are_made_young_again(tmp_path: Path) -> None:
    store, times = Store(tmp_path / "store"), iter([0.0, transaction.DEADLINE + 1, 0.0, 1.0])
    made = making.plan(tmp_path)
    reference = ManifestReference(store, "x", tmp_path / "scratch")
    done = publish(made, store, reference, making.journal(tmp_path), clock=lambda: next(times))
    assert store.calls.count("put blobs") == 8
    assert store.calls.count("put publications") == 1
    assert done.sent == 0
    late = iter([0.0, transaction.DEADLINE + 1] * 3)
    with messages.raises(PublishFailed, "publish/took-too-long", seconds=3600):
        publish(
            making.plan(tmp_path / "b", name="another"), store, ManifestReference(store, "x", tmp_path / "b/scratch"),
            making.journal(tmp_path / "b"), clock=lambda: next(late),
        )  # fmt: skip
    assert fetching.names_in(store) == [making.NAME]


class OneCommit(Store):
    """A folder that says that it takes many files in one step."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(True, True, True, "sha256", atomic_batch=True)


def test_a_store_with_one_commit_for_all_gets_all_in_one(tmp_path: Path) -> None:
    class Batch(OneCommit):
        def put_all_if_absent(self, files, last=None):
            batches.append((sorted(files), last))
            return super().put_all_if_absent(files, last)

    batches: list = []
    store = Batch(tmp_path / "store")
    making.by_manifest(tmp_path, store)
    reference = manifest.reference_name(making.NAME)
    assert batches == [(sorted([*(f"{making.NAME}/{path}" for path in making.FILES), reference]), reference)]
    fetching.fetch(store, making.NAME, tmp_path / "got")
    assert (tmp_path / "got/train/weights/last.safetensors").read_bytes() == b"last" * 5000
    assert making.by_manifest(tmp_path, store).before is True


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, "publish/visible-and-missing"),
        (lambda path: path.write_bytes(b"other"), "publish/visible-and-another"),
        (lambda path: path.write_bytes(path.read_bytes()[::-1]), "publish/visible-and-another"),
    ],
)
def test_what_came_in_one_commit_is_looked_at_once_more(
    tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    """The service says that all is there, and leaves a file out, or keeps another one."""

    class Careless(OneCommit):
        def put_all_if_absent(self, files, last=None):
            written = super().put_all_if_absent(files, last)
            harm(self._path(f"{making.NAME}/train/metrics.json"))
            return written

    with messages.raises(PublishFailed, message, path="metrics.json"):
        making.by_manifest(tmp_path, Careless(tmp_path / "store"))
    assert record_of(tmp_path)["state"] == "planned"
    before = OneCommit(tmp_path / "store")
    with messages.raises(PublishFailed, message, path="metrics.json"):
        making.by_manifest(tmp_path, before)
    assert before.calls == ["get publications", "get publications", *[f"stat {making.NAME}"] * 2]


def test_a_store_that_replaces_is_refused(tmp_path: Path) -> None:
    class Replacing(FolderRemote):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(True, False, True, "sha256")

    with messages.raises(PublishFailed, "publish/name-taken"):
        making.by_manifest(tmp_path, Replacing(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_names_are_those_of_branches_and_objects() -> None:
    assert [slug(text) for text in ("a b", "..", "x.lock", "-a-", "a..b", "ü", "a/b", "")] == [
        "a-b", "run", "x", "a", "a-b", "run", "a-b", "run",
    ]  # fmt: skip


def test_the_same_files_make_the_same_manifest(tmp_path: Path) -> None:
    assert manifest.write(making.plan(tmp_path / "a")) == manifest.write(making.plan(tmp_path / "b"))


@pytest.mark.parametrize("path", ["../up", "/etc/x", "a//b", ".hidden", "a\nb"])
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with messages.raises(OutlastError, "publish/no-plain-file-name", path=repr(path)):
        make_plan(module="m", experiment="e", time=making.TIME, about={}, sources=[(path, tmp_path / "x")])


def test_what_is_fetched_is_verified(tmp_path: Path, store: FolderRemote) -> None:
    making.by_manifest(tmp_path, store)
    made = making.plan(tmp_path)
    place = store.root / manifest.blob_name(made.files[2].sha256)
    data = place.read_bytes()
    for wrong in (data[:-1], data + b"x", b"X" + data[1:]):
        place.write_bytes(wrong)
        with messages.raises(CorruptCheckpoint, "publish/fetched-is-another", size=len(wrong)):
            fetching.fetch(store, making.NAME, tmp_path / "got")
        assert not (tmp_path / "got").exists()
    place.write_bytes(data)
    (tmp_path / "got").write_text("mine")
    with messages.raises(UsageError, "publish/output-not-empty"):
        fetching.fetch(store, making.NAME, tmp_path / "got")
    assert (tmp_path / "got").read_text() == "mine"


@pytest.mark.parametrize("path", ["../../up", "/abs", "a/../b"])
def test_a_manifest_from_elsewhere_leads_nowhere(tmp_path: Path, store: FolderRemote, path: str) -> None:
    record = json.loads(manifest.write(making.plan(tmp_path)))
    record["files"] = {path: next(iter(record["files"].values()))}
    place = store.root / manifest.reference_name("evil")
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(record))
    with messages.raises(CorruptCheckpoint, "publish/manifest-leads-elsewhere", path=json.dumps(path)):
        fetching.fetch(store, "evil", tmp_path / "got")
    record["object_folder"] = ".."
    place.write_text(json.dumps(record))
    with pytest.raises(CorruptCheckpoint):
        fetching.fetch(store, "evil", tmp_path / "got")


def test_objects_of_another_kind_are_a_conflict_of_the_store(tmp_path: Path, store: FolderRemote) -> None:
    making.by_manifest(tmp_path, store)
    with pytest.raises(ObjectConflict):
        store.put_if_absent(manifest.reference_name(making.NAME), tmp_path / "sources/README.md")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a place where nobody can make a folder")
def test_a_store_that_cannot_be_made_is_told_in_sentences(tmp_path: Path) -> None:
    with messages.raises(PublishFailed, "publish/store-cannot-be-made"):
        making.by_manifest(tmp_path, FolderRemote(Path("/proc/outlast")))
