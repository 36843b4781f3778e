"""`outlast prove`: says that a training survives its interruptions, or what it loses."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests import messages, processes
from tests.integrations import twins

from outlast.cli import main
from outlast.errors import UsageError
from outlast.integrations import prove
from outlast.run import witness
from outlast.run.parts import Parts

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples/lost_state.py"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("OUTLAST_RUN", "OUTLAST_ROOT", "OUTLAST_BUDGET", "OUTLAST_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts are run in forks of a process that has imported what they import."""
    monkeypatch.setattr(prove, "run_process", processes.run_into)


def lines_of(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().out.splitlines()


def proved(*words: object, flags: Sequence[str] = ("--steps", "24", "--kills", "1")) -> int:
    return main(["prove", *flags, "--", sys.executable, *map(str, words)])


FAULTS = [
    ("scheduler", "scheduler not tracked", "prove/cause-scheduler", "prove/differs-scheduler"),
    ("ema", "EMA not tracked", "prove/cause-ema", "prove/differs-ema"),
    ("generator", "generator", "prove/cause-generator", "prove/differs-generator"),
    ("data", "data order", "prove/cause-data", "prove/differs-data"),
    ("part", "part not restored", "prove/cause-part", "prove/differs-part"),
    ("kernel", "nondeterministic kernel", "prove/cause-kernel", "prove/differs-kernel"),
    ("threads", "another number of threads", "prove/cause-threads", "prove/differs-threads"),
    ("seed", "generator", "prove/cause-seed", "prove/differs-seed"),
]


SCRIPT = """
import itertools
import numpy as np, outlast
class Part:
    def __init__(self, **values): self.__dict__.update(values)
    def state_dict(self): return dict(vars(self))
    def load_state_dict(self, state): self.__dict__.update(state)
class Hook:
    def __init__(self): self.count, self.generator = 0, np.random.default_rng(0)
def counter():
    count = 0
    def add():
        nonlocal count
        count += 1
        return count
    return add
def endless(generator):
    while True:
        yield generator.permutation(256)[:16]
outlast.seed_everything(0)
inputs, model, sampler = np.random.rand(256, 8), Part(weights=np.zeros(8)), outlast.BatchSampler(256, 16)
hooks, named, counting, hidden = [Hook()], {"a": (Hook(),)}, counter(), itertools.count(1)
rows = endless(np.random.RandomState(3))
count = epoch = best_average = average_loss = averaged = 0
swap_factor = 1.0
with outlast.open_run("t", total_steps=1000, progress="none") as run:
    run.track(model=model, sampler=sampler)
    for _ in run.steps():
        x = inputs[next(ROWS)]
        gradient = ((x @ model.weights - 1)[:, None] * x).mean(0)
        CHANGE
        model.weights = model.weights - 0.1 * gradient
        run.log(loss=float(((x @ model.weights - 1) ** 2).mean()))
"""
LOST = [  # what a script loses, and what outlast says; an attempt that is resumed begins each of them anew
    ("count += 1; gradient /= count", "sampler", "state not tracked", "`count` (int)"),
    ("epoch += 1; gradient /= epoch", "sampler", "state not tracked", "`epoch` (int)"),
    ("swap_factor *= 0.9; gradient *= swap_factor", "sampler", "state not tracked", "`swap_factor` (float)"),
    ("hooks[0].count += 1; gradient /= hooks[0].count", "sampler", "state not tracked", "`hooks[0].count` (int)"),
    (
        "named['a'][0].count += 1; gradient /= named['a'][0].count",
        "sampler",
        "state not tracked",
        "`named['a'][0].count`",
    ),
    ("gradient /= counting()", "sampler", "state not tracked", "`counting.count` (int)"),
    ("gradient /= next(hidden)", "sampler", "state not tracked", "although `sampler` went on where it was"),
    ("gradient *= hooks[0].generator.random()", "sampler", "generator", "`hooks[0].generator` (Generator)"),
    # What is lost and changes nothing is not to blame.
    ("best_average += 1; gradient *= hooks[0].generator.random()", "sampler", "generator", "`hooks[0].generator`"),
    ("average_loss += 1", "rows", "data order", "`x` was different"),
    ("pass", "rows", "data order", "`x` was different"),  # although a loader is tracked
    ("averaged += 1", "rows", "data order", "`x` was different"),
    ("[next(sampler) for _ in range(next(hidden) % 7)]", "sampler", "data order", "1 after the resume"),
    ("average_loss += 1; count += 1; gradient /= count", "sampler", "state not tracked", "`count` (int)"),
    (
        "average_loss += 1; gradient /= next(hidden)",
        "sampler",
        "state not tracked",
        "`average_loss` (int)",
    ),  # all that is seen
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("change", "rows", "name", "seen"), LOST)
def test_what_is_lost_is_found_where_it_is(
    change: str, rows: str, name: str, seen: str, capfd: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "train.py").write_text(SCRIPT.replace("ROWS", rows).replace("CHANGE", change))
    assert proved("train.py") == 1
    _, cause, *_ = lines_of(capfd)
    assert cause.startswith(f"cause: {name}. ")
    assert seen in cause


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("fault", "name", "why", "where"), FAULTS, ids=[fault for fault, *_ in FAULTS])
def test_a_cause_is_named(
    fault: str, name: str, why: str, where: str, capfd: pytest.CaptureFixture[str], here: Path
) -> None:
    assert proved(EXAMPLE, fault) == 1
    first, cause, *_ = lines_of(capfd)
    assert cause.startswith(f"cause: {name}. ")
    messages.said([cause], why)
    messages.said([first], where)
    assert not list(here.iterdir())


