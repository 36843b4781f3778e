"""Copies of a run elsewhere: what continues ours is taken, whole and verified; another history is told and left where it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from outlast import files, places
from outlast.checkpoint import Store, read_manifest
from outlast.errors import CorruptCheckpoint, NoGoodCheckpoint, SaveFailed, UsageError
from tests.folders import as_format_1, forge, manifest_of, place, seal, steps, told, walk


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run at step 4 in `home`, and a copy of it in `away`."""
    walk(tmp_path / "home", stop=4)
    shutil.copytree(tmp_path / "home", tmp_path / "away")
    return tmp_path / "home"


def test_manifests_say_who_wrote_them_and_what_they_continue(home: Path) -> None:
    walk(home, stop=6)
    run = json.loads((home / "r/run.json").read_text())
    first, second = (json.loads((home / f"r/attempts/000{number}.json").read_text()) for number in (1, 2))
    old, new = (read_manifest(place(home).checkpoint(step)) for step in (4, 6))
    assert len(run["uid"]) == 32
    assert run["format"] == old.manifest["format"] == 2
    assert (old.manifest["run"], old.manifest["attempt"], old.manifest["lineage"]) == (run["uid"], first["id"], [])
    assert (new.manifest["run"], new.manifest["attempt"]) == (run["uid"], second["id"])
    assert new.manifest["lineage"] == [{"attempt": first["id"], "step": 4, "digest": old.digest}]
    assert (old.is_ancestor_of(new), new.is_ancestor_of(old), new.is_ancestor_of(new)) == (True, False, True)


def test_a_copy_that_continues_ours_is_taken(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=8)
    before = snapshot(tmp_path / "away")
    run = walk(home, stop=10, inputs=[tmp_path / "away"])
    assert run.resumed_from == 8
    assert f"step 8 comes from {tmp_path / 'away/r'}" in told(home)
    assert snapshot(tmp_path / "away") == before
    lines = [json.loads(line)["count"] for line in (home / "r/journal.jsonl").read_text().splitlines()]
    assert lines == list(range(1, 11))
    assert len(os.listdir(home / "r/attempts")) == 3
    assert not [path for path in (home / "r").iterdir() if path.name.startswith(".tmp-")]


def test_a_copy_that_ours_continues_changes_nothing(home: Path, tmp_path: Path) -> None:
    walk(home, stop=8)
    journal = (home / "r/journal.jsonl").read_bytes()
    brought = places.bring_home(place(home), [tmp_path / "away"])
    assert (brought.told, brought.apart) == ([], [])
    assert (home / "r/journal.jsonl").read_bytes() == journal
    assert steps(home) == [4, 6, 8]


def test_another_history_is_told_and_left_where_it_is(home: Path, tmp_path: Path) -> None:
    walk(home, stop=6)
    walk(tmp_path / "away", stop=10)
    before, elsewhere = snapshot(home), snapshot(tmp_path / "away")
    brought = places.bring_home(place(home), [tmp_path / "away"])
    assert snapshot(home) == before
    assert snapshot(tmp_path / "away") == elsewhere
    assert brought.apart == [tmp_path / "away/r"]
    (sentence,) = brought.told
    assert "step 10" in sentence
    assert "step 6" in sentence
    assert f"--resume {tmp_path / 'away/r/checkpoints/step-00000010'} --experiment-name" in sentence
    run = walk(home, stop=8, inputs=[tmp_path / "away"])
    assert run.resumed_from == 6
    assert "does not continue the one at step 6" in told(home)


def test_of_two_foreign_histories_the_one_that_continues_ours_wins(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "apart")
    walk(tmp_path / "apart", stop=12)
    walk(home, stop=6)
    shutil.rmtree(tmp_path / "away")
    shutil.copytree(home, tmp_path / "away")
    walk(tmp_path / "away", stop=8)
    run = walk(home, stop=10, inputs=[tmp_path / "apart", tmp_path / "away"])
    assert run.resumed_from == 8
    assert "The checkpoint at step 12" in told(home)


