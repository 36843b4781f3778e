"""The ways in which an attempt ends: signals, errors in every place, exits; the lock and the handlers always come
back."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests import messages, processes
from tests.counting import Counter, attempts, count_to
from tests.folders import committed, inside

import outlast
from outlast.errors import ResumeRefused, RunBusy, SaveFailed, SessionEnded, StateError, UsageError
from outlast.folder import lock
from outlast.tracking import read


def test_a_batch_systems_warning_saves_and_says_its_name(opened, tmp_path: Path, capfd) -> None:
    with pytest.raises(SessionEnded) as caught, opened(total_steps=9, progress="plain") as run:
        run.track(counter=Counter())
        for step in run.steps():
            if step == 4:
                os.kill(os.getpid(), signal.SIGUSR1)
    assert caught.value.code == 75
    assert [c.step for c in committed(run.folder)] == [4]
    end = attempts(tmp_path)[0]["end"]
    assert (end["reason"], end["signal"], end["step"]) == ("preempted", "SIGUSR1", 4)
    shown = capfd.readouterr().err
    messages.said(shown, "run/outlast-sigusr-received-saving")
    messages.said(shown, "run/outlast-step-of-stopped-sigusr-received", step=4, number=9)
    assert "stopped from outside" not in shown


class Failing(outlast.Sink):
    """A sink that goes wrong at one event, in one way."""

    def __init__(self, event: str, error: BaseException) -> None:
        def fail(*_: object) -> None:
            self.calls += 1
            raise error

        self.calls = 0
        setattr(self, event, fail)


def let_go(root: Path, name: str = "r") -> bool:
    """Whether nobody holds the run and signals are as they were."""
    return (
        lock.holder(root / name / "lock") is None
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


@pytest.mark.parametrize("event", ["progressed", "saved", "told", "ended", "closed"])
@pytest.mark.parametrize("error", [SystemExit(3), ValueError("disk \udcff")])
def test_a_sink_never_ends_a_run(event: str, error: BaseException, opened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("outlast.tracking.sinks.queue.TRIES", 2)
    bad, good = Failing(event, error), outlast.Sink()
    heard: list[str] = []
    good.told = lambda _level, sentence: heard.append(sentence)  # type: ignore[method-assign]
    with opened(total_steps=3, sinks=[bad, good]) as run:
        run.track(counter=Counter())
        for _ in run.steps():
            run.tell("something")
    assert bad.calls >= 2, "it is called again"
    record = attempts(tmp_path)[0]
    assert record["end"]["reason"] == "finished"
    if event == "told":
        messages.said(heard, "tracking/sink-failed", sink="Failing", event="told", error=messages.ANY)
    assert let_go(tmp_path)


@pytest.mark.parametrize("error", [SystemExit(3), ValueError("disk \udcff")])
def test_a_screen_never_ends_a_run(error: BaseException, opened, tmp_path: Path, monkeypatch) -> None:
    bad, good = Failing("progressed", error), outlast.Sink()
    heard: list[str] = []
    good.told = lambda _level, sentence: heard.append(sentence)  # type: ignore[method-assign]
    monkeypatch.setattr("outlast.tracking.progress.choose", lambda _style: bad)
    with opened(total_steps=3, sinks=[good]) as run:
        run.track(counter=Counter())
        for _ in run.steps():
            pass
    assert bad.calls
    failed = messages.says("tracking/screen-failed", screen="Failing", event="progressed", error=messages.ANY)
    assert messages.times_said(heard, failed) == 1
    messages.said(attempts(tmp_path)[0]["told"], failed)
    assert attempts(tmp_path)[0]["end"]["reason"] == "finished"
    assert let_go(tmp_path)


def test_ctrl_c_while_it_ends_still_ends_it(opened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("outlast.tracking.progress.choose", lambda _style: Failing("ended", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt), opened(total_steps=3) as run:
        run.track(counter=Counter())
        for _ in run.steps():
            pass
    assert attempts(tmp_path)[0]["end"]["reason"] == "finished"
    assert let_go(tmp_path)


def test_ctrl_c_twice_in_the_last_save(opened, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt), opened(total_steps=5, save="never") as run:
        run.track(counter=Counter())
        for step in run.steps():
            if step == 2:
                monkeypatch.setattr(inside(run).saver, "save", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
                os.kill(os.getpid(), signal.SIGINT)
    (record,) = attempts(tmp_path)
    assert record["end"]["reason"] == "cancelled"
    messages.said(record["told"][-1], "run/nothing-had-been-saved")
    assert let_go(tmp_path)


def test_ctrl_c_while_it_waits_for_the_writer(opened, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt), opened(total_steps=5) as run:
        run.track(counter=Counter())
        real = inside(run).saver.close
        calls: list[bool] = []

        def close(*, abandon: bool = False) -> None:
            calls.append(abandon)
            if len(calls) == 1:
                raise KeyboardInterrupt
            real(abandon=abandon)

        monkeypatch.setattr(inside(run).saver, "close", close)
        for _ in run.steps():
            pass
    assert calls == [False, True]
    assert attempts(tmp_path)[0]["end"]["reason"] == "finished"
    assert let_go(tmp_path)


def test_a_state_that_fails_at_the_last_save(opened, tmp_path: Path) -> None:
    class Broken(Counter):
        def state_dict(self) -> dict:
            if self.value > 2:
                raise RuntimeError("CUDA error \udcff")
            return super().state_dict()

    with messages.raises(StateError, "run/cuda-error"), opened(total_steps=5) as run:
        run.track(counter=(counter := Broken()))
        run.begin(total_steps=9)
        counter.value = 3
        run.log(step=3, x=1)
    end = attempts(tmp_path)[0]["end"]
    assert end["reason"] == "failed"
    messages.said([end["error"]], "run/error-of-the-last-save", error="RuntimeError: CUDA error \\xff")
    assert let_go(tmp_path)


def test_every_write_fails_at_the_end(opened, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        messages.raises(SaveFailed, "run/how-this-attempt-ended-finished", step=3),
        opened(total_steps=3) as run,
    ):
        run.track(counter=Counter())
        for _ in run.steps():
            pass
        run.log(after=1)
        monkeypatch.setattr("outlast.folder.durable.write_json", full)
        monkeypatch.setattr(inside(run).attempt.journal, "flush", full)
    assert let_go(tmp_path)


@pytest.mark.parametrize("where", ["tell", "name", "value"])
def test_text_that_utf_8_cannot_hold(where: str, opened, tmp_path: Path) -> None:
    bad = os.fsdecode(b"bad\xff.png")
    with opened(total_steps=3) as run:
        run.track(counter=Counter())
        for _ in run.steps():
            if where == "tell":
                run.tell(f"could not read {bad}")
            elif where == "name":
                run.log(**{f"loss/{bad}": 1.0})
            else:
                run.log(file=bad)
    record = attempts(tmp_path)[0]
    assert record["end"]["reason"] == "finished"
    assert let_go(tmp_path)
    if where == "tell":
        assert record["told"] == ["could not read bad\\udcff.png"]  # what is told again is kept once
    else:
        wanted = {"loss/bad\\udcff.png": 1.0} if where == "name" else {"file": "bad\\udcff.png"}
        assert read(run.folder / "journal.jsonl")[0] == {"step": 1, **wanted}


def test_a_loop_without_a_with_block_may_be_run_again(opened, tmp_path: Path) -> None:
    for _ in range(2):
        run = opened(total_steps=5)
        count_to(run, Counter())
    assert run.finished
    run.close()
    assert [a["end"]["reason"] for a in attempts(tmp_path)] == ["finished", "finished"]
    messages.said(attempts(tmp_path)[1]["told"][0], "run/attempt-was-left-open", attempt=1, step=5)
    assert let_go(tmp_path)


def test_a_loop_without_a_with_block_that_fails_or_stops(opened, tmp_path: Path) -> None:
    run = opened(total_steps=9, save="2 steps", background=False)
    run.track(counter=(counter := Counter()))
    for step in run.steps():
        counter.value += step
        if step == 5:
            break  # as an exception in a cell leaves it: nobody ends the run
    run = opened(total_steps=9)
    assert run.resumed_from == 4
    with pytest.raises(SessionEnded):
        count_to(run, Counter(), stop_at=6)
    assert let_go(tmp_path), "a stop ends it: nothing comes after it"
    with messages.raises(UsageError, "run/has-ended-call-open-run"), run:
        pass
    with opened(total_steps=9) as run:
        assert run.resumed_from == 6
        with messages.raises(RunBusy, "run/process-holds-the-run"):
            opened(total_steps=9)
        count_to(run, counter := Counter())
    assert counter.value == 45
    assert [a["end"]["reason"] for a in attempts(tmp_path)] == ["cancelled", "budget", "finished"]


@pytest.mark.parametrize(
    ("last", "code", "reason"),
    [("", 0, "finished"), ("break", 0, "cancelled"), ("sys.exit(3)", 3, "cancelled"), ("1 / 0", 1, "failed")],
)
def test_a_script_without_a_with_block_writes_down_its_end(last: str, code: int, reason: str, tmp_path: Path) -> None:
    script = (
        "import sys, outlast\nclass S:\n def state_dict(self): return {'a': 1}\n def load_state_dict(self, _): pass\n"
        f"run = outlast.open_run('r', total_steps=3, root={str(tmp_path)!r}, progress='none')\nrun.track(s=S())\n"
        f"for step in run.steps():\n  if step == 2:\n    {last or 'pass'}\n"
    )
    assert processes.run([sys.executable, "-c", script]).returncode == code
    end = attempts(tmp_path)[0]["end"]
    assert end["reason"] == reason
    assert end.get("error") == ("ZeroDivisionError: division by zero" if reason == "failed" else None)


def test_a_block_left_by_return_is_an_early_end_and_said(opened, tmp_path: Path) -> None:
    def train() -> None:
        with opened(total_steps=9) as run:
            run.track(counter=Counter())
            for step in run.steps():
                if step == 4:
                    return

    train()
    (record,) = attempts(tmp_path)
    assert (record["end"]["reason"], record["end"]["step"]) == ("finished", 4)
    messages.said(record["told"][-1], "run/left-at-step", step=4, number=9)


def contents(folder: Path) -> dict[Path, bytes]:
    """All files but the events, which another thread writes."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".events.jsonl")]
    return {path: path.read_bytes() for path in files}


