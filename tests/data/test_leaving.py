"""A process with loader workers ends soon, whatever they are doing: real processes, and signals to the whole group."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import psutil
import pytest
import torch

import outlast
from outlast.data import leaving

LIMIT = 2.0
"""Seconds from the signal, or from a script's last line, to the end of the process; torch alone waits five for a busy
worker."""


def limit() -> float:
    """LIMIT on a machine that has nothing else to do; longer when more processes want the cores than there are."""
    return LIMIT * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


SCRIPT = '''
import hashlib, os, sys, time
import torch, outlast
torch.set_num_threads(1)

class Data(torch.utils.data.Dataset):
    """Sample 5 takes half a minute in C, where no Python handler runs."""
    slow = True
    def __len__(self): return 16
    def __getitem__(self, index):
        if index == 5 and self.slow: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**26)
        return torch.tensor(index)

def say(word): print(word, time.time(), flush=True)

def main(way, method, persistent):
    data = Data()
    data.slow = way not in ("finished", "accumulate")
    options = {"num_workers": 2, "persistent_workers": persistent, "multiprocessing_context": method}
    if way == "torchdata":
        from torchdata.stateful_dataloader import StatefulDataLoader
        loader = StatefulDataLoader(data, 2, **options)
    else:
        loader = outlast.DataLoader(data, 2, shuffle=False, **options)
    if way == "break":
        for batch in loader:
            break
        return say("LAST")
    with outlast.open_run("r", progress="none", save="never") as run:
        run.track(model=torch.nn.Linear(1, 1))
        for number, batch in enumerate(run.batches(loader, epochs=1, accumulate=4 if way == "accumulate" else 1), 1):
            if way == "accumulate":
                print("batch", batch.tolist(), flush=True)
                if number == 1:
                    say("READY")
                    time.sleep(1)
            elif way == "exception" and number == 2:
                say("LAST")
                raise RuntimeError("of the script")
            elif number == 2 and way != "finished":
                say("READY")
    say("LAST")

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "persistent")
'''


class Ended:
    """A process that has ended: how, and how long after the moment that counts."""

    def __init__(self, tmp_path: Path, way: str, method: str, persistent: str) -> None:
        (tmp_path / "script.py").write_text(SCRIPT)
        process = subprocess.Popen(
            [sys.executable, "script.py", way, method, persistent],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines, moment = [], None
        for line in process.stdout:
            self.lines.append(line.split(" ", 1))
            word = self.lines[-1][0]
            if word == "READY":
                self.family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
                time.sleep(0.3)  # the loop waits for the batch by now
                moment = time.time()
                os.killpg(process.pid, signal.SIGTERM)
            elif word == "LAST" and moment is None:
                self.family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
                moment = float(self.lines[-1][1])
        self.errors = process.stderr.read()
        self.code = process.wait(60)
        self.seconds = time.time() - moment
        ends = sorted(tmp_path.glob("runs/r/attempts/*.json"))
        self.end = json.loads(ends[-1].read_text())["end"] if ends else None

    def alone(self) -> bool:
        """Whether no process of its is left, within a few seconds: multiprocessing's helpers notice that it has
        gone."""
        for _ in range(50):
            if not any(psutil.pid_exists(pid) for pid in self.family):
                return True
            time.sleep(0.1)
        return False


CALM = [
    ("fork", "not"),
    ("fork", "persistent"),
    ("spawn", "not"),
    ("forkserver", "persistent"),
    pytest.param("spawn", "persistent", marks=pytest.mark.slow),
    pytest.param("forkserver", "not", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("method", "persistent"), CALM)
def test_a_signal_ends_a_run_that_waits_for_a_worker(tmp_path: Path, method: str, persistent: str) -> None:
    ended = Ended(tmp_path, "wait", method, persistent)
    assert (ended.code, ended.errors) == (75, "")
    assert (ended.end["reason"], ended.end["step"]) == ("preempted", 2)
    assert ended.seconds < limit()
    assert ended.alone()


@pytest.mark.parametrize(
    ("way", "code", "words"),
    [("break", 0, ""), ("exception", 1, "RuntimeError: of the script\n"), ("finished", 0, "")],
)
def test_a_script_that_is_done_ends(tmp_path: Path, way: str, code: int, words: str) -> None:
    ended = Ended(tmp_path, way, "fork", "persistent")
    assert ended.code == code
    assert ended.errors.endswith(words)
    assert bool(words) == bool(ended.errors)
    assert ended.seconds < limit()
    assert ended.alone()


def test_a_signal_ends_a_run_with_torchdatas_workers(tmp_path: Path) -> None:
    ended = Ended(tmp_path, "torchdata", "fork", "not")
    assert ended.code == 75
    assert "Traceback" not in ended.errors  # torchdata warns of itself there
    assert (ended.end["reason"], ended.end["step"]) == ("preempted", 2)
    assert ended.seconds < limit()


@pytest.mark.parametrize("method", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_outlive_a_signal_for_the_step_that_runs(tmp_path: Path, method: str) -> None:
    """A step of four batches, and the signal in the first: the other three still come."""
    ended = Ended(tmp_path, "accumulate", method, "not")
    assert (ended.code, ended.errors) == (75, "")
    assert [line[1] for line in ended.lines if line[0] == "batch"] == ["[0, 1]\n", "[2, 3]\n", "[4, 5]\n", "[6, 7]\n"]
    assert (ended.end["reason"], ended.end["step"]) == ("preempted", 1)


def test_a_closed_loader_continues_where_it_was() -> None:
    loader = outlast.DataLoader(range(12), 2, num_workers=1, persistent_workers=True, shuffle=False)
    first = [next(loader).tolist() for _ in range(2)]
    worker = loader._batches._workers[0]
    loader.close()
    assert not worker.is_alive()
    assert first + [batch.tolist() for batch in loader] == [[at, at + 1] for at in range(0, 12, 2)]
    loader.close()
    loader.close()  # once more is fine


def test_a_dropped_loader_ends_its_workers() -> None:
    loader = outlast.DataLoader(range(12), 2, num_workers=1)
    next(loader)
    worker = loader._batches._workers[0]
    del loader
    worker.join(5)
    assert worker.exitcode == 0


def test_a_forked_child_leaves_the_workers_of_its_parent_alone() -> None:
    loader = outlast.DataLoader(range(12), 2, num_workers=1, shuffle=False)
    first = next(loader).tolist()
    if (child := os.fork()) == 0:
        loader.close()
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert loader._batches._workers[0].is_alive()
    assert [first, *(batch.tolist() for batch in loader)] == [[at, at + 1] for at in range(0, 12, 2)]


def test_a_loader_without_workers_is_unchanged() -> None:
    leaving.end_workers(None)
    leaving.end_workers(iter([1]))
    batches = iter(outlast.DataLoader(range(4), 2, shuffle=False)._loader)
    leaving.end_workers(batches)
    assert [batch.tolist() for batch in batches] == [[0, 1], [2, 3]]


class Stuck(torch.utils.data.Dataset):
    """Sample 5 takes a minute."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        time.sleep(60 * (index == 5))
        return index