def test_with_nothing_here_the_newest_wins_and_the_other_is_told(home: Path, tmp_path: Path) -> None:
    walk(home, stop=6)
    walk(tmp_path / "away", stop=8)
    brought = places.bring_home(place(tmp_path / "new"), [home, tmp_path / "away"])
    assert f"step 8 comes from {tmp_path / 'away/r'}" in brought.told
    assert brought.apart == [home / "r"]
    # Of the two histories, only one is here.
    assert {read_manifest(path).manifest["attempt"] for path in (tmp_path / "new/r/checkpoints").glob("step-*")} <= {
        json.loads(path.read_text())["id"] for path in (tmp_path / "away/r/attempts").iterdir()
    }
    assert walk(tmp_path / "new", stop=10).resumed_from == 8


def test_another_run_of_the_same_name_is_not_mixed_in(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "other", stop=10)
    before = snapshot(home)
    brought = places.bring_home(place(home), [tmp_path / "other"])
    assert snapshot(home) == before
    assert brought.told == [
        f"{tmp_path / 'other/r'} is another run of the same name than {home / 'r'}, and is left where it is."
    ]


def test_a_run_of_format_1_goes_on_and_its_copies_still_count(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=6)
    for root in (home, tmp_path / "away"):
        as_format_1(root / "r")
    run = walk(home, stop=8, inputs=[tmp_path / "away"])
    assert run.resumed_from == 6, "without a lineage the newer one is taken, as before"
    about = json.loads((home / "r/run.json").read_text())
    assert (about["format"], about["format_1_until"]) == (2, 6)
    assert [manifest_of(place(home).checkpoint(step))["format"] for step in (4, 6, 8)] == [1, 1, 2]
    old, new = (read_manifest(place(home).checkpoint(step)) for step in (6, 8))
    assert new.manifest["lineage"] == [{"attempt": None, "step": 6, "digest": old.digest}]
    assert old.is_ancestor_of(new) is True
    assert read_manifest(place(home).checkpoint(4)).is_ancestor_of(new) is None
    assert new.is_ancestor_of(old) is False
    # A copy that another old outlast took further meanwhile cannot continue step 8.
    walk(tmp_path / "away", stop=10)
    as_format_1(tmp_path / "away/r")
    assert places.bring_home(place(home), [tmp_path / "away"]).apart == [tmp_path / "away/r"]


def test_a_checkpoint_of_another_run_that_was_copied_here_is_not_used(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "other", stop=10)
    shutil.copytree(tmp_path / "other/r/checkpoints/step-00000010", home / "r/checkpoints/step-00000010")
    run = walk(home, stop=6)
    assert run.resumed_from == 4
    assert "step-00000010 is a checkpoint of another run" in told(home)
    assert [path.name for path in (home / "r/set-aside").iterdir()] == ["step-00000010-1"]


def test_one_of_another_run_below_ours_is_neither_counted_nor_deleted(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "other", stop=3)
    shutil.copytree(tmp_path / "other/r/checkpoints/step-00000003", home / "r/checkpoints/step-00000003")
    walk(home, stop=10, last=1)
    assert steps(home) == [3, 10]
    with pytest.raises(NoGoodCheckpoint, match="is a checkpoint of another run"):
        shutil.rmtree(home / "r/checkpoints/step-00000010")
        walk(home, stop=12)


def test_a_fork_goes_on_from_its_parents_checkpoint(home: Path, tmp_path: Path) -> None:
    checkpoint = read_manifest(place(home).checkpoint(4))
    places.fork(place(home), checkpoint, place(tmp_path / "forks", "mine"))
    about, parent = (json.loads((path / "run.json").read_text()) for path in (tmp_path / "forks/mine", home / "r"))
    assert about["parent"] == {"run": "r", "step": 4, "uid": parent["uid"], "digest": checkpoint.digest}
    assert about["uid"] != parent["uid"]
    assert walk(tmp_path / "forks", stop=6, name="mine").resumed_from == 4
    new = read_manifest(place(tmp_path / "forks", "mine").checkpoint(6))
    assert (new.manifest["run"], checkpoint.is_ancestor_of(new)) == (about["uid"], True)
    places.fork(place(home), checkpoint, place(tmp_path / "forks", "mine"))  # it has begun already
    forge(checkpoint.path, "state.json", (checkpoint.path / "state.json").read_bytes() + b" ")
    with pytest.raises(UsageError, match="another run already"):
        places.fork(place(home), read_manifest(checkpoint.path), place(tmp_path / "forks", "mine"))


