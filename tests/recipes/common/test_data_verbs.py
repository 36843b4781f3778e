"""`outlast data get|check|prepare RECIPE`: one grammar for all recipes."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from outlast.cli import main
from outlast.recipe import registry
from outlast_recipes.common import data_verbs

RECIPES = ("digits", "dungeon", "emergence", "sign", "skeleton", "yolo")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def served(tmp_path: Path, name: str, content: bytes) -> str:
    (tmp_path / "served" / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def packed(**files: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_the_three_verbs(name: str) -> None:
    assert sorted(registry.names()) == sorted(RECIPES)
    offered = {command.name for command in registry.loaded(registry.find(name)).commands}
    assert {"data get", "data check", "data prepare"} <= offered


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_does_not_need_says_so_with_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in registry.loaded(registry.find(name)).commands:
        if command.name.startswith("data ") and command.summary.startswith("nothing to do"):
            assert main([*command.name.split(), name]) == 0
            assert capsys.readouterr().out.startswith(f"{name} ")


@pytest.mark.parametrize("name", ["dungeon", "sign", "skeleton", "yolo"])
def test_every_check_that_lists_problems_lists_all_on_request(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "check", name, "--help"])
    assert "list all warnings, instead of 10 of a kind" in " ".join(capsys.readouterr().out.split())


def test_digits_are_counted_and_compared_with_their_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "digits"]) == 0
    out = capsys.readouterr().out
    assert [int(n) for n in out.splitlines()[1].split()[1:]] == [125, 120, 124, 124, 113, 123, 119, 117, 113, 119, 1197]
    assert "1,797 images, with the known SHA-256" in out


def test_an_archive_of_the_user_is_fetched_once_and_unpacked(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = served(tmp_path, "my data.zip", packed(**{"data.yaml": "names: [a]\n", "images/a.txt": "a"}))
    words = ["data", "get", "yolo", str(tmp_path / "plates"), "--from", f"{address}/my%20data.zip", "--sha256", known]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "2 files of my data.zip, which has the known SHA-256." in out
    assert f"Check it: outlast data check yolo {tmp_path / 'plates'}" in out
    assert (tmp_path / "plates/images/a.txt").read_text() == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plates", "served"]
    (tmp_path / "served/my data.zip").unlink()
    assert main(words) == 0
    assert "already" in capsys.readouterr().out


def test_a_file_that_is_no_archive_is_put_there(address: str, tmp_path: Path) -> None:
    known = served(tmp_path, "a.npz", b"numbers")
    assert main(["data", "get", "sign", str(tmp_path / "d"), "--from", f"{address}/a.npz", "--sha256", known]) == 0
    assert (tmp_path / "d/a.npz").read_bytes() == b"numbers"


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ([], 1, "The data of skeleton cannot be fetched without you."),
        (["--from", "{address}/a.zip"], 1, "--from needs --sha256 HASH too."),
        (["--from", "{address}/a.zip", "--sha256", "12"], 1, "--sha256 is '12'; expected 64 hexadecimal digits."),
        (["--from", "{address}/a.zip", "--sha256", "0" * 64], 1, "has another content"),
        (["--from", "{address}/", "--sha256", "0" * 64], 1, "expected the address of a file"),
        (["--from", "http://example.org/a.zip", "--sha256", "0" * 64], 1, "The address of the data is"),
        (["--from", "{address}/a.zip?download=1", "--sha256", "0" * 64], 1, "or a query (?...)"),
        (["--from", "https://[::1/a.zip", "--sha256", "0" * 64], 1, "The address of the data is"),
        (["--from", "a.zip", "--sha256", "0" * 64], 1, "The address of the data is"),
        (["--from", "{address}/no.zip", "--sha256", "0" * 64], 1, "was refused: 404"),
        (["--from", "{address}/a.zip", "--sha256", "{known}", "--most", "0.0000001"], 1, "has more than 100 bytes"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, words: str
) -> None:
    known = served(tmp_path, "a.zip", packed(a="a" * 500))
    folder = tmp_path / "out"
    more = [each.format(address=address, known=known) for each in more]
    assert main(["data", "get", "skeleton", str(folder), *more]) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not folder.exists()
    left = [each for each in tmp_path.rglob("*") if "out" in str(each.relative_to(tmp_path))]
    assert not [each for each in left if each.is_dir() and not any(each.iterdir())], "no empty folder stays"


@pytest.mark.parametrize("most", ["nan", "inf", "-1", "0", "1e400", "x"])
def test_a_size_that_is_none_is_a_usage_error(most: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "skeleton", "out", "--from", "https://127.0.0.1:9/a", f"--most={most}"]) == 2
    assert f"--most: is {most!r}; expected a number of GB above 0" in capsys.readouterr().err


@pytest.mark.parametrize("folder", [".", "..", "a/.."])
def test_a_folder_without_a_name_is_refused(folder: str, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "skeleton", folder, "--from", f"{address}/a.zip", "--sha256", "0" * 64]) == 1
    assert "expected the name of a new one" in capsys.readouterr().err


def test_a_pipe_for_the_record_is_not_read(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / data_verbs.RECORD)
    assert main(["data", "get", "skeleton", "out", "--from", f"{address}/a.zip", "--sha256", "0" * 64]) == 1
    assert "is there already" in capsys.readouterr().err


def test_a_folder_that_is_there_is_left_as_it_is(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = served(tmp_path, "a.zip", packed(a="a"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    words = ["data", "get", "yolo", str(tmp_path / "out"), "--from", f"{address}/a.zip", "--sha256", known]
    assert main(words) == 1
    assert "is there already, and not from this file" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_folder_with_the_files_of_another_archive_is_left_as_it_is(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "get", "yolo", str(tmp_path / "out"), "--from"]
    for content, code in (("a", 0), ("b", 1)):
        known = served(tmp_path, f"{content}.zip", packed(f=content))
        assert main([*words, f"{address}/{content}.zip", "--sha256", known]) == code
    assert "is there already, and not from this file" in capsys.readouterr().err
    assert (tmp_path / "out/f").read_text() == "a"


def test_a_recipe_without_a_verb_says_how_it_offers_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "import outlast\nrecipe = outlast.Recipe('mine', 'mine', outlast.Config, lambda run, config: None)\n"
    )
    assert main(["data", "get", str(recipe)]) == 2
    assert "has no `data get`; it has no verbs about data." in capsys.readouterr().err
