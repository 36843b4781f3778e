"""Options that the commands of all recipes share."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from outlast.errors import DataError
from outlast_recipes.common.run_options import add_run_arguments, make_folder


def test_the_first_part_is_the_default() -> None:
    parser = ArgumentParser()
    add_run_arguments(parser, {"best": "best on validation", "ema": "averaged"})
    values = parser.parse_args(["walk"])
    assert (values.run, values.part, values.step, values.checkpoint_dir) == ("walk", "best", "latest", Path("runs"))
    assert parser.parse_args(["walk", "--part", "ema"]).part == "ema"
    with pytest.raises(SystemExit):
        parser.parse_args(["walk", "--part", "model"])


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=str(tmp_path / "file/inside")):
        make_folder(tmp_path / "file/inside")
    assert (tmp_path / "file").read_text() == "mine"
