"""Training of sign: interrupted equals uninterrupted, with plateau and early stopping; flags do what they say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import outlast
from outlast.cli import main
from outlast_recipes.common import training as common
from outlast_recipes.common.training import warmup_cosine
from outlast_recipes.sign import training as sign
from outlast_recipes.sign.config import SignConfig
from outlast_recipes.sign.evaluation import Outputs, metrics
from outlast_recipes.sign.generated import GeneratedClips, generated_data
from outlast_recipes.sign.plateau import Plateau
from tests import messages
from tests.durability.digits import final
from tests.durability.digits import train as any_train
from tests.recipes.signs import TINY


@pytest.fixture(autouse=True)
def more_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign, "SMOKE_EPOCHS", 100)


def train(root: Path, *, stop_after: int | None = None, **flags: Any) -> str:
    return any_train(root, recipe="sign", small=TINY, stop_after=stop_after, **flags)


def journal(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "sign/journal.jsonl").read_text().splitlines()]


def part(root: Path, name: str) -> Any:
    return outlast.open_saved("sign", root=root).part(name)


CASES: dict[str, dict[str, Any]] = {
    "part_conv": {},
    "transformer": {"network__name": "transformer", "network__layers": 1, "num_workers": 2},
    "iv3_gru": {
        "network__name": "iv3_gru",
        "network__hidden1": 8,
        "network__hidden2": 8,
        "optimizer": "adam",
        "monitor": "val_loss",
    },
    "plateau": {"scheduler": "plateau", "scheduler_patience": 0, "learning_rate": 0, "epochs": 4},
    "early-stop": {"early_stop": 2, "learning_rate": 0, "epochs": 6},
}


@pytest.mark.parametrize("case", CASES)
def test_interrupted_equals_uninterrupted(tmp_path: Path, case: str) -> None:
    flags = CASES[case]
    assert train(tmp_path / "twin", **flags) == "finished"
    for step in (5, 12, 18)[: 3 if "epochs" in flags else 1]:
        assert train(tmp_path / "cut", stop_after=step, **flags) == "preempted"
    assert train(tmp_path / "cut", **flags) == "finished"
    assert final(tmp_path / "cut", "sign") == final(tmp_path / "twin", "sign")
    monitor = flags.get("monitor", "val_gloss_top1")
    values = [line[monitor] for line in journal(tmp_path / "cut") if monitor in line]
    best = {"val_gloss_top1": max, "val_loss": min}[monitor](values)
    for name, key in (("choice", "value"), ("plateau", "best")):
        assert part(tmp_path / "cut", name)[key] == best
    steps = {"plateau": 24, "early-stop": 18}.get(case, 12)
    assert outlast.open_saved("sign", root=tmp_path / "cut").step == steps
    if case == "plateau":
        assert part(tmp_path / "cut", "plateau")["halvings"] == 3
    if case == "early-stop":  # it was stopped in the step that ends the run
        assert part(tmp_path / "cut", "plateau")["best_epoch"] == 1


def test_killed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"scheduler": "plateau", "scheduler_patience": 0, "save_every": "2 steps", "epochs": 3}
    assert train(tmp_path / "twin", **flags) == "finished"
    if not (child := os.fork()):
        logged = sign._log
        monkeypatch.setattr(sign, "_log", lambda run, *more, **each: (
            os._exit(9) if run.step == 15 else logged(run, *more, **each)))  # fmt: skip
        train(tmp_path / "cut", **flags)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert train(tmp_path / "cut", **flags) == "finished"
    assert len(list((tmp_path / "cut/sign/attempts").glob("[0-9]*[0-9].json"))) == 2
    assert final(tmp_path / "cut", "sign") == final(tmp_path / "twin", "sign")


def test_what_is_learnt_chosen_and_left(tmp_path: Path) -> None:
    flags = {"epochs": 25, "network__width": 32, "learning_rate": 0.003, "data__num_gloss": 8, "seed": 1}
    assert train(tmp_path, **flags) == "finished"
    lines = journal(tmp_path)
    validated = [line for line in lines if "val_gloss_top1" in line]
    assert validated[-1]["val_gloss_top1"] >= 0.7, "of eight"
    best = max(line["val_gloss_top1"] for line in validated)
    chosen = part(tmp_path, "choice")
    assert chosen["value"] == best
    assert validated[chosen["epoch"] - 1]["val_gloss_top1"] == best
    assert all(line["smoke_test"] == 1 for line in lines), "every line says what it is worth"
    for name, held in (("best", "best"), ("last", "ema")):
        file = tmp_path / f"sign/artifacts/SMOKE-TEST-PartConvFormer_{name}.safetensors"
        weights, saved = load_file(file), part(tmp_path, held)
        assert weights.keys() == saved.keys()
        assert all(torch.equal(weights[key], torch.as_tensor(saved[key])) for key in weights)
        about = json.loads(file.read_bytes()[8:].partition(b"}")[0] + b"}}")["__metadata__"]
        assert [*about] == ["format", "generated", "model", "step"], "equal weights are equal files"
    before = file.with_name(f"{file.name}.manifest.json").read_bytes()
    assert train(tmp_path, **flags) == "finished"
    assert file.with_name(f"{file.name}.manifest.json").read_bytes() == before, "nothing was left to train"


OPTIONS = {
    "batch_size": "6", "learning_rate": "0.01", "seed": "7", "optimizer": "adam", "weight_decay": "0.9",
    "grad_clip": "0.01", "scheduler": "constant", "warmup": "0.9", "alpha": "0.1", "beta": "0.9",
    "label_smoothing": "0.5", "ema": "0", "network.dropout": "0", "network.drop_path": "0.5",
    "data.num_gloss": "9", "data.num_cat": "4",
}  # fmt: skip


def test_every_option_changes_the_result(tmp_path: Path) -> None:
    """Those of a network are in test_sign_networks.py, those of data in the tests of data."""
    from outlast.config import leaves

    common = {leaf.key for leaf in leaves(outlast.SupervisedConfig)}
    own = {leaf.key for leaf in leaves(SignConfig)} - common
    elsewhere = {"scheduler_patience", "monitor", "early_stop", "pin_memory", "prefetch_factor", "frames_at_once"}
    apart = {key for key in own if key.startswith(("data.", "augment.", "network."))}
    assert own - apart - elsewhere <= set(OPTIONS)
    train(tmp_path / "usual", stop_after=4)
    usual = final(tmp_path / "usual", "sign")
    for key, value in OPTIONS.items():
        assert train(tmp_path / key, stop_after=4, **{key: value}) == "preempted"
        changed = final(tmp_path / key, "sign")
        name = "ema.safetensors" if key == "ema" else "model.safetensors"
        assert changed[name] != usual[name], key


def test_learning_rates() -> None:
    config = SignConfig(warmup=0.2)
    assert [sign.rate_at(config, step, 10, 0) for step in (1, 2, 6, 10)] == [
        warmup_cosine(step, 10, 0.2) for step in (1, 2, 6, 10)
    ]
    plateau = SignConfig(scheduler="plateau", warmup=0.2)
    assert [sign.rate_at(plateau, step, 10, halvings) for step, halvings in ((1, 0), (2, 0), (9, 0), (9, 2))] == [
        0.5, 1.0, 1.0, 0.25,
    ]  # fmt: skip
    constant = SignConfig(scheduler="constant", warmup=0.2)
    assert [sign.rate_at(constant, step, 10, 3) for step in (1, 9)] == [0.5, 1.0]


def test_a_plateau_is_counted_as_torch_does() -> None:
    values = [0.1, 0.3, 0.3, 0.2, 0.1, 0.3, 0.31, 0.1, 0.1, 0.1]
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0), "max", factor=0.5, patience=1, threshold=0
    )
    ours = Plateau()
    for epoch, value in enumerate(values, 1):
        theirs.step(value)
        ours.update(epoch, value, 1)
        assert 0.5**ours.halvings == theirs.get_last_lr()[0]
    assert (ours.best, ours.best_epoch, ours.halvings) == (0.31, 7, 3)
    assert [ours.is_over(stop) for stop in (2, 3, 4, None)] == [True, True, False, False]
    fewer = Plateau("min")
    for epoch, value in enumerate((0.3, 0.3, 0.2, 0.4), 1):
        fewer.update(epoch, value, 0)
    assert (fewer.best, fewer.best_epoch, fewer.halvings) == (0.2, 3, 2)
    other = Plateau()
    other.load_state_dict(json.loads(json.dumps(ours.state_dict())))
    assert vars(other) == vars(ours)


def test_metrics_by_occlusion() -> None:
    gloss = torch.tensor([0, 1, 2, 3])
    outputs = Outputs(
        torch.eye(8)[[0, 1, 0, 7]] - 0.01 * torch.arange(8), torch.eye(2)[[0, 0, 0, 1]], gloss, gloss // 2,
        torch.tensor([True, False, False, True]), gloss,
    )  # fmt: skip
    found = metrics(outputs, "val_")
    assert {key: value for key, value in found.items() if key != "val_loss"} == {
        "val_gloss_top1": 0.5, "val_gloss_top5": 1.0, "val_category": 0.75, "val_gloss_top1_occluded": 0.5,
        "val_gloss_top1_not_occluded": 0.5,
    }  # fmt: skip
    assert "gloss_top1_occluded" not in metrics(outputs[outputs.occluded])


# what is said and refused -------------------------------------------------------------------------------------------


def test_a_smoke_test_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sign, "SMOKE_EPOCHS", 2)
    of_this_cpu(monkeypatch, bfloat16=False)
    monkeypatch.chdir(tmp_path)
    words = ["--model", "transformer", "--smoke-test", "--num-gloss", "6", "--num-cat", "3", "--network.width", "16"]
    assert main(["train", "sign", *words, "--network.layers", "1", "--amp", "--pin-memory", "-b", "6"]) == 0
    out = capsys.readouterr()
    for key in ("sign/smoke-test", "sign/smoke-epochs", "sign/amp-on-a-cpu", "sign/pin-memory-on-a-cpu"):
        messages.said(out.out + out.err, key)
    assert outlast.open_saved("sign", root=tmp_path / "runs").step == 4, "two epochs"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    capsys.readouterr()
    assert main(["evaluate", "sign", "sign", "--on", "val", "--part", "best"]) == 0
    assert "smoke test" in capsys.readouterr().out.splitlines()[0]
    report = json.loads((tmp_path / "runs/sign/artifacts/SMOKE-TEST-evaluation-4-best-val/report.json").read_text())
    assert report["generated"] is True
    assert report["all"]["clips"] == 6
    assert report["occluded"]["clips"] + report["not occluded"]["clips"] == 6
    assert report["all"]["category"] >= 0
    assert sum(map(sum, report["confusion"])) == 6
    assert main(["evaluate", "sign", "sign"]) == 2
    messages.said(capsys.readouterr().err, "sign/no-clips-of-that-subset", on="test")


def of_this_cpu(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool) -> None:
    """Let the CPU compute in bfloat16, or not; torch can on any."""
    for module in (common, sign):
        monkeypatch.setattr(module, "has_bfloat16", lambda _: bfloat16)


@pytest.mark.parametrize(
    ("found", "fast"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, False),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": False, "cpu_name": "AMD EPYC"}, False),
        ({}, False),
    ],
)
def test_which_cpus_are_faster_in_bfloat16(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], fast: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert common.has_bfloat16(torch.device("cpu")) is fast


@pytest.mark.parametrize("name", ["part_conv", "transformer", "iv3_gru"])
def test_bfloat16_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    flags = {"network__name": name, "network__layers": 1, "network__hidden1": 8, "network__hidden2": 8}
    flags["mixed_precision"] = True
    of_this_cpu(monkeypatch, bfloat16=False)
    assert train(tmp_path / "float32", stop_after=5, **flags) == "preempted"
    of_this_cpu(monkeypatch, bfloat16=True)
    assert sign.idle_options(SignConfig(mixed_precision=True), torch.device("cpu")) == []
    assert train(tmp_path / "cut", stop_after=5, **flags) == "preempted"
    wide, narrow = (part(tmp_path / root, "model") for root in ("float32", "cut"))
    away = max(float((wide[key] - narrow[key]).abs().max()) for key in wide if wide[key].is_floating_point())
    assert 0 < away < 0.01, "another precision, and nearly the same weights"
    assert all(each.dtype != torch.bfloat16 for each in narrow.values())
    assert train(tmp_path / "cut", **flags) == "finished"
    assert train(tmp_path / "twin", **flags) == "finished"
    assert final(tmp_path / "cut", "sign") == final(tmp_path / "twin", "sign")


def test_prefetch_without_workers_says_so() -> None:
    config = SignConfig(prefetch_factor=3, num_workers=0)
    messages.said(sign.idle_options(config, torch.device("cpu")), "sign/prefetch-without-workers")
    assert sign.idle_options(SignConfig(prefetch_factor=3, num_workers=1), torch.device("cpu")) == []


def test_values_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = SignConfig(data={"smoke_test": True, "num_gloss": 6, "num_cat": 3})
    with messages.raises(outlast.ConfigError, "sign/pretrained-backbone"):
        sign.check(small.model_copy(update={"network": small.network.model_copy(update={"pretrained_backbone": True})}))
    with messages.raises(outlast.ConfigError, "sign/more-categories-than-glosses", cat=7, gloss=6):
        sign.check(SignConfig(data={"smoke_test": True, "num_gloss": 6, "num_cat": 7}))
    data = generated_data(small)
    nothing = GeneratedClips(0, [], 0, 3, features=False)
    without = type(data)(**{**vars(data), "parts": {**data.parts, "val": nothing}})
    monkeypatch.setattr(sign, "load_data", lambda _config: without)
    for flag, changed in (("--scheduler plateau", {"scheduler": "plateau"}), ("--early-stop", {"early_stop": 3})):
        with messages.raises(outlast.ConfigError, "sign/no-validation-clips", flag=flag):
            sign.check(small.model_copy(update=changed))


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "form"),
    [("part_conv", "onnx"), pytest.param("iv3_gru", "onnx", marks=pytest.mark.slow), ("transformer", "pt2")],
)
def test_an_export_gives_the_same_at_other_lengths(
    tmp_path: Path, case: str, form: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outlast_recipes.sign import part_conv
    from outlast_recipes.sign.export import example
    from outlast_recipes.sign.saved import restored

    # One block of each kind: eight blocks take torch's exporter three times as long.
    monkeypatch.setattr(part_conv, "KERNELS", part_conv.KERNELS[:1])
    monkeypatch.setattr(part_conv, "CONVOLUTIONS", 1)
    assert train(tmp_path, stop_after=2, **CASES[case]) == "preempted"
    target = tmp_path / f"model.{form}"
    assert main(["export", str(tmp_path / "sign"), "--format", form, "-o", str(target)]) == 0
    network, _ = restored(outlast.open_saved("sign", root=tmp_path))
    inputs = example(network, (61, 2, 8, 35))
    with torch.no_grad():
        expected = network(*inputs)
    if form == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(target, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        assert [each.name for each in session.get_outputs()] == ["gloss", "category"]
    else:
        found = torch.export.load(target).module()(*inputs)
    for given, wanted in zip(found, expected, strict=True):
        assert (torch.as_tensor(given) - wanted).abs().max() <= 1e-4
