"""`outlast.show` in a real notebook: the picture of an earlier cell changes while a later one trains."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from tests import messages

import outlast
from outlast.errors import UsageError

pytest.importorskip("matplotlib")
pytest.importorskip("ipykernel")
client = pytest.importorskip("nbclient")

SHOW = """
import outlast, outlast.report.shown
outlast.report.shown._SHARE = 0
outlast.show("r", interval=0.05)
"""
TRAIN = """
import time
class State:
    def state_dict(self): return {"a": 1}
    def load_state_dict(self, state): pass
with outlast.open_run("r", total_steps=80, save="10 steps", progress="none") as run:
    run.track(state=State())
    for step in run.steps():
        run.log(loss=1 / step)
        time.sleep(0.1)
time.sleep(3)
"""


@pytest.mark.filterwarnings("ignore")
def test_the_curves_are_drawn_while_a_run_trains(tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(code) for code in (SHOW, TRAIN)]
    seen: list[dict] = []

    class Client(client.NotebookClient):
        def process_message(self, message, cell, index):
            if message["msg_type"] in ("display_data", "update_display_data"):
                seen.append(message["content"]["data"])
            return super().process_message(message, cell, index)

    Client(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "r has not begun." in [data["text/plain"] for data in seen]
    pictures = [data for data in seen if "image/png" in data]
    assert len({data["image/png"] for data in pictures}) >= 2  # also while it trains
    assert any(": running, step" in data["text/plain"] for data in pictures)
    (output,) = book.cells[0].outputs  # in its place, and only there
    assert output["data"]["text/plain"] == "r: finished, step 80 of 80"
    assert "image/png" in output["data"]
    assert not book.cells[1].outputs


def test_outside_of_a_notebook_it_says_what_to_do() -> None:
    with messages.raises(UsageError, "report/show-needs-a-notebook"):
        outlast.show("r")
    with messages.raises(UsageError, "report/show-interval", interval=0):
        outlast.show("r", interval=0)
    with messages.raises(UsageError, "report/show-interval", interval="'x'"):
        outlast.show("r", interval="x")  # type: ignore[arg-type]
