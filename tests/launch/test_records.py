"""Records of launches: what one process has learnt is kept when another one learns something."""

from __future__ import annotations

from pathlib import Path

from outlast.folder.layout import RunFolder
from outlast.launch.records import LaunchRecord, all_launches


def test_what_another_process_has_learnt_meanwhile_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    ours = LaunchRecord.begin(
        folder, 1, provider="local", name="outlast-r-001", handle={"session": "outlast-r-001"}, accelerator="cpu"
    )
    (theirs,) = all_launches(folder)
    theirs.learn(state="fetched", step=6)
    ours.learn(seconds=2.5)
    (found,) = all_launches(folder)
    assert ours.record == found.record
    assert [found.record[name] for name in ("state", "step", "seconds")] == ["fetched", 6, 2.5]
