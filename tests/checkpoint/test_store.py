"""Commit, verify, retention, sweeping; and that nothing untrusted is ever executed."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import messages

from outlast.checkpoint import (
    CheckpointFacts,
    CheckpointStore,
    Retention,
    SavePolicy,
    Snapshot,
    open_checkpoint,
    read_manifest,
    verify,
)
from outlast.errors import CorruptCheckpoint, NoGoodCheckpoint, OutlastError, UsageError
from outlast.folder import durable, hashing, reading
from outlast.folder.layout import RunFolder
from outlast.state.array import Array


def state(step: int) -> dict:
    return {"step": step, "loop": [0, 0], "journal": {"bytes": 0, "xxh3_128": "0" * 32}, "parts": {}, "rng": None}


def snapshot(step: int, **metrics: float) -> Snapshot:
    return Snapshot.of(
        step, "steps", {"model": {"w": Array("U8", (3,), bytes([step % 256] * 3))}, "none": {}}, state(step), metrics
    )


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    durable.make_folder(tmp_path / "run")
    return CheckpointStore(RunFolder(tmp_path / "run"), Retention(last=2))


def test_what_is_committed_is_opened(store: CheckpointStore) -> None:
    store.commit(snapshot(7, loss=math.nan, accuracy=0.5))
    opened, damaged = store.open_newest()
    assert opened is not None
    assert not damaged
    assert opened.state.as_json() == state(7)
    assert bytes(opened.parts["model"]["w"].data) == b"\7\7\7"
    assert opened.checkpoint.metrics == {"accuracy": 0.5}
    assert opened.checkpoint.reason == "steps"
    assert opened.checkpoint.nbytes == sum(
        p.stat().st_size for p in opened.checkpoint.path.iterdir() if p.name != "MANIFEST.json"
    )


def test_an_empty_store_is_a_fresh_start(store: CheckpointStore) -> None:
    assert store.open_newest() == (None, [])


def test_committing_the_same_step_again_changes_nothing(store: CheckpointStore) -> None:
    first = store.commit(snapshot(1))
    assert store.commit(snapshot(1)).manifest == first.manifest


def test_retention_follows_each_commit(store: CheckpointStore) -> None:
    for step in range(1, 6):
        store.commit(snapshot(step))
    assert [checkpoint.step for checkpoint in store.committed()] == [4, 5]


def test_it_is_durable_before_older_ones_are_deleted(store: CheckpointStore) -> None:
    store = CheckpointStore(store.folder, Retention(last=1))
    there: list[list[int]] = []
    for step in (1, 2, 2):
        store.commit(snapshot(step), durable=lambda: there.append([each.step for each in store.committed()]))
    assert there == [[1], [1, 2], [2]]


def test_steps_are_compared_as_numbers(store: CheckpointStore) -> None:
    store.commit(snapshot(99_999_999))
    store.commit(snapshot(100_000_000))
    opened, _ = store.open_newest()
    assert opened is not None
    assert opened.checkpoint.step == 100_000_000


def test_sweeping_takes_only_what_is_unfinished(store: CheckpointStore) -> None:
    store.commit(snapshot(1))
    half = store.folder.checkpoint(2)
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"x")
    (store.folder.checkpoint(1) / ".tmp-state.json").write_bytes(b"x")
    (store.folder.checkpoints / "notes.txt").write_text("the user's")
    store.sweep()
    assert sorted(path.name for path in store.folder.checkpoints.iterdir()) == ["notes.txt", "step-00000001"]
    verify(store.folder.checkpoint(1))


def test_every_damaged_one_is_named_when_none_verifies(store: CheckpointStore) -> None:
    for step in (1, 2):
        store.commit(snapshot(step))
        (store.folder.checkpoint(step) / "model.safetensors").write_bytes(b"")
    with messages.raises(
        NoGoodCheckpoint,
        "checkpoint/none-of-the-checkpoints",
        checkpoints=2,
        path="step-00000002",
        path2="step-00000001",
    ):
        store.open_newest()
    assert [checkpoint.step for checkpoint in store.committed()] == [1, 2]


def test_a_newer_format_is_not_read(store: CheckpointStore) -> None:
    path = store.commit(snapshot(1)).path
    manifest = reading.read_json(path / "MANIFEST.json")
    durable.write_json(path / "MANIFEST.json", {**manifest, "format": 99})
    with messages.raises(OutlastError, "checkpoint/has-format-and-this-outlast", format=99, formats=1, number=2):
        read_manifest(path)


def test_a_planted_pickle_is_refused_and_not_executed(store: CheckpointStore, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    path = store.commit(snapshot(1)).path
    (path / "model.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CorruptCheckpoint):
        open_checkpoint(path)
    # Even with a manifest that vouches for it.
    data = pickle.dumps(Evil())
    forged = Snapshot.of(2, "steps", {}, state(2))
    other = store.commit(forged).path
    (other / "model.safetensors").write_bytes(data)
    manifest = dict(reading.read_json(other / "MANIFEST.json"))
    manifest["files"]["model.safetensors"] = hashing.hash_pieces([data]).as_json()
    from outlast.checkpoint.manifest import digest_of

    durable.write_json(other / "MANIFEST.json", {**manifest, "digest": digest_of(manifest)})
    with messages.raises(CorruptCheckpoint, "checkpoint/safetensors-header"):
        open_checkpoint(other)
    assert not (tmp_path / "executed").exists()


def test_no_load_path_can_unpickle() -> None:
    source = Path(durable.__file__).parent
    texts = {path: path.read_text() for path in source.rglob("*.py")}
    assert not [
        path
        for path, text in texts.items()
        if "import pickle" in text or "torch.load(" in text or "allow_pickle" in text
    ]


steps = st.lists(st.integers(1, 60), unique=True, min_size=1, max_size=20)


@given(
    steps,
    st.integers(1, 4),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 20)),
    st.sampled_from(["max", "min"]),
    st.data(),
)
def test_retention_keeps_last_best_and_every(
    found: list[int], last: int, best: int, every: int | None, mode, data
) -> None:
    values = data.draw(
        st.lists(st.floats(allow_nan=True, allow_infinity=False, width=16), min_size=len(found), max_size=len(found))
    )
    kept = [CheckpointFacts(step, {"m": value}) for step, value in zip(found, values, strict=True)]
    policy = Retention(last=last, best=best, metric="m", mode=mode, every=every)
    removed = set(policy.removable(kept))
    assert not removed & set(sorted(found)[-last:])
    assert every is None or not [step for step in removed if step % every == 0]
    usable = [k for k in kept if not math.isnan(k.metrics["m"])]
    if best and usable:
        extreme = (max if mode == "max" else min)(k.metrics["m"] for k in usable)
        assert policy.best_step(kept) not in removed
        assert next(k for k in kept if k.step == policy.best_step(kept)).metrics["m"] == extreme


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"last": 0}, messages.says("checkpoint/keep-last", number=0, number2=1)),
        ({"last": True}, messages.says("checkpoint/keep-last-is-true")),
        ({"last": 2.0}, messages.says("checkpoint/keep-last", number="2.0", number2=1)),
        ({"best": 1}, messages.says("checkpoint/needs-best-metric")),
        ({"best": -1, "metric": "m"}, messages.says("checkpoint/keep-best-is-expected-how-many")),
        ({"every": 0}, messages.says("checkpoint/keep-every-is-expected-number-of-steps", number=0, number2=1)),
        (
            {"mode": "maximum", "metric": "acc"},
            messages.says("checkpoint/mode-is-expected-when-larger-acc", name="maximum", name2="max", name3="min"),
        ),
        ({"metric": 5, "best": 1}, messages.says("checkpoint/metric-no-name", found=5)),
        ({"metric": "", "best": 1}, messages.says("checkpoint/metric-no-name", found="''")),
    ],
)
def test_retention_says_what_is_wrong_with_it(wrong: dict, words: str) -> None:
    with messages.raises(UsageError, words):
        Retention(**wrong)


def test_save_policy() -> None:
    policy = SavePolicy(steps=10, seconds=60, epochs=2)
    assert policy.due(3, None) is None
    assert policy.due(20, None) == "steps"
    assert policy.due(3, 2) == "epoch"
    assert SavePolicy().due(10, 4) is None
    assert policy.interval(1.0, 1e5) == 60
    assert SavePolicy().interval(1.0, 1e5) is None
    auto = SavePolicy(auto=True)
    assert auto.interval(0.5, 86400.0) == pytest.approx(293.9, abs=0.1)
    assert (auto.interval(0.0, 86400.0), auto.interval(1e3, 86400.0)) == (15.0, 900.0)
    assert Retention(best=1, metric="m", mode="min").is_new_best(
        1.0, [CheckpointFacts(1, {"m": 2.0}), CheckpointFacts(2, {})]
    )
    assert not Retention(best=1, metric="m").is_new_best(math.nan, [])
