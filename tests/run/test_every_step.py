"""save="every step": a killed process loses the step that ran, and nothing that a machine can lose counts as saved."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from tests import messages, processes

import outlast
from outlast.config.units import parse_interval
from outlast.errors import SaveFailed, UsageError
from outlast.folder import durable
from outlast.folder.layout import RunFolder

SCRIPT = textwrap.dedent(
    """
    import os, signal, sys, time
    import torch, outlast

    class Rows(torch.utils.data.Dataset):
        def __len__(self): return 40
        def __getitem__(self, index): return torch.full((300,), float(index)) + torch.rand(300)

    if __name__ == "__main__":
        folder, die_at, save = sys.argv[1], int(sys.argv[2]), sys.argv[3]
        outlast.seed_everything(3)
        model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Dropout(0.5), torch.nn.Linear(300, 1))
        optimizer = torch.optim.AdamW(model.parameters())
        loader = outlast.DataLoader(Rows(), batch_size=4, num_workers=1)
        with outlast.open_run("r", total_steps=34, root=folder, save=save, progress="plain") as run:
            run.track(model=model, optimizer=optimizer, data=loader)
            for step in run.steps():
                loss = model(next(loader)).square().mean()
                loss.backward()
                while run._loop.saver._flight is not None and not run._loop.saver._flight.done:
                    time.sleep(0.001)  # steps longer than saves
                if step == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                optimizer.step()
                optimizer.zero_grad()
                run.log(loss=loss)
    """
)


def final(folder: Path) -> dict[str, bytes]:
    place = RunFolder(folder / "r")
    newest = max(place.checkpoints.glob("step-*"))
    held = {path.name: path.read_bytes() for path in newest.iterdir() if path.name != "MANIFEST.json"}
    return {**held, "journal": place.journal.read_bytes(), "step": newest.name.encode()}


def told(folder: Path) -> list[str]:
    """What the last attempt told its user."""
    last = max((folder / "r/attempts").glob("*[0-9].json"))
    sentences: list[str] = json.loads(last.read_text())["told"]
    return sentences


def attempt(tmp_path: Path, folder: str, die_at: int = 0, save: str = "every step") -> tuple[int, str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = processes.run([sys.executable, str(script), str(tmp_path / folder), str(die_at), save])
    return done.returncode, done.stderr


def test_kill_9_costs_the_step_that_ran(tmp_path: Path) -> None:
    assert attempt(tmp_path, "twin", save="never")[0] == 0
    for die_at in (5, 6, 23):
        code, shown = attempt(tmp_path, "cut", die_at)
        assert code == -signal.SIGKILL, shown
    code, shown = attempt(tmp_path, "cut")
    assert code == 0, shown
    messages.said(told(tmp_path / "cut"), "run/killed-after-a-step", step=22)
    assert final(tmp_path / "cut") == final(tmp_path / "twin")
    assert not (tmp_path / "cut/r/slots").exists()


def small(
    root: Path, steps: int, *, save: str = "every step", leave_at: int | None = None, **more: object
) -> list[int]:
    """A run in this process; left with an exception at a step, so that its slots stay."""
    weight = torch.nn.Parameter(torch.ones(30_000))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    done = []
    with outlast.open_run("r", total_steps=steps, root=root, save=save, progress="none", **more) as run:
        run.track(model=torch.nn.ParameterList([weight]), optimizer=optimizer)
        for step in run.steps():
            if (flight := run._loop.saver._flight) is not None:
                flight.future.exception()  # waits
            if step == leave_at:
                raise KeyError(step)
            done.append(step)
            weight.grad = torch.full_like(weight, step)
            optimizer.step()
            run.log(sum=weight.sum())
    return done


def killed_after(root: Path, step: int) -> Path:
    """A run with a checkpoint of step 2 and slots of later steps, the newest of this one."""
    with pytest.raises(KeyError):
        small(root, 9, save="2 steps, every step", leave_at=step + 1)
    return root / "r/slots"


def test_an_exception_costs_no_step_that_was_done(tmp_path: Path) -> None:
    killed_after(tmp_path, 5)
    assert small(tmp_path, 9) == [6, 7, 8, 9]


def test_a_slot_in_pieces_is_not_used(tmp_path: Path) -> None:
    slots = killed_after(tmp_path, 5)
    manifests = {json.loads(path.read_text())["step"]: path for path in slots.glob("*/MANIFEST.json")}
    path = manifests[5].parent / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert small(tmp_path, 9) == [5, 6, 7, 8, 9]
    messages.said(told(tmp_path), "run/slot-in-pieces", step=5, before=4)


def test_a_slot_that_cannot_be_saved_waits_for_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = killed_after(tmp_path, 5)

    def refused(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched, messages.raises(SaveFailed, "run/slot-not-adopted", step=5):
        patched.setattr(durable, "move", refused)
        small(tmp_path, 9)
    assert len(list(slots.glob("*/MANIFEST.json"))) == 2
    assert small(tmp_path, 9) == [6, 7, 8, 9]


def test_a_checkpoint_that_cannot_be_read_gives_its_place_to_a_slot(tmp_path: Path) -> None:
    killed_after(tmp_path, 5)
    damaged = tmp_path / "r/checkpoints/step-00000005"
    damaged.mkdir()
    (damaged / "MANIFEST.json").write_text("{")
    assert small(tmp_path, 9) == [6, 7, 8, 9]
    assert (tmp_path / "r/set-aside/step-00000005-1/MANIFEST.json").read_text() == "{"


def test_what_a_checkpoint_has_overtaken_is_deleted(tmp_path: Path) -> None:
    slots = killed_after(tmp_path, 5)
    kept = tmp_path / "kept"
    slots.rename(kept)
    assert small(tmp_path, 9) == [5, 6, 7, 8, 9]
    kept.rename(slots)
    assert small(tmp_path, 12) == [10, 11, 12]
    assert not slots.exists()


def test_a_slot_that_continues_another_history_is_not_used(tmp_path: Path) -> None:
    slots = killed_after(tmp_path, 5)
    kept = tmp_path / "kept"
    slots.rename(kept)
    with pytest.raises(KeyError):  # from step 4 again, and no further than it
        small(tmp_path, 9, save="1 steps", leave_at=6)
    kept.rename(slots)
    step = json.loads((slots / "0/MANIFEST.json").read_text())["step"]
    manifest = json.loads((slots / "0/MANIFEST.json").read_text())
    assert step in (3, 5)
    assert manifest["attempt"] != json.loads(max((tmp_path / "r/attempts").glob("*[0-9].json")).read_text())["id"]
    assert small(tmp_path, 9)[0] == 6


def test_a_slot_that_cannot_be_written_ends_slots_and_not_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "overwrite_file", full)
    assert small(tmp_path, 5) == [1, 2, 3, 4, 5]
    messages.said(told(tmp_path), "run/slot-not-written", step=1)
    assert messages.times_said(told(tmp_path), "run/slot-not-written", step=1) == 1


def test_it_is_for_one_process_beside_training(tmp_path: Path) -> None:
    with messages.raises(UsageError, "run/every-step-without-background"):
        small(tmp_path, 3, background=False)


def test_an_overwritten_file_that_has_another_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"theirs")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert durable.overwrite_file(tmp_path / "b", [b"ours"]).size == 4
    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert durable.overwrite_file(tmp_path / "b", [b"o", b"k"]).size == 2
    assert (tmp_path / "b").read_bytes() == b"ok"


def test_it_is_read_beside_other_intervals() -> None:
    assert parse_interval("every step") == parse_interval("auto")._replace(each_step=True)
    assert parse_interval("10m, every step") == parse_interval("10m")._replace(each_step=True)
    with pytest.raises(ValueError, match="every step"):
        parse_interval("every step, every step")