def train(opened, *, fails_at: int | None) -> float:
    """Train for a while with a loader that is tracked, and another for evaluation; returns how long it took."""
    start = time.monotonic()
    try:
        with opened(save="2 steps") as run:
            run.track(model=torch.nn.Linear(1, 1))
            tracked = outlast.DataLoader(range(24), 4, num_workers=2)
            other = outlast.DataLoader(range(24), 4, num_workers=1)
            for _ in run.batches(tracked, epochs=3):
                next(other)
                if run.step == fails_at:
                    raise KeyError("a mistake in the cell")
    except KeyError:
        pass
    return time.monotonic() - start


def test_a_cell_that_failed_is_run_again(opened, capfd) -> None:
    mine = psutil.Process()
    before = {child.pid for child in mine.children()}
    seconds = train(opened, fails_at=5)
    assert {child.pid for child in mine.children()} <= before
    seconds += train(opened, fails_at=None)
    assert {child.pid for child in mine.children()} <= before
    assert seconds < 4 * limit()
    told = "outlast: warning: step 4 is saved; the next attempt repeats the steps after it.\n"
    assert capfd.readouterr().err == told  # and nothing of the workers


def test_a_loader_that_had_workers_before_the_run_keeps_them(opened) -> None:
    loader = outlast.DataLoader(range(12), 2, num_workers=1)
    next(loader)
    train(opened, fails_at=1)
    assert loader._batches._workers[0].is_alive()
    loader.close()


def test_a_forked_process_does_not_end_its_parents_workers(capfd) -> None:
    loader = outlast.DataLoader(range(12), 2, num_workers=1)
    next(loader)
    child = os.fork()
    if not child:
        loader._batches.cycle = loader._batches
        loader._batches = None
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert capfd.readouterr().err == ""
    assert len(list(loader)) == 5
    loader.close()


def test_garbage_collection_does_not_wait_for_a_worker() -> None:
    loader = outlast.DataLoader(Stuck(), 2, num_workers=1, shuffle=False)
    next(loader)
    iterator, loader._batches = loader._batches, None
    (worker,) = iterator._workers
    iterator.cycle = iterator
    del iterator
    start = time.monotonic()
    gc.collect()
    assert not worker.is_alive()
    assert time.monotonic() - start < 3.0 * limit() / LIMIT, "torch itself waits 5 s for each worker"


@pytest.mark.parametrize("whole", [True, False])
def test_an_unused_iterator_is_released(whole: bool) -> None:
    gc.collect()
    gc.disable()
    try:
        loader = outlast.DataLoader(range(6), 2, num_workers=1)
        next(loader)
        gone = weakref.ref(loader._batches)
        list(loader) if whole else loader.close()
        assert gone() is None
    finally:
        gc.enable()