def test_identical(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In processes of their own, ended in all three ways."""
    folder = tmp_path / "proof"
    assert proved(EXAMPLE, "nothing", flags=("--steps", "60", "--folder", str(folder))) == 0
    said, compared = lines_of(capfd)
    messages.said([said], "prove/identical")
    messages.said([compared], "prove/compared")
    first, killed, *rest = (witness_starts(path) for path in sorted(folder.glob("interrupted-*.jsonl")))
    assert (first, rest) == (0, [49, 55])
    assert 0 < killed <= 25


@pytest.mark.usefixtures("quick")
def test_without_a_resume_nothing_is_proved(
    capfd: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill comes before the first checkpoint, so the second process begins again and ends as the twin."""
    monkeypatch.setattr(prove, "_moments", lambda *_: [(1, "kill", 0.0)])
    (here / "short.py").write_text(SHORT)
    assert proved("short.py", 12, "one") == 2
    said, error = capfd.readouterr()
    messages.said([line for line in error.splitlines() if line.startswith("error:")], "prove/nothing-resumed")
    assert "identical" not in said


def witness_starts(path: Path) -> int:
    """The step before the first one of a process."""
    return int(path.read_text().partition('"step": ')[2].partition(",")[0])


SHORT = """
import outlast, random, sys, time
random.seed()  # not seeded, and not used either
for name in sys.argv[2:]:
    with outlast.open_run(name, total_steps=int(sys.argv[1]), root="mine", progress="none") as run:
        state = run.restore({"a": 1.0})
        for step in run.steps():
            state = {"a": state["a"] * 1.5}
            run.offer(state, a=state["a"], seconds=time.perf_counter())
    open("done", "w").close()
"""


@pytest.mark.usefixtures("quick")
def test_metrics_that_never_repeat_are_not_compared(capfd: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "short.py").write_text(SHORT)
    assert proved("short.py", 12, "one") == 0
    first, *_, last = lines_of(capfd)
    messages.said([last], "prove/not-compared", names="seconds")
    assert not (here / "mine").exists()  # the script's own runs are not touched
    assert not (here / "done").exists()  # the last step is not made, so the run is not finished
    assert first.startswith("identical: 11 steps of one; ")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((12,), 2, messages.says("prove/no-run")),
        ((1, "one", "two"), 2, messages.says("prove/two-runs")),
        ((1, "one"), 2, messages.says("prove/too-few", steps=1)),
        (("none", "one"), 1, messages.says("prove/failed")),
    ],
)
def test_what_cannot_be_proved(
    words: tuple[object, ...], code: int, message: messages.Message, capfd: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "short.py").write_text(SHORT)
    assert proved("short.py", *words) == code
    said = capfd.readouterr().err
    messages.said([next(line for line in said.splitlines() if line.startswith("error:"))], message)
    assert ("ValueError: invalid literal" in said) == (code == 1)  # what the command has printed


