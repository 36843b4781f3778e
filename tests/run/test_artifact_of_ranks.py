"""Artifacts where several ranks train: rank 0 keeps its own, and the others write into the air."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from outlast.run.artifact import artifact


def test_what_another_rank_writes_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/table.md").write_text("of rank 0")
    ranks = SimpleNamespace(is_main=False)
    attempt: Any = SimpleNamespace(artifacts=tmp_path, ranks=ranks, check_no_sink=lambda _: None)
    with artifact(attempt, "sub/table.md", step=3) as path:
        assert path.name == "table.md"
        path.write_text("of rank 1")
        assert not path.is_relative_to(tmp_path)
    assert not path.exists()
    assert {each.name: each.read_text() for each in (tmp_path / "sub").iterdir()} == {"table.md": "of rank 0"}