def test_a_process_that_was_stopped_too_long_does_not_write_into_anothers_attempt(
    opened, tmp_path: Path, monkeypatch
) -> None:
    """Another machine took the run over: its name stands in the lock."""
    monkeypatch.setattr("outlast.run.attempt.LOOK_SECONDS", 0.0)
    folder = tmp_path / "r"
    with (
        messages.raises(RunBusy, "run/another-attempt-has-taken-over-writes"),
        opened(total_steps=9, save="2 steps") as run,
    ):
        run.track(counter=Counter())
        for step in run.steps():
            run.log(x=step)
            if step == 3:
                inside(run).saver.wait_for_writer()
                theirs = (
                    json.dumps({"attempt": "theirs", "pid": 1, "host": "elsewhere", "boot": "b", "beat": 4e9}).ljust(
                        511
                    )
                    + "\n"
                )
                (folder / "lock").write_text(theirs)
                before = contents(folder)
            if step > 4:
                pytest.fail("it trains on")
    assert contents(folder) == before
    assert "ended" not in (folder / "attempts/0001.events.jsonl").read_text()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def in_a_child(action) -> str:
    """What an action in a forked child raises, or nothing."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            words = ""
        except BaseException as error:
            words = f"{type(error).__name__}: {error}"
        os.write(write_end, words.encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    return os.read(read_end, 4096).decode()


def test_a_forked_child_does_not_train_the_parents_run(opened, tmp_path: Path) -> None:
    with opened(total_steps=4) as run:
        run.track(counter=Counter())
        steps = run.steps()
        next(steps)
        for action in (lambda: next(steps), lambda: run.log(x=1), lambda: inside(run).save("asked")):
            messages.said(in_a_child(action), "run/usageerror-the-run-belongs")
        messages.said(
            in_a_child(lambda: opened(total_steps=4)), "run/held-by-the-process-that-started", name="__main__"
        )
        messages.said(
            in_a_child(lambda: opened(total_steps=4)), "run/held-by-the-process-that-started", name="__main__"
        )
        for _ in steps:
            pass
    assert attempts(tmp_path)[0]["end"]["reason"] == "finished"
    assert read(run.folder / "journal.jsonl") == []


def test_two_runs_in_one_process(opened, tmp_path: Path) -> None:
    with opened("a", total_steps=4) as one, opened("b", total_steps=4, save="2 steps") as two:
        first, second = Counter(), Counter()
        one.track(counter=first)
        two.track(counter=second)
        for step, _ in zip(one.steps(), two.steps(), strict=True):
            first.value += step
            second.value -= step
            one.log(x=first.value)
            two.log(x=second.value)
    assert (read(one.folder / "journal.jsonl")[-1]["x"], read(two.folder / "journal.jsonl")[-1]["x"]) == (10, -10)
    assert let_go(tmp_path, "a")
    assert let_go(tmp_path, "b")


@pytest.mark.parametrize(
    ("leave", "reason"),
    [("sys.exit(0)", "cancelled"), ("sys.exit('no data')", "failed"), ("os._exit(0)", "lost"), ("1 / 0", "failed")],
)
def test_a_program_that_ends_in_its_first_step(leave: str, reason: str, opened, tmp_path: Path) -> None:
    def action() -> None:
        with opened(total_steps=4) as run:
            run.track(counter=Counter())
            for _ in run.steps():
                exec(leave)

    in_a_child(action)
    with opened(total_steps=4) as run:
        assert run.resumed_from is None
        count_to(run, counter := Counter())
    assert counter.value == 10
    first, second = attempts(tmp_path)
    assert first["end"]["reason"] == reason
    assert messages.is_said(first["told"], "run/nothing-had-been-saved") == (reason != "lost")
    assert messages.is_said(second["told"], "run/was-killed") == (reason == "lost")


def test_a_generator_that_is_closed_is_no_failure(opened, tmp_path: Path) -> None:
    def steps():
        with opened(total_steps=4) as run:
            run.track(counter=Counter())
            yield from run.steps()

    training = steps()
    next(training)
    training.close()
    assert attempts(tmp_path)[0]["end"]["reason"] == "cancelled"
    assert let_go(tmp_path)


def test_fewer_steps_than_are_done(opened, tmp_path: Path) -> None:
    with opened(total_steps=4) as run:
        count_to(run, Counter())
    with opened(total_steps=2) as run:
        count_to(run, counter := Counter())
        assert run.finished
    assert counter.value == 10
    (told,) = attempts(tmp_path)[1]["told"]
    messages.said([told], "run/steps-are-done", steps=4, number=2)
    assert attempts(tmp_path)[1]["end"]["step"] == 4


@pytest.mark.parametrize("kind", [ResumeRefused, UsageError, RunBusy, StateError])
def test_a_notebook_shows_a_refusal_as_one_line(kind: type[Exception]) -> None:
    assert kind("it cannot be")._render_traceback_() == [f"{kind.__name__}: it cannot be"]
    error = kind("no state")
    error.__cause__ = ZeroDivisionError("in a state_dict")  # what a script's own code raised keeps its place
    assert "ZeroDivisionError: in a state_dict" in error._render_traceback_()