def test_a_recipe(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags of the recipe go on to it, and it is told where its run folder is."""
    asked: list[prove.Asked] = []

    def look(given: prove.Asked) -> prove.Verdict:
        asked.append(given)
        return prove.Verdict(True, ("identical",))

    monkeypatch.setattr(prove, "prove", look)
    assert main(["prove", "digits", "--steps", "30", "--seed", "4", "--kills", "2"]) == 0
    assert asked[0].argv[:7] == (sys.executable, "-m", "outlast", "train", "digits", "--seed", "4")
    assert (asked[0].steps, asked[0].kills) == (30, 2)
    assert asked[0].argv[7:] == ("--checkpoint-dir", str(asked[0].place / "unused"))
    assert lines_of(capfd) == ["identical"]


PLAIN = """
import os, random, sys, time
fault, path = sys.argv[1], "out/state"
if fault == "late": time.sleep(0.2)
order, start, value = random.Random(0), 0, 1.0
if os.path.exists(path):
    start, value = int(open(path).read().split()[0]), float(open(path).read().split()[1])
for step in range(start, 12):
    if fault != "order":
        order = random.Random(step)
    value = value * 0.9 + order.random() + (random.random() if fault == "seed" else 0.0)
    time.sleep(0.06)
    if fault != "late" or step == 11:
        os.makedirs("out", exist_ok=True)
        open("out/part", "w").write(f"{step + 1} {value!r}")
        os.replace("out/part", path)
open("out/end", "w").write(str(time.time()) if fault == "time" else "end")
sys.exit(3 if fault == "fails" else 0)
"""


@pytest.mark.parametrize(
    ("fault", "code", "key"),
    [
        pytest.param("nothing", 0, "prove/files-identical", marks=pytest.mark.slow),
        ("order", 1, "prove/files-order"),
        pytest.param("seed", 1, "prove/files-seed", marks=pytest.mark.slow),
        pytest.param("time", 1, "prove/files-seed", marks=pytest.mark.slow),
        ("late", 2, "prove/files-late"),
        ("fails", 1, "prove/files-fail"),
        ("elsewhere", 2, "prove/files-none"),
    ],
)
def test_a_command_without_outlast(
    fault: str, code: int, key: str, capfd: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "plain.py").write_text(PLAIN)
    (here / "out").mkdir()
    (here / "out/mine").write_text("mine")
    keep = "other" if fault == "elsewhere" else "out/[se]*"
    assert proved("plain.py", fault, flags=("--kills", "2", "--keep", keep)) == code
    out, err = capfd.readouterr()
    text = out if code == 0 or key in ("prove/files-order", "prove/files-seed") else err
    lines = [line for line in text.splitlines() if line.startswith(("cause:", "error:", "compared"))]
    messages.said([lines[-1]], key)
    assert [path.name for path in (here / "out").iterdir()] == ["mine"]
    assert sorted(path.name for path in here.iterdir()) == ["out", "plain.py"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), messages.says("prove/no-command")),
        (("--", "no-such-program"), messages.says("integrations/no-program", program="no-such-program")),
        (("--kills", "0", "--", "true"), messages.says("prove/kills", number=0)),
        (("--folder", ".", "--", "true"), messages.says("prove/folder", folder=".")),
    ],
)
def test_usage(
    words: tuple[str, ...], message: messages.Message, capfd: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "there").write_text("")
    assert main(["prove", *words]) == 2
    messages.said(capfd.readouterr().err, message)


def test_a_variable_that_is_no_plan() -> None:
    with messages.raises(UsageError, "prove/no-plan"):
        witness.read_plan({"OUTLAST_PROVE": "yes"})
    assert witness.read_plan({}) is None
    plan = witness.Plan("root", "record", 5, save="2 steps", end=3, how="kill", delay=0.5)
    assert witness.read_plan({"OUTLAST_PROVE": plan.as_text()}) == plan


def test_several_ranks_are_refused() -> None:
    attempt: Any = SimpleNamespace(ranks=SimpleNamespace(several=True, count=2))
    with messages.raises(UsageError, "prove/ranks", count=2):
        witness.Witness(witness.Plan("root", "record", 5), attempt, Parts(None))


def test_looking_at_a_training_does_not_draw(tmp_path: Path) -> None:
    class Draws:
        def state_dict(self) -> dict[str, float]:
            return {"drawn": np.random.rand()}

        def load_state_dict(self, _: object) -> None: ...

    drawing, huge, small = Draws(), list(range(20_000)), {"here": np.zeros(3)}
    attempt: Any = SimpleNamespace(ranks=SimpleNamespace(several=False), id="x", session=None)
    plan = witness.Plan("root", str(tmp_path / "record"), 5)
    np.random.seed(0)
    witness.Witness(plan, attempt, Parts(None)).begin(0, None)
    assert np.random.rand() == np.random.RandomState(0).rand()
    others = json.loads((tmp_path / "record").read_text())["others"]
    assert others["drawing"][:2] == ["object", type(drawing).__qualname__]
    assert others["small"][0] == "arrays"
    assert "huge" not in others, len(huge) + len(small)


TORCH = """
import sys, torch, outlast
fault = sys.argv[1]
outlast.seed_everything(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
average = torch.optim.swa_utils.AveragedModel(model)
dataset = torch.utils.data.TensorDataset(torch.randn(64, 8), torch.randn(64, 1))
loader = (torch.utils.data if fault == "data" else outlast).DataLoader(dataset, batch_size=8, shuffle=True)
parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "average": average, "data": loader}
parts.pop(fault, None)
def endless():
    while True:
        yield from loader
batches = endless() if fault == "data" else loader
with outlast.open_run("torch", total_steps=1000, progress="none") as run:
    run.track(**parts)
    for _ in run.steps():
        x, y = next(batches)
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        average.update_parameters(model)
        run.log(loss=loss)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("nothing", None),
        ("scheduler", "scheduler not tracked"),
        ("average", "EMA not tracked"),
        ("data", "data order"),
    ],
)
def test_torch(fault: str, cause: str | None, capfd: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "train.py").write_text(TORCH)
    code = proved("train.py", fault, flags=("--steps", "50"))
    lines = lines_of(capfd)
    assert code == (cause is not None), lines
    assert cause is None or lines[1].startswith(f"cause: {cause}. "), lines


KERAS = """
import numpy as np, keras, outlast
from outlast.integrations.keras import Batches, OutlastCallback
class Warm(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count = 0
    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1
        self.model.optimizer.learning_rate.assign(0.1 / self.count)
outlast.seed_everything(0)
x = np.random.rand(256, 4).astype("float32")
data = Batches(x, x.sum(1, keepdims=True), batch_size=16)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse")
callbacks = [Warm()]
with outlast.open_run("keras", progress="none") as run:
    model.fit(data, epochs=4, shuffle=False, verbose=0, callbacks=[*LIST, OutlastCallback(run, data)])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "seen"),
    [("callbacks", "`callbacks[0].count` (int) is not tracked"), ("[Warm()]", "although `data` went on where it was")],
)
def test_what_a_callback_counts(
    given: str, seen: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    twins.need("keras", "torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    (here / "train.py").write_text(KERAS.replace("LIST", given))
    assert proved("train.py") == 1
    _, cause, *_ = lines_of(capfd)
    assert cause.startswith("cause: state not tracked. ")
    assert seen in cause
