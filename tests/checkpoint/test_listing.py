"""The list of checkpoints that a writer keeps in memory: equal to what the folder says, and paid for once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import messages

from outlast.checkpoint import Checkpoint, CheckpointStore, Retention, Snapshot, listing, manifest, verify
from outlast.checkpoint.listing import Listing, steps_in
from outlast.checkpoint.snapshot import files_of
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.state.array import Array


def checkpoint(step: int, value: float | None, size: int, shared: str | None) -> Checkpoint:
    entries = {"a": {"size": size}} | ({"b": {"size": 10, "shared": shared}} if shared else {})
    return Checkpoint(Path(), {"step": step, "metrics": {} if value is None else {"m": value}, "files": entries})


moves = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(1, 40),
        st.one_of(st.none(), st.integers(0, 5)),
        st.integers(0, 9),
        st.sampled_from([None, "x", "y"]),
    ),
    max_size=40,
)


@given(
    moves,
    st.integers(1, 4),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 9)),
    st.sampled_from(["max", "min"]),
)
def test_the_running_totals_equal_the_recomputed_ones(found, last, best, every, mode) -> None:
    policy = Retention(last=last, best=best, metric="m", mode=mode, every=every)
    known, listed = {}, Listing(Path("nowhere"), policy, lambda each: each.step % 7 != 0)
    for added, step, value, size, shared in found:
        if added:
            known[step] = checkpoint(step, value, size, shared)
            listed.add(known[step])
        else:
            known.pop(step, None)
            listed.drop(step)
        own = [known[step].kept for step in sorted(known) if step % 7]
        assert listed.removable() == policy.removable(own)
        assert [kept.step for kept in listed.kept] == [kept.step for kept in own]
        assert (listed.best.step if listed.best else None) == policy.best_step(own)
        used = {
            entry["shared"] for each in known.values() for entry in each.manifest["files"].values() if "shared" in entry
        }
        assert listed.shared == used
        assert listed.nbytes == 20 * len(used) + sum(each.manifest["files"]["a"]["size"] for each in known.values())


def test_only_folders_under_the_one_name_of_a_step_count(tmp_path: Path) -> None:
    for name in ("step-00000001", "step-000000002", "step-٠٠٠٠٠٠٠٣", "step-100000000", "notes", "step-00000004.old"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000005").write_text("")
    (tmp_path / "step-00000006").symlink_to(tmp_path / "step-00000001")
    assert sorted(steps_in(tmp_path)) == [1, 100_000_000]
    assert steps_in(tmp_path / "none") == []


def shares(step: int, shared: bytes, **metrics: float) -> Snapshot:
    """A snapshot with a part that training does not change."""
    own = Snapshot.of(
        step,
        "steps",
        {"model": {"w": Array("U8", (3,), bytes([step % 256] * 3))}},
        {"step": step, "loop": [0, 0], "journal": {"bytes": 0, "xxh3_128": "0" * 32}, "parts": {}, "rng": None},
        metrics,
    )
    (frozen,) = files_of({"frozen": {"f": Array("U8", (len(shared),), shared)}})
    return own._replace(files=[*own.files, frozen._replace(shared=True)])


@pytest.fixture
def reads(monkeypatch) -> dict[str, int]:
    """How often manifests are read and folders are listed."""
    counted = {"manifests": 0, "listed": 0}

    def watch(module, name: str, key: str) -> None:
        real = getattr(module, name)

        def watched(*args):
            counted[key] += 1
            return real(*args)

        monkeypatch.setattr(module, name, watched)

    watch(manifest, "parse_manifest", "manifests")
    watch(listing, "steps_in", "listed")
    return counted


def test_a_save_reads_nothing_of_the_checkpoints_before_it(tmp_path: Path, reads) -> None:
    folder = RunFolder(tmp_path / "run")
    durable.make_folder(folder.path)
    first = CheckpointStore(folder, Retention(last=1000))
    for step in range(1, 61):
        first.commit(shares(step, b"same", m=float(step)))
    reads.update(manifests=0, listed=0)
    store = CheckpointStore(folder, Retention(last=30, best=2, metric="m", mode="min", every=20))
    store.sweep()
    store.look()
    assert reads == {"manifests": 60, "listed": 2}  # each once
    assert (store.best.step if store.best else None) == 1
    reads.update(manifests=0, listed=0)
    for step in range(61, 71):
        store.commit(shares(step, b"same", m=float(step)))
        assert [each.step for each in sorted(store._listing.kept, key=lambda kept: kept.step)][-1] == step
    assert reads == {"manifests": 0, "listed": 0}
    assert [each.step for each in store.committed()] == [1, 2, 20, 40, *range(41, 71)]
    there = [path for path in folder.checkpoints.rglob("*") if path.is_file() and path.name != "MANIFEST.json"]
    assert store.nbytes == sum(path.stat().st_size for path in there)


def test_a_look_is_enough_to_know_what_is_there(tmp_path: Path) -> None:
    folder, keep = RunFolder(tmp_path / "run"), Retention(best=1, metric="m", mode="min")
    durable.make_folder(folder.path)
    writer, reader = CheckpointStore(folder, keep), CheckpointStore(folder, keep)
    reader.look()
    assert (reader.best, reader.nbytes) == (None, 0)
    for step in (1, 2):
        writer.commit(shares(step, b"same", m=float(step)))
    reader.look()
    assert reader.best
    assert (reader.best.step, reader.nbytes) == (1, writer.nbytes)
    fresh = CheckpointStore(folder, keep)
    fresh.look()
    assert (fresh.best, fresh.nbytes) == (reader.best, reader.nbytes)


def test_changes_by_another_process_are_noticed(tmp_path: Path, reads) -> None:
    folder = RunFolder(tmp_path / "run")
    durable.make_folder(folder.path)
    store = CheckpointStore(folder, Retention(last=3))
    for step in (1, 2, 3):
        store.commit(shares(step, b"old"))
    shutil.copytree(folder.checkpoint(3), tmp_path / "kept")
    shutil.rmtree(folder.checkpoint(3))  # the user's own hand
    store.commit(shares(4, b"new"))
    assert [each.step for each in store.committed()] == [1, 2, 4]
    shutil.move(tmp_path / "kept", folder.checkpoint(3))
    reads.update(manifests=0)
    store.commit(shares(5, b"new"))
    assert reads["manifests"] == 1
    assert [each.step for each in store.committed()] == [3, 4, 5]
    for each in store.committed():
        verify(each.path)  # with the shared file that 3 refers to and nobody else does


def test_one_that_cannot_be_deleted_keeps_its_shared_file(tmp_path: Path, monkeypatch) -> None:
    folder = RunFolder(tmp_path / "run")
    durable.make_folder(folder.path)
    store = CheckpointStore(folder, Retention(last=1))
    store.commit(shares(1, b"old"))
    real = durable.remove_folder

    def refuse(path: Path) -> None:
        if path.name == "step-00000001":
            raise PermissionError("no")
        real(path)

    monkeypatch.setattr(durable, "remove_folder", refuse)
    store.commit(shares(2, b"new"))
    store.commit(shares(3, b"new"))
    verify(folder.checkpoint(1))
    monkeypatch.undo()
    store.commit(shares(4, b"new"))
    assert [each.step for each in store.committed()] == [4]
    assert len(list((folder.checkpoints / "shared").iterdir())) == 2


def test_a_shared_file_of_another_length_is_rewritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    durable.make_folder(folder.path)
    store = CheckpointStore(folder)
    store.commit(shares(1, b"same"))
    one, other = sorted((folder.checkpoints / "shared").iterdir())
    good = one.read_bytes()
    one.write_bytes(good[:-1])
    other.write_bytes(good + b"x")
    store.commit(shares(2, b"same"))
    assert [path.read_bytes() for path in (one, other)] == [good, good]


def test_a_manifest_that_cannot_be_read_keeps_every_shared_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    durable.make_folder(folder.path)
    store = CheckpointStore(folder, Retention(last=1))
    store.commit(shares(1, b"old"))
    manifest = folder.checkpoint(1) / "MANIFEST.json"
    text = manifest.read_bytes()
    manifest.write_bytes(b"{")
    again = CheckpointStore(folder, Retention(last=1))
    again.sweep()
    for step in (2, 3):
        again.commit(shares(step, b"new"))
    manifest.write_bytes(text)
    verify(folder.checkpoint(1))


def test_the_newest_are_read_first(tmp_path: Path, reads) -> None:
    folder = RunFolder(tmp_path / "run")
    durable.make_folder(folder.path)
    store = CheckpointStore(folder, Retention(last=100))
    for step in range(1, 21):
        store.commit(shares(step, b"same"))
    (folder.checkpoint(20) / "MANIFEST.json").write_bytes(b"{")
    reads.update(manifests=0)
    assert CheckpointStore(folder).newest_step() == 19
    assert reads["manifests"] == 2


def test_other_runs_are_counted_once_in_a_while_and_before_anything_is_refused(tmp_path: Path, monkeypatch) -> None:
    from outlast.checkpoint import prune as module

    walks: list[Path] = []
    real = module._folder_bytes

    def watched(path: Path) -> int:
        walks.append(path)
        return real(path)

    monkeypatch.setattr(module, "_folder_bytes", watched)
    folder = RunFolder(tmp_path / "runs/run")
    durable.make_folder(folder.path)
    (tmp_path / "runs/other").write_bytes(bytes(100_000))
    store = CheckpointStore(folder, Retention(last=2), module.SPARE + 200_000)
    for step in range(1, 6):
        store.commit(shares(step, b"same"))
    assert walks.count(tmp_path / "runs") == 1
    (tmp_path / "runs/other").write_bytes(bytes(180_000))
    monkeypatch.setattr(module, "_STALE", 0.0)
    store.commit(shares(6, b"same"))
    (tmp_path / "runs/other").write_bytes(bytes(250_000))
    with messages.raises(Exception, "checkpoint/platform-keeps-less"):
        store.commit(shares(7, b"same"))
    monkeypatch.setattr(module, "_STALE", 60.0)
    (tmp_path / "runs/other").write_bytes(bytes(0))
    store.commit(shares(8, b"same"))  # what was counted is too much, so it is counted again
