"""What records may hold: one sentence for each that is none, and the older good checkpoint where there is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests import messages
from tests.folders import forge, manifest_of, seal, told, walk

from outlast.checkpoint import open_checkpoint, tensors
from outlast.checkpoint.manifest import read_manifest
from outlast.errors import CorruptCheckpoint, OutlastError
from outlast.folder import durable, reading, records
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.launch.records import all_launches
from outlast.report import read_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    walk(tmp_path, stop=4)
    return tmp_path / "r"


def change(path: Path, **facts: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"recipe": 3}, messages.says("folder/recipe-is-expected-text", file="run.json", number=3)),
        ({"grade": None}, messages.says("folder/grade-is-none-expected-text", file="run.json")),
        ({"uid": "../../x"}, messages.says("folder/uid-is-expected-an-id", file="run.json", name="../../x")),
        (
            {"parent": {"run": "x", "step": -1}},
            messages.says("folder/parent-step-is-expected-whole-number", file="run.json", number=0),
        ),
        (
            {"parent": {"run": "x", "step": 10**400}},
            messages.says("folder/parent-step-is-expected-whole-number-2", file="run.json", number=1000),
        ),
        ({"parent": {"run": "x"}}, messages.says("folder/parent-step-is-missing-expected-value", file="run.json")),
        ({"format": True}, messages.says("folder/has-no-format-number", file="run.json")),
        ({"format": 3}, messages.says("folder/has-format-and-this-outlast", format=3, formats=1, number=2)),
    ],
)
def test_a_run_that_is_none(tmp_path: Path, run: Path, facts: dict, words: str) -> None:
    change(run / "run.json", **facts)
    for read in (lambda: read_run(run), lambda: walk(tmp_path, stop=6)):
        with messages.raises(OutlastError, words):
            read()
    assert not (run / "attempts/0002.json").exists()


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', '{"a": ' + "9" * 5000 + "}", "[" * 300 + "]" * 300, '{"a": "\\ud800"}',
        '{"a": ' + "[" * 250 + "]" * 250 + "}", "\x00", '"x"']
)  # fmt: skip
def test_json_that_is_not_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CorruptCheckpoint, match=r"x\.json"):
        reading.read_json(tmp_path / "x.json")


def test_pairs_of_surrogates_are_letters(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": "\\ud83d\\ude00"}')
    assert reading.read_json(tmp_path / "x.json") == {"a": "\U0001f600"}


def test_a_record_that_fills_the_disk_takes_no_memory(tmp_path: Path, run: Path) -> None:
    with (run / "run.json").open("r+b") as file:
        file.truncate(2**40)
    with messages.raises(CorruptCheckpoint, "folder/has-bytes-file-of-its-kind", bytes=1099511627776, number=67108864):
        read_run(run)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    deep: list = []
    for _ in range(records.DEPTH + 1):
        deep = [deep]
    with messages.raises(ValueError, "folder/nested-too-deep", most=records.DEPTH):
        durable.write_json(tmp_path / "x.json", {"a": deep})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"step": 3}, messages.says("folder/says-step-and-lies", step=3, step2=4)),
        ({"step": True}, messages.says("folder/step-is-true-expected-whole-number")),
        ({"metrics": {"a": 10**400}}, messages.says("folder/metrics-is-expected-finite-number", name="a", number=1000)),
        ({"metrics": {"a": "1"}}, messages.says("folder/metrics-is-expected-finite-number-2", name="a", name2=1)),
        ({"ranks": 10**6}, messages.says("folder/says-that-ranks-wrote", ranks=1000000, files=3)),
        ({"ranks": 2}, messages.says("folder/names-no-state", file="rank-0001.json")),
        ({"files": []}, messages.says("folder/files-is-list-expected-an-object")),
        ({"chunk": 1}, messages.says("folder/counts-chunks-of-bytes", bytes=1)),
        ({"lineage": [{"attempt": "x", "step": 1}]}, messages.says("folder/lineage-attempt", number=0, name="x")),
        ({"written": 3}, messages.says("folder/written-is-expected-an-object", number=3)),
    ],
)
def test_a_manifest_that_is_none_is_set_aside(tmp_path: Path, run: Path, facts: dict, words: str) -> None:
    checkpoint = run / "checkpoints/step-00000004"
    seal(checkpoint, manifest_of(checkpoint) | facts)
    with messages.raises(CorruptCheckpoint, words):
        read_manifest(checkpoint)
    assert walk(tmp_path, stop=6).resumed_from == 2
    assert "set aside" in told(tmp_path)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("walk.safetensors", {"size": 10**15}), ("walk.safetensors", {"size": -1}),
        ("walk.safetensors", {"xxh3_128": []}), ("walk.safetensors", {"xxh3_128": ["0" * 32] * 2}),
        ("walk.safetensors", {"rank": 1}), ("walk.safetensors", {"part": "other"}),
        ("walk.safetensors", {"shared": "../../../x"}), ("walk.safetensors", {"shared": "0" * 32}),
        ("state.json", {"size": 2**40}), ("state.json", {"shared": "0" * 32}), ("state.json", {"rank": 1}),
    ],
)  # fmt: skip
def test_an_entry_that_contradicts_itself(tmp_path: Path, run: Path, name: str, entry: dict) -> None:
    checkpoint = run / "checkpoints/step-00000004"
    manifest = manifest_of(checkpoint)
    manifest["files"][name] |= entry
    seal(checkpoint, manifest)
    with pytest.raises(CorruptCheckpoint):
        read_manifest(checkpoint)
    assert walk(tmp_path, stop=6).resumed_from == 2


@pytest.mark.parametrize(
    "facts",
    [
        {"loop": [0]}, {"loop": [0, -1]}, {"loop": [0.5, 1]}, {"journal": None},
        {"journal": {"bytes": 10**30, "xxh3_128": "0" * 32}}, {"step": 3},
        {"parts": {"walk": {"kind": "tree", "state": 3}}}, {"parts": []}, {"rng": 3},
        {"shards": {"walk": {"w": {"dtype": "F32"}}}},
        {"shards": {"walk": {"position": {"dtype": "F64", "shape": [3], "of": [10**9], "at": [0]}}}},
    ],
)  # fmt: skip
def test_a_state_that_is_none_is_set_aside(tmp_path: Path, run: Path, facts: dict) -> None:
    checkpoint = run / "checkpoints/step-00000004"
    state = json.loads((checkpoint / "state.json").read_text())
    forge(checkpoint, "state.json", json.dumps(state | facts).encode())
    assert walk(tmp_path, stop=6).resumed_from == 2


@pytest.mark.parametrize("part", ["rng", "walk"])
def test_a_manifest_without_the_arrays_that_its_state_refers_to(tmp_path: Path, run: Path, part: str) -> None:
    checkpoint = run / "checkpoints/step-00000004"
    manifest = manifest_of(checkpoint)
    del manifest["files"][f"{part}.safetensors"]
    seal(checkpoint, manifest)
    with messages.raises(
        CorruptCheckpoint, "checkpoint/array-of-no-file", part=repr(part), array=re.compile(r"[\w/]+")
    ):
        open_checkpoint(checkpoint)
    assert open_checkpoint(checkpoint, ()).checkpoint.step == 4
    assert walk(tmp_path, stop=6).resumed_from == 2


@pytest.mark.parametrize("position", [625, -1, 10**400, True, None, 1.5])
def test_a_generators_position_outside_its_words(tmp_path: Path, run: Path, position: object) -> None:
    """cases/folders/16."""
    checkpoint = run / "checkpoints/step-00000004"
    state = json.loads((checkpoint / "state.json").read_text())
    state["rng"]["numpy"]["position"] = position
    forge(checkpoint, "state.json", json.dumps(state).encode())
    assert walk(tmp_path, stop=6).resumed_from == 2
    assert "rng.numpy.position is" in told(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}},
        {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": ["U8"], "shape": [1], "data_offsets": [0, 1]}},
        {
            "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
            "b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        },
        {"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}},
        {"a": {"dtype": "U8", "shape": [0, 2**61], "data_offsets": [0, 0]}},
        {"a": {"dtype": "U8", "shape": [1] * 65, "data_offsets": [0, 1]}},
        {"a": [1]},
        {"a": None},
    ],
)
def test_a_header_of_arrays_that_cannot_be(tmp_path: Path, header: dict) -> None:
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + b"\0\0"
    with pytest.raises(CorruptCheckpoint, match="x"):
        tensors.decode(data, tmp_path / "x")


def test_an_attempt_that_is_none_counts_as_lost(tmp_path: Path, run: Path) -> None:
    for number, text in ((2, '{"end": 3}'), (3, '{"told": [1]}'), (4, '{"end": {"reason": "flew"}}')):
        (run / f"attempts/000{number}.json").write_text(text)
        assert read_record(RunFolder(run), number)["damaged"] is True
    for name in ("00005.json", "5.json", "\u0661\u0661\u0661\u0661.json", "9" * 100 + ".json"):
        (run / "attempts" / name).write_text("{}")
    assert RunFolder(run).attempt_numbers() == [1, 2, 3, 4]
    assert walk(tmp_path, stop=6).resumed_from == 4
    assert [json.loads((run / f"attempts/000{n}.json").read_text())["end"]["reason"] for n in (2, 3, 4)] == ["lost"] * 3


@pytest.mark.parametrize(
    "name", ["step-000000099", "step-\u0660\u0660\u0660\u0660\u0660\u0660\u0669\u0669", "step-" + "9" * 30]
)
def test_a_step_has_one_name(tmp_path: Path, run: Path, name: str) -> None:
    (run / "checkpoints" / name).mkdir()
    assert walk(tmp_path, stop=6).resumed_from == 4
    assert (run / "checkpoints" / name).is_dir()


@pytest.mark.parametrize(
    "facts",
    [
        {"slug": "../../.."},
        {"slug": "somebody-else"},
        {"datasets": ["outlast-secrets"]},
        {"datasets": ["mine"]},
        {"state": None},
    ],
)
def test_a_launch_names_only_what_outlast_makes(run: Path, facts: dict) -> None:
    """Its session and datasets are deleted in the account of whoever runs `outlast down`."""
    (run / "launches").mkdir()
    good = {
        "state": "fetched",
        "slug": "outlast-r-001",
        "on": "kaggle",
        "accelerator": "cpu",
        "datasets": ["outlast-code-1"],
    }
    (run / "launches/0001.json").write_text(json.dumps(good))
    assert all_launches(RunFolder(run))[0].record == good
    (run / "launches/0001.json").write_text(json.dumps(good | facts))
    with pytest.raises(CorruptCheckpoint, match=rf"0001\.json: {next(iter(facts))}"):
        all_launches(RunFolder(run))


def test_blocks_of_ranks_that_lie_over_each_other() -> None:
    """Their elements add up to the whole, and nobody stored the last one."""
    from outlast.checkpoint.checks import check_blocks

    def forms(*blocks: tuple[int, int]) -> list:
        return [
            (rank, {"dtype": "U8", "shape": [length], "of": [4], "at": [at]})
            for rank, (at, length) in enumerate(blocks)
        ]

    check_blocks(forms((0, 2), (2, 2)), "w")
    check_blocks(forms((0, 2), (2, 2), (2, 2)), "w")  # two ranks with the same block
    check_blocks(forms((0, 4), (4, 0)), "w")  # a rank without an element
    for message, blocks in (
        ("checkpoint/blocks-that-overlap", ((0, 2), (1, 2))),
        ("checkpoint/blocks-that-do-not-fit", ((0, 2), (0, 4))),
        ("checkpoint/blocks-that-overlap", ((0, 3), (2, 1))),
        ("checkpoint/blocks-that-do-not-cover", ((0, 2),)),
    ):
        with messages.raises(CorruptCheckpoint, message, array="'w'"):
            check_blocks(forms(*blocks), "w")
