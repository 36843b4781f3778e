"""Files of clips and tables of labels: what is read, and what is refused with its place."""

from __future__ import annotations

import io
import os
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import outlast
from outlast_recipes.common.problems import Problems
from outlast_recipes.sign import labels, npz
from tests import messages
from tests.recipes import signs


def written(folder: Path, **arrays: object) -> Path:
    path = folder / "clip.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def test_keypoints_with_and_without_a_mask(tmp_path: Path) -> None:
    flat, seen = signs.keypoints(1)
    found = npz.read_keypoints(written(tmp_path, X=flat, mask=seen))
    np.testing.assert_array_equal(found.points.reshape(flat.shape), flat)
    np.testing.assert_array_equal(found.seen, seen)
    assert found.aspect is None
    found = npz.read_keypoints(written(tmp_path, K=np.asfortranarray(flat, np.float64)), "K")
    np.testing.assert_array_equal(found.points.reshape(flat.shape), flat)
    np.testing.assert_array_equal(found.seen, seen, "missing keypoints are (0, 0)")
    meta = np.array('{"width": 640, "height": 360}')
    assert npz.read_keypoints(written(tmp_path, X=flat, meta=meta)).aspect == pytest.approx(16 / 9)
    meta = np.array(b'{"width": 360, "height": 640}')
    found = npz.read_keypoints(written(tmp_path, X=flat, meta=meta))
    assert (found.aspect, found.fault) == (pytest.approx(9 / 16), "")
    assert npz.read_keypoints(written(tmp_path, X=flat, meta=np.array('{"fps": 30}'))).fault == "", "it says no size"
    seen[:, 67:] = False
    found = npz.read_keypoints(written(tmp_path, X=flat, mask=seen))
    assert not found.points[:, 67:].any(), "what the mask hides is not read"


@pytest.mark.parametrize(
    ("meta", "found"),
    [
        ("no JSON", "no JSON (JSONDecodeError)"),
        (b"\xff", "no JSON (UnicodeDecodeError)"),
        ("[640, 360]", "JSON without names"),
        (["a", "b"], "<U1 of the shape [2]"),
        (640, "int64 of the shape []"),
        ('{"width": 640}', "the width 640 and the height None"),
        ('{"width": "x", "height": 360}', "the width 'x' and the height 360"),
        ('{"width": NaN, "height": 360}', "the width nan and the height 360"),
        ('{"width": 9000, "height": 360}', "the width 9000 and the height 360"),
        (f'{{"width": {10**400}, "height": 640}}', f"the width 1{19 * '0'}... and the height 640"),
    ],
)
def test_a_faulty_meta_is_said(tmp_path: Path, meta: object, found: str) -> None:
    file = written(tmp_path, X=signs.keypoints(1)[0], meta=np.array(meta))
    read = npz.read_keypoints(file)
    assert read.aspect is None
    assert found in read.fault
    assert npz.check(file) == npz.Contents("keypoints", read.fault)


def test_features_stand_under_either_key(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(3, 2048)).astype(np.float32)
    for key in ("X2048", "X"):
        np.testing.assert_array_equal(npz.read_features(written(tmp_path, **{key: numbers})), numbers)
    assert npz.check(written(tmp_path, X=numbers)).kinds == "features"
    assert npz.check(written(tmp_path, X=signs.keypoints(0)[0], X2048=numbers)).kinds == "keypoints and features"
    assert npz.check(written(tmp_path, X=signs.keypoints(0)[0])).kinds == "keypoints"
    with messages.raises(outlast.DataError, "sign/no-array", key="X2048", found="X"):
        npz.check(written(tmp_path, X=numbers), require_x2048=True)


FLAT = signs.keypoints(0, 6)[0]


