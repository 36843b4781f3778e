"""In a notebook, and at a prompt: a budget stops the cell in one sentence, the kernel lives on, and running the cell
again goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tests import messages

BEGIN = """
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
"""
PLAIN = """
run = outlast.open_run("plain", total_steps=6, save="2 steps", background=False, progress="none")
run.track(counter=(counter := Counter()))
for step in run.steps():
    counter.value += step
    if step == fail_at:
        raise ValueError("in the middle")
print(run.resumed_from, counter.value, run.finished)
"""


@pytest.mark.filterwarnings("ignore")
def test_a_notebook(tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook()
    client = NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})

    def execute(source: str) -> str:
        cell = nbformat.v4.new_code_cell(source)
        book.cells.append(cell)
        client.execute_cell(cell, len(book.cells) - 1)
        return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")

    def stopped(source: str) -> str:
        """Run a cell as "Run all" does; returns what it shows in place of a traceback."""
        with pytest.raises(CellExecutionError) as caught:
            execute(source)
        (error,) = (output for output in book.cells[-1].outputs if output.output_type == "error")
        assert caught.value.ename == error.ename == "RunNotFinished"
        (line,) = error.traceback
        return line

    def interrupt() -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            journal = list(tmp_path.glob("runs/r/attempts/0002.json"))
            if journal and '"trained"' in journal[0].read_text():
                time.sleep(0.5)
                client.km.provisioner.process.send_signal(signal.SIGINT)
                return
            time.sleep(0.05)

    with client.setup_kernel():
        execute(BEGIN)
        line = stopped("train(10_000, budget=1.6)")
        used_up = "the session's time is used up (1 s kept back to save)"
        unfinished = messages.says("run/not-finished", run="r", step=re.compile(r"\d+"), total=10_000)
        messages.said([line], unfinished, why=used_up)
        assert execute("print(run.finished, run.session.reason)") == "False budget\n"
        thread = threading.Thread(target=interrupt)
        thread.start()
        messages.said([stopped("train(10_000)")], unfinished, why="interrupted (Ctrl-C again stops without saving)")
        thread.join()
        assert execute("print(run.session.reason, run.resumed_from > 5)") == "cancelled True\n"
        assert (
            execute("value = train(run.step + 3)\nprint(value == sum(range(run.step + 1)), run.finished)")
            == "True True\n"
        )
        # without a with-block: the cell that is run again takes over what the first time left open
        with pytest.raises(CellExecutionError, match="in the middle"):
            execute(f"fail_at = 5{PLAIN}")
        assert execute(f"fail_at = 0{PLAIN}") == "4 21 True\n"
        assert execute(f"fail_at = 0{PLAIN}") == "6 21 True\n"


def test_at_a_prompt(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-i", "-c", f"{BEGIN}\ntrain(10_000, budget=1.5)"],
        input="print('alive', run.finished)\ntrain(run.step + 1)\nprint('done', run.finished)\n1 / 0\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ,
        timeout=60,
        check=False,
    )
    unfinished = {"run": "r", "step": re.compile(r"\d+"), "total": 10_000, "why": messages.ANY}
    messages.said(done.stderr, "run/not-finished", **unfinished)
    assert "alive False" in done.stdout
    assert "done True" in done.stdout
    assert done.stderr.count("Traceback") == 1, "that of 1 / 0"
