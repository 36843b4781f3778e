"""A publication with a manifest over every driver of remotes, with the real clients and their stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.errors import PublishConflict
from outlast.publish import fetching
from tests.conformance.remotes import CASES
from tests.publish import making


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    case = CASES[request.param](tmp_path, monkeypatch)
    yield case
    case.close()


def test_a_publication_over_each_driver(case, tmp_path: Path) -> None:
    store = case.open()
    done = making.by_manifest(tmp_path / "run", store)
    assert (done.before, done.sent) == (False, 4)
    assert making.by_manifest(tmp_path / "run", store).before is True
    other = making.plan(tmp_path / "other", {**making.FILES, "README.md": b"another"})
    with pytest.raises(PublishConflict):
        making.by_manifest(tmp_path / "other", store, other)
    assert fetching.names_in(store) == [making.NAME]
    fetching.fetch(store, making.NAME, tmp_path / "got")
    assert {path: (tmp_path / "got" / path).read_bytes() for path in making.FILES} == making.FILES
