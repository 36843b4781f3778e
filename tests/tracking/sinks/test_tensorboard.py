"""The curves that TensorBoard's own readers show after kills and rewinds: each step once, with the journal's values."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from tests import messages
from tests.tracking.sinks.runs import kill, points, send, train

import outlast
from outlast.tracking.sinks.tensorboard import TensorBoard, next_name

pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'outlast[tensorboard]'")
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util

logging.getLogger("tensorboard").setLevel(logging.ERROR)
ALL = {"scalars": 0, "tensors": 0, "images": 0}


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of a folder, as two readers give them, which agree."""
    plain = event_accumulator.EventAccumulator(str(folder), ALL)
    plain.Reload()
    found = {tag: [(each.step, each.value) for each in plain.Scalars(tag)] for tag in plain.Tags()["scalars"]}
    served = plugin_event_accumulator.EventAccumulator(str(folder), tensor_size_guidance={"scalars": 0})
    served.Reload()
    for tag, expected in found.items():
        values = [(each.step, float(tensor_util.make_ndarray(each.tensor_proto))) for each in served.Tensors(tag)]
        assert values == expected, tag
    return {tag: each for tag, each in found.items() if each}


def texts(folder: Path) -> dict[str, str]:
    found = event_accumulator.EventAccumulator(str(folder), ALL)
    found.Reload()
    return {tag: found.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*tfevents*")}


@pytest.mark.parametrize("keep", [True, False], ids=["remembered", "killed-before-it-remembers"])
def test_each_step_is_there_once_after_attempts_that_differ(opened, tmp_path: Path, keep: bool) -> None:
    for number, leave_at in enumerate((8, 14, 17, None)):
        train(opened, 24, leave_at=leave_at, add=number / 4)
        if leave_at == 14:
            kill(tmp_path)
        send(tmp_path, TensorBoard(), "tensorboard", keep=keep)
    found = shown(tmp_path / "r/tensorboard")
    assert found == points(tmp_path)
    assert [step for step, _ in found["value"]] == list(range(1, 25))


def test_an_attempt_that_was_not_sent_does_not_leave_the_points_of_the_one_before(opened, tmp_path: Path) -> None:
    train(opened, 20, leave_at=8)
    send(tmp_path, TensorBoard(), "tensorboard")
    train(opened, 20, leave_at=16, add=0.5)  # repeats 7 and 8, and is not sent
    send(tmp_path, TensorBoard(), "tensorboard")
    assert shown(tmp_path / "r/tensorboard") == points(tmp_path)
    assert points(tmp_path)["value"][6:8] == [(7, 7.5), (8, 8.5)]


def test_a_line_that_a_resume_takes_back_is_taken_back_here_too(opened, tmp_path: Path) -> None:
    """A finished run logs after its last save; with more steps it continues from that save."""
    train(opened, 6)
    with (tmp_path / "r/journal.jsonl").open("a") as journal:
        journal.write('{"step": 6, "test": 0.5}\n')
    send(tmp_path, TensorBoard(), "tensorboard")
    assert shown(tmp_path / "r/tensorboard")["test"] == [(6, 0.5)]
    train(opened, 9)
    send(tmp_path, TensorBoard(), "tensorboard")
    assert shown(tmp_path / "r/tensorboard") == points(tmp_path)


def test_a_clean_resume_adds_and_repeats_nothing(opened, tmp_path: Path) -> None:
    train(opened, 6)
    send(tmp_path, TensorBoard(), "tensorboard")
    before = files(tmp_path / "r/tensorboard")
    train(opened, 12)
    assert (
        send(tmp_path, TensorBoard(), "tensorboard").lines
        == len((tmp_path / "r/journal.jsonl").read_text().splitlines()) - 7
    )
    after = files(tmp_path / "r/tensorboard")
    assert before.items() <= after.items()
    assert len(after) == 2
    assert shown(tmp_path / "r/tensorboard") == points(tmp_path)
    assert send(tmp_path, TensorBoard(), "tensorboard").lines == 0
    assert files(tmp_path / "r/tensorboard") == after, "sending again changes nothing"


def test_a_file_that_was_deleted_is_written_again(opened, tmp_path: Path) -> None:
    train(opened, 6)
    send(tmp_path, TensorBoard(), "tensorboard")
    train(opened, 9)
    send(tmp_path, TensorBoard(), "tensorboard")
    min((tmp_path / "r/tensorboard").glob("*tfevents*")).unlink()
    send(tmp_path, TensorBoard(), "tensorboard")
    assert shown(tmp_path / "r/tensorboard") == points(tmp_path)


def test_a_memory_from_elsewhere_names_no_file_outside(opened, tmp_path: Path) -> None:
    train(opened, 6)
    send(tmp_path, TensorBoard(), "tensorboard")
    memory = tmp_path / "r/trackers/tensorboard.json"
    record = json.loads(memory.read_text())
    record["state"]["files"] = {"../../x": 3}
    memory.write_text(json.dumps(record))
    send(tmp_path, TensorBoard(), "tensorboard")
    assert shown(tmp_path / "r/tensorboard") == points(tmp_path)
    assert not (tmp_path / "x").exists()


def test_names_of_files_sort_after_all_that_are_there_also_with_a_clock_behind() -> None:
    first = next_name([], now=2_000_000_000)
    second = next_name([first], now=1_000_000_000)
    third = next_name([first, second, "events.out.tfevents.zz"], now=1_000_000_000)
    assert first < second < third
    assert next_name([first], now=2_000_000_500) > next_name([first], now=2_000_000_400)


def test_config_end_picture_and_numbers_beyond_float32_arrive(opened, tmp_path: Path) -> None:
    from outlast.config import Config, resolve, setting

    class Values(Config):
        rate: float = setting(0.5, "a rate")
        wandb_api_key: str | None = setting("canary-key", "a key")

    with opened(total_steps=2, config=resolve(Values, flags={"rate": "0.25"})) as run:
        from tests.counting import Counter

        run.track(counter=Counter())
        for _ in run.steps():
            run.log(huge=1e300, lost=float("nan"), word="text")
        with run.artifact("plots/curve.png") as path:
            path.write_bytes(PNG)
    send(tmp_path, TensorBoard(tmp_path / "all"), "tensorboard")
    folder = tmp_path / "all/r"
    found = event_accumulator.EventAccumulator(str(folder), ALL)
    found.Reload()
    assert found.Scalars("huge")[0].value == float("inf")
    assert found.Scalars("lost")[0].value != found.Scalars("lost")[0].value
    assert found.Tags()["scalars"] == ["huge", "lost"]
    (image,) = found.Images("plots/curve.png")
    assert (image.step, image.width, image.height, image.encoded_image_string) == (2, 3, 2, PNG)
    assert '"rate": 0.25' in texts(folder)["outlast/config"]
    assert texts(folder)["outlast/end"] == "finished at step 2"
    assert not any(b"canary-key" in data for data in files(folder).values())


PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000003000000020802000000") + b"the rest is for a viewer"

SCRIPT = """
import sys, time
import outlast
from tests.counting import Counter

with outlast.open_run("r", total_steps=60, root=sys.argv[1], save="5 steps", progress="none", background=False,
                      sinks=[outlast.sinks.TensorBoard()]) as run:
    run.track(counter=Counter())
    for step in run.steps():
        run.log(value=step + float(sys.argv[2]))
        time.sleep(0.05)
        if step == 33 and sys.argv[2] == "0":
            time.sleep(60)
"""


@pytest.mark.slow
def test_training_and_its_sink_killed_together_or_alone(tmp_path: Path) -> None:
    """The real processes: kill -9 of the training while it is shown, then another attempt with other values."""
    (tmp_path / "train.py").write_text(SCRIPT)
    folder = tmp_path / "runs/r/tensorboard"
    for add in ("0", "0.5"):
        process = subprocess.Popen([sys.executable, "train.py", "runs", add], cwd=tmp_path, env=_env())
        if add == "0":
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline and not _has(folder, 30):
                time.sleep(0.5)
            process.kill()
        process.wait(120)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _has(folder, 60):
        time.sleep(0.5)
    found = shown(folder)
    assert found == points(tmp_path / "runs")
    assert [step for step, _ in found["value"]] == list(range(1, 61))


@pytest.mark.slow
@pytest.mark.parametrize("fast", ["true", "false"])
def test_the_program_itself_shows_each_step_once(opened, tmp_path: Path, fast: str) -> None:
    for number, leave_at in enumerate((8, 14, None)):
        train(opened, 20, leave_at=leave_at, add=number / 4, seldom=4 if number else 8)
        send(tmp_path, TensorBoard(), "tensorboard", keep=number != 1)
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0", "--load_fast", fast]
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, env=_env())
    try:
        deadline = time.monotonic() + 90
        while "http://" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.3)
        port = log.read_text().split("localhost:")[1].split("/")[0]
        for tag, expected in points(tmp_path).items():
            query = urllib.parse.urlencode({"tag": tag, "run": "r/tensorboard"})
            found = None
            while found != expected and time.monotonic() < deadline:
                time.sleep(0.5)
                try:
                    with urllib.request.urlopen(
                        f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?{query}"
                    ) as answer:
                        found = [(step, value) for _, step, value in json.load(answer)]
                except OSError:
                    continue
            assert found == expected, tag
    finally:
        process.terminate()
        process.wait(20)


def _has(folder: Path, step: int) -> bool:
    if not any(folder.glob("*tfevents*")):
        return False
    found = event_accumulator.EventAccumulator(str(folder), ALL)
    found.Reload()
    return "value" in found.Tags()["scalars"] and found.Scalars("value")[-1].step >= step


def _env() -> dict[str, str]:
    source = str(Path(outlast.__path__[0]).parent)
    repository = str(Path(__file__).parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, repository])}


def test_the_sink_of_a_run_shows_it_and_costs_one_process(opened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("outlast.tracking.sinks.tracker.WAIT", 60)
    monkeypatch.setattr("outlast.tracking.fanout.DEADLINE", 60)
    train(opened, 12, leave_at=8, sinks=[outlast.sinks.TensorBoard()])
    train(opened, 12, add=0.5, sinks=[outlast.sinks.TensorBoard(tmp_path / "all")])
    assert shown(tmp_path / "all/r") == points(tmp_path)
    told = json.loads((tmp_path / "r/attempts/0002.json").read_text())["told"]
    messages.said("\n".join(told), "tracking/curves-are-in", folder=tmp_path / "all/r", root=tmp_path / "all")