def _with(value: float, frame: int = 3) -> np.ndarray:
    flat = FLAT.astype(np.float64)
    flat[frame, 7] = value
    return flat


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Y": FLAT}, messages.says("sign/no-array", key="X", found="Y")),
        ({"X": FLAT[:, :150]}, messages.says("sign/wrong-shape", found="[6,150]", expected="[T,156]")),
        ({"X": FLAT.reshape(-1)}, messages.says("sign/wrong-shape", found="[936]", expected="[T,156]")),
        ({"X": FLAT[:0]}, messages.says("sign/no-frames", key="X")),
        ({"X": _with(np.nan)}, messages.says("sign/not-finite", value="nan", frame=3)),
        ({"X": _with(1e300, 2)}, messages.says("sign/not-finite", value="inf", frame=2)),
        ({"X": FLAT * 640}, messages.says("sign/not-shares", largest=f"{(FLAT * 640).max():g}")),
        ({"X": FLAT * 0}, messages.says("sign/nothing-seen", frames=6)),
        ({"X": FLAT, "mask": np.zeros((6, 78), bool)}, messages.says("sign/nothing-seen", frames=6)),
        ({"X": FLAT, "mask": np.ones((5, 78), bool)}, messages.says("sign/mask-shape", found="[5,78]")),
        ({"X": FLAT, "mask": np.full((6, 78), 2)}, messages.says("sign/mask-values")),
        ({"X": np.full((6, 156), "a")}, messages.says("sign/no-numbers", dtype="<U1")),
        ({"X": np.full((6, 156), None)}, messages.says("sign/no-numbers", dtype="object")),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: messages.Message) -> None:
    with messages.raises(outlast.DataError, message):
        npz.read_keypoints(written(tmp_path, **arrays))