@pytest.mark.parametrize(
    "name",
    ["../../../../planted.json", "/tmp/planted.json", "a/b.safetensors", ".hidden.safetensors", "x\n.safetensors"],
)
def test_names_in_a_manifest_lead_nowhere(tmp_path: Path, name: str) -> None:
    """cases/folders/02."""
    walk(tmp_path / "evil", stop=4)
    checkpoint = tmp_path / "evil/r/checkpoints/step-00000004"
    manifest = manifest_of(checkpoint)
    manifest["files"][name] = files.hash_pieces([b"{}"]).as_json() | {"rank": 9}
    seal(checkpoint, manifest)
    with pytest.raises(CorruptCheckpoint, match="names a file"):
        read_manifest(checkpoint)
    before = snapshot(tmp_path)
    brought = places.bring_home(place(tmp_path / "home/a/b/c"), [tmp_path / "evil"])
    assert "step 2 comes from" in brought.told[-1]
    shutil.rmtree(tmp_path / "home")
    assert snapshot(tmp_path) == before


def test_only_what_the_manifest_names_is_copied(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=6)
    (tmp_path / "away/r/checkpoints/step-00000006/extra.sh").write_text("echo")
    (tmp_path / "away/r/checkpoints/step-00000006/link").symlink_to("/etc")
    places.bring_home(place(home), [tmp_path / "away"])
    assert sorted(os.listdir(home / "r/checkpoints/step-00000006")) == [
        "MANIFEST.json", "rng.safetensors", "state.json", "walk.safetensors"
    ]  # fmt: skip


def test_nothing_here_is_touched_when_the_copy_fails(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle of it; and files that change while they are copied."""
    walk(tmp_path / "away", stop=6)
    before, real = snapshot(home), os.write

    def full(descriptor: int, data) -> int:
        if "coming" in os.readlink(f"/proc/self/fd/{descriptor}") and "MANIFEST" in os.readlink(
            f"/proc/self/fd/{descriptor}"
        ):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SaveFailed, match=r"Step 6 could not be copied.*No space left.*as it was"):
        places.bring_home(place(home), [tmp_path / "away"])
    monkeypatch.undo()
    assert snapshot(home) == before


def test_a_damaged_local_one_of_the_same_step_is_set_aside_and_not_deleted(home: Path, tmp_path: Path) -> None:
    walk(home, stop=6)
    shutil.rmtree(tmp_path / "away")
    shutil.copytree(home, tmp_path / "away")
    (home / "r/checkpoints/step-00000006/state.json").write_text("damaged")
    run = walk(home, stop=8, inputs=[tmp_path / "away"])
    assert run.resumed_from == 6
    assert (home / "r/set-aside/step-00000006-1/state.json").read_text() == "damaged"


def test_a_shared_file_comes_whole_from_its_good_copy(home: Path, tmp_path: Path) -> None:
    checkpoint = place(home).checkpoint(4)
    data = (checkpoint / "walk.safetensors").read_bytes()
    manifest = manifest_of(checkpoint)
    written = files.hash_pieces([data])
    del manifest["files"]["walk.safetensors"]
    manifest["files"]["walk.shared.safetensors"] = {**written.as_json(), "part": "walk", "shared": written.name}
    (checkpoint / "walk.safetensors").unlink()
    shared = home / "r/checkpoints/shared"
    shared.mkdir()
    (shared / f"{written.name}.safetensors").write_bytes(b"damaged")
    (shared / f"{written.name}.copy.safetensors").write_bytes(data)
    seal(checkpoint, manifest)
    places.bring_home(place(tmp_path / "new"), [home])
    copies = sorted((tmp_path / "new/r/checkpoints/shared").iterdir())
    assert [path.read_bytes() for path in copies] == [data, data]
    assert Store(place(tmp_path / "new")).open_newest()[0].checkpoint.step == 4
