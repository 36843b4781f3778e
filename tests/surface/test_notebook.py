"""In a notebook: a budget ends the loop and not the kernel, an interrupt saves, and running the cell again goes on."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = [
    """
import time, outlast
class Counter:
    value = 0
    def state_dict(self): return {"value": self.value}
    def load_state_dict(self, state): self.value = state["value"]
def train(total, **options):
    global run
    counter = Counter()
    with outlast.open_run("r", total_steps=total, progress="plain", **options) as run:
        run.track(counter=counter)
        for step in run.steps():
            counter.value += step
            time.sleep(0.02)
    return counter.value
""",
    "train(10_000, budget=1.6)\nprint('finished:', run.finished, 'reason:', run.session.reason)",
    "value = train(10_000)\nprint('finished:', run.finished, 'reason:', run.session.reason, 'continued:', run.resumed_from > 5)",
    "value = train(run.step + 3)\nprint(value == sum(range(run.step + 1)), run.finished)",
]


@pytest.mark.filterwarnings("ignore")
def test_a_notebook(tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    client = NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})

    def interrupt() -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            journal = list(tmp_path.glob("runs/r/attempts/0002.json"))
            if journal and '"trained"' in journal[0].read_text():
                time.sleep(0.5)
                client.km.provisioner.process.send_signal(signal.SIGINT)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=interrupt)
    thread.start()
    client.execute()
    thread.join()
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in book.cells]
    assert "finished: False reason: budget" in texts[1]
    assert "finished: False reason: cancelled continued: True" in texts[2]
    assert "True True" in texts[3]
    assert all(output.output_type != "error" for cell in book.cells for output in cell.outputs)