def forged(path: Path, shape: tuple[int, ...], content: bytes = b"\0" * 1000) -> Path:
    """A file whose header claims a shape that its content has not."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", header.getvalue() + content)
    return path


def test_a_forged_header_costs_no_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with messages.raises(outlast.DataError, "sign/forged", frames=10**8):
        npz.read_keypoints(forged(tmp_path / "forged.npz", (10**8, 156)))
    with messages.raises(outlast.DataError, "sign/forged", frames=500_000):
        npz.read_keypoints(forged(tmp_path / "forged.npz", (500_000, 156)))
    with messages.raises(outlast.DataError, "sign/too-little-data", frames=2000):
        npz.read_keypoints(forged(tmp_path / "few.npz", (2000, 156)))
    with messages.raises(outlast.DataError, "sign/wrong-shape", found="[-1,-156]", expected="[T,156]"):
        npz.read_keypoints(forged(tmp_path / "clip.npz", (-1, -156)))
    directory = forged(tmp_path / "sizes.npz", (10**5, 156)).read_bytes()
    place = directory.index(b"PK\x01\x02")
    huge = directory[: place + 20] + struct.pack("<II", 2**31, 2**31) + directory[place + 28 :]
    (tmp_path / "sizes.npz").write_bytes(huge)
    with messages.raises(outlast.DataError, "sign/damaged-member"):
        npz.read_keypoints(tmp_path / "sizes.npz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    whole = written(tmp_path, X=FLAT).read_bytes()
    path = tmp_path / "damaged.npz"
    for content in (b"", b"not this", whole[:-30]):
        path.write_bytes(content)
        with messages.raises(outlast.DataError, "sign/no-archive"):
            npz.read_keypoints(path)
    middle = whole.index(b"X.npy") + 200
    path.write_bytes(whole[:middle] + bytes(8) + whole[middle + 8 :])
    with messages.raises(outlast.DataError, "sign/damaged-data"):
        npz.read_keypoints(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00v\x00" + b"(" * 118)
    with messages.raises(outlast.DataError, "sign/damaged-header"):
        npz.read_keypoints(path)
    path.unlink()
    with messages.raises(outlast.DataError, "sign/no-file"):
        npz.read_keypoints(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("damaged.npz", "labels.csv"):
        os.mkfifo(tmp_path / name)
    with messages.raises(outlast.DataError, "sign/no-archive"):
        npz.read_keypoints(tmp_path / "damaged.npz")
    problems = Problems()
    assert labels.read_labels(tmp_path / "labels.csv", problems).rows == []
    messages.said(str(problems.errors[0]), "sign/no-ordinary-table")


def test_only_some_arrays_of_a_file_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, **{f"a{number}": np.zeros(1) for number in range(9)})
    with messages.raises(
        outlast.DataError, "sign/no-array", key="X", found=", ".join(f"a{n}" for n in range(8)) + " and 1 more"
    ):
        npz.read_keypoints(path)


HEAD = "file,gloss,cat,occluded\n"


def problems_of(tmp_path: Path, text: str, **limits: int) -> tuple[list[labels.Label], list[str]]:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    problems = Problems()
    found = labels.read_labels(path, problems, **limits)
    labels.category_of([found], problems)
    return [*found.rows], [str(problem) for problem in problems.errors]


def test_labels_are_read(tmp_path: Path) -> None:
    rows, found = problems_of(tmp_path, "\ufefffile,gloss,cat,occluded,group\na.npz,1,0,0,Ana\n\n b , 3,1 ,True,\n")
    assert found == []
    assert rows == [labels.Label("a", 1, 0, False, "Ana", 2), labels.Label("b", 3, 1, True, "", 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,gloss\na,1\n", messages.says("sign/columns", found="file, gloss")),
        ("", messages.says("sign/columns", found="of an empty file")),
        ("file,gloss,cat,occluded,gloss\na,0,0,0,1\n", messages.says("sign/column-twice", column="gloss")),
        (HEAD + "# a comment\n", messages.says("sign/fields", line=2, fields=1)),
        (
            HEAD + "a,0,0,0\nb,0,0,0\nc,4,0,0\n",
            messages.says("sign/label-range", line=4, column="gloss", value="'4'", last=3),
        ),
        (HEAD + "a,0,2,0\n", messages.says("sign/label-range", line=2, column="cat", value="'2'", last=1)),
        (HEAD + "a,-1,0,0\n", messages.says("sign/label-range", line=2, column="gloss", value="'-1'", last=3)),
        (HEAD + "a,0,0,maybe\n", messages.says("sign/occluded", line=2, value="'maybe'")),
        (HEAD + "../a,0,0,0\n", messages.says("sign/file-name", line=2, value="'../a'")),
        (HEAD + "clip,0,0,0\nclip.npz,0,0,0\n", messages.says("sign/file-twice", line=3, file="clip", before=2)),
        (HEAD + "a,3,0,0\nb,2,0,0\nc,3,1,0\n", messages.says("sign/two-categories", line=4, gloss=3)),
        (HEAD + 'a,0,0,"0\n', messages.says("sign/unreadable-table")),
        (HEAD + "a\x1b[2Jb,0,0,0\n", messages.says("sign/control-character", line=2, value=r"'a\x1b[2Jb'")),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, text: str, message: messages.Message) -> None:
    _, found = problems_of(tmp_path, text, glosses=4, categories=2)
    assert len(found) == 1
    messages.said(found[0], message)


def test_files_and_rows_are_matched_both_ways(tmp_path: Path) -> None:
    root = signs.folder(tmp_path / "data", {"train": 3})
    folder, problems = root / "keypoints_train", Problems()
    table = labels.read_labels(root / "train_labels.csv", problems)
    assert len(labels.match(folder, table, problems)) == 3
    assert problems.found == []
    (folder / "clip001.npz").rename(folder / "other.npz")
    (folder / "more").mkdir()
    (folder / "more/clip001.npz").write_bytes(b"")
    assert [path.name for path in labels.match(folder, table, problems)] == ["clip000.npz", "clip002.npz"]
    said = sorted(map(str, problems.errors))
    messages.only_said(
        said,
        messages.says("sign/nested-file"),
        messages.says("sign/file-without-row", file="other.npz"),
        messages.says("sign/row-without-file", line=3, file="clip001"),
    )
    assert labels.match(tmp_path / "nowhere", table, problems) == {}


def test_names_of_glosses(tmp_path: Path) -> None:
    root = signs.folder(tmp_path, {"train": 1})
    problems = Problems()
    found = labels.read_names(root / labels.REFERENCE, problems)
    assert (found.glosses[3], found.categories) == ("SIGN 3", {0: "KIND 0", 1: "KIND 1"})
    assert (found.category_of, problems.found) == ({0: 0, 1: 1, 2: 0, 3: 1}, [])
    (root / labels.REFERENCE).write_text("gloss_id,label,cat_id,category\nx,A,0,B\n1,C,0,B\n1,D,0,B\n2,E,0,F\n")
    labels.read_names(root / labels.REFERENCE, problems)
    messages.only_said(
        [str(each) for each in problems.errors],
        messages.says("sign/gloss-id", line=2),
        messages.says("sign/gloss-id-twice", line=4),
        messages.says("sign/two-names-of-a-category", line=5),
    )


def test_a_header_is_read_again_when_pythons_parser_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen twice in a long process: SystemError, "AST constructor recursion depth mismatch"."""
    np.savez(tmp_path / "a.npz", X=np.full((4, 156), 0.5, np.float32))
    read, failed = np.lib.format.read_array_header_1_0, list[int]()

    def fails_once(file: Any) -> Any:
        found = read(file)
        if not failed:
            failed.append(1)
            raise SystemError("AST constructor recursion depth mismatch (before=231, after=252)")
        return found

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", fails_once)
    assert len(npz.read_keypoints(tmp_path / "a.npz", "X").points) == 4
    assert failed
