"""Chains of runs: a tiny recipe of two stages, of which the second is trained on what the first has reached."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import messages

import outlast
from outlast import cli
from outlast.checkpoint import read_manifest
from outlast.checkpoint.listing import steps_in as found_in
from outlast.environment import Environment, Limits
from outlast.errors import SessionEnded, UnknownName, UsageError
from outlast.recipe import belonging, prepare, stages, surroundings
from outlast.recipe.registry import find
from outlast.report.chain import chain_named

PAIR = str(Path(__file__).parent / "pair")


def train(*flags: str, root: str = "runs") -> int:
    return cli.main(["train", PAIR, "--device", "cpu", "--checkpoint-dir", root, *flags])


def run_of(stage: str, root: str = "runs") -> Path:
    return Path(root) / f"pair.{stage}"


def newest(stage: str, root: str = "runs") -> Path:
    return max((run_of(stage, root) / "checkpoints").glob("step-*"))


def steps_in(place: Path) -> list[int]:
    return sorted(found_in(place))


def digest(stage: str, step: int, root: str = "runs") -> str:
    return read_manifest(run_of(stage, root) / f"checkpoints/step-{step:08d}").digest


def final(root: str) -> dict[str, bytes]:
    """What both stages leave: newest checkpoint and journal, byte for byte."""
    found = {}
    for stage in ("mean", "walk"):
        files = [path for path in newest(stage, root).iterdir() if path.name != "MANIFEST.json"]
        found |= {f"{stage}/{path.name}": path.read_bytes() for path in [*files, run_of(stage, root) / "journal.jsonl"]}
    return found


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def about(stage: str, root: str = "runs") -> dict:
    return json.loads((run_of(stage, root) / "run.json").read_text())


def told(stage: str, root: str = "runs") -> str:
    return "\n".join(json.loads(max((run_of(stage, root) / "attempts").glob("*.json")).read_text())["told"])


def test_interrupted_in_both_stages_it_ends_as_if_it_had_not_been(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(root="twin") == 0
    assert train("--stop-at", "mean:2") == 75
    assert not run_of("walk").exists()
    assert train("--stop-at", "walk:4") == 75
    first = everything(run_of("mean"))
    capsys.readouterr()
    assert train() == 0
    assert everything(run_of("mean")) == first, "the next attempt does not touch the first stage"
    assert final("runs") == final("twin")
    messages.said(capsys.readouterr().out, "recipe/chain", words="pair: ", mean=6, walk=6)
    walk = everything(run_of("walk"))
    assert train() == 0
    assert everything(run_of("walk")) == walk, "all is finished"


def test_the_input_is_on_record_by_its_digest() -> None:
    assert train() == 0
    assert about("walk")["inputs"] == {"mean": {"run": "pair.mean", "step": 6, "digest": digest("mean", 6)}}
    assert about("walk")["chain"] == {"name": "pair", "stage": "walk", "stages": ["mean", "walk"]}
    assert about("mean")["inputs"] == {}


def test_an_input_that_a_stage_has_got_since_is_on_record_too() -> None:
    assert train("--stop-at", "walk:2") == 75
    whole = about("walk")
    (run_of("walk") / "run.json").write_text(json.dumps(whole | {"inputs": {}}))  # before the recipe named one
    assert train() == 0
    assert about("walk")["inputs"] == whole["inputs"]


def test_a_first_stage_that_was_trained_again_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2") == 75
    before, walk = digest("mean", 6), everything(run_of("walk"))
    run_of("mean").rename("away")
    assert train("--stage", "mean", "--seed", "7") == 0
    capsys.readouterr()
    assert train() == 1
    said = capsys.readouterr().err
    messages.said(said, "recipe/step-of-pair-mean", before=before[:12], digest=digest("mean", 6)[:12], step=6)
    assert everything(run_of("walk")) == walk, "nothing was written"
    shutil.rmtree(run_of("mean"))
    shutil.move("away", run_of("mean"))
    assert train() == 0


def test_what_a_later_stage_refuses_is_known_before_the_first_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2") == 75
    run_of("mean").rename("away")
    walk = everything(run_of("walk"))
    capsys.readouterr()
    assert train("--seed", "7") == 1
    assert "seed" in capsys.readouterr().err
    assert not run_of("mean").exists()
    assert everything(run_of("walk")) == walk


def test_a_first_stage_that_continued_is_reported_while_the_checkpoint_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--stop-at", "walk:2") == 75
    before = digest("mean", 6)
    assert train("--stage", "mean", "--steps", "8") == 0
    assert train("--stop-at", "walk:4") == 75
    messages.said(
        told("walk"), "recipe/stage-has-trained-further", step=8, digest=digest("mean", 8)[:12], before=before[:12]
    )
    assert about("walk")["inputs"]["mean"]["digest"] == before
    assert train("--stage", "mean", "--steps", "9", "--keep-last", "1") == 0
    shutil.rmtree(run_of("mean") / "checkpoints/step-00000006")
    capsys.readouterr()
    assert train() == 1
    messages.said(capsys.readouterr().err, "recipe/checkpoint-is-not-in-any", path="runs/pair.mean")


def test_a_first_stage_that_continued_keeps_what_the_second_was_begun_with() -> None:
    assert train(root="twin") == 0
    assert train("--stop-at", "walk:2") == 75
    assert train("--stage", "mean", "--steps", "12", "--save-every", "1 step", "--keep-last", "1") == 0
    assert steps_in(run_of("mean") / "checkpoints") == [1, 6, 12], "step 1 is the best"
    assert train("--stage", "walk") == 0
    walk = final("runs")
    assert {name: walk[name] for name in walk if "walk" in name} == {
        name: data for name, data in final("twin").items() if "walk" in name
    }
    shutil.rmtree(run_of("walk"))
    assert train("--stage", "mean", "--steps", "13", "--keep-last", "1") == 0
    assert steps_in(run_of("mean") / "checkpoints") == [1, 13], "nobody needs step 6 any more"


@pytest.mark.parametrize("name", ["../../x", "a/b", ""])
def test_a_chain_whose_name_is_no_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2") == 75
    whole = about("walk")
    (run_of("walk") / "run.json").write_text(json.dumps(whole | {"chain": whole["chain"] | {"name": name}}))
    capsys.readouterr()
    assert train("--stage", "walk") == 1
    messages.said(
        capsys.readouterr().err, "recipe/chain-name-is-no-name", path="runs/pair.walk/run.json", found=repr(name)
    )


def test_a_stage_that_its_own_list_lacks_is_not_of_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2") == 75
    run_of("mean").rename("away")
    whole = about("walk")
    (run_of("walk") / "run.json").write_text(json.dumps(whole | {"chain": whole["chain"] | {"stages": ["mean"]}}))
    assert chain_named(Path("runs"), "pair") == []
    assert cli.main(["status", "pair"]) == cli.main(["resume", "pair"]) == 2
    assert cli.main(["status", "pair.walk"]) == 0


@pytest.mark.parametrize("begun", [False, True])
def test_a_missing_input_is_refused_with_a_message(begun: bool, capsys: pytest.CaptureFixture[str]) -> None:
    if begun:
        assert train("--stop-at", "mean:2") == 75
        capsys.readouterr()
    assert train("--stage", "walk") == 2
    said = capsys.readouterr().err
    messages.said(
        said,
        "recipe/is-outlast-train-stage-mean",
        value="interrupted at step 2 of 6" if begun else "not begun",
        path="runs/pair.mean",
        PAIR=PAIR,
    )
    assert not run_of("walk").exists()


def test_a_damaged_input_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2") == 75
    (newest("mean") / "model.safetensors").write_bytes(b"damaged")
    attempts = sorted((run_of("walk") / "attempts").iterdir())
    assert train() == 1
    messages.said(
        capsys.readouterr().err,
        "recipe/has-bytes",
        path="pair.mean/checkpoints/step-00000006/model.safetensors",
        bytes=7,
    )
    assert sorted((run_of("walk") / "attempts").iterdir()) == attempts


def test_on_another_machine_both_runs_are_copied_from_attached_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Kaggle: the output of the session before is attached, and the next session's own output must hold all of it
    again."""
    assert train(root="twin") == 0
    assert train("--stop-at", "mean:3", root="attached/one/working/runs") == 75

    def machine(attached: str) -> Environment:
        return Environment("local", Limits(seconds=None, ram=2**34, cores=2), inputs=(Path(attached),))

    monkeypatch.setattr(surroundings, "detect", lambda _: machine("attached/one"))
    assert train("--stop-at", "walk:3", root="attached/two/working/runs") == 75
    monkeypatch.setattr(surroundings, "detect", lambda _: machine("attached/two"))
    assert train() == 0
    assert final("runs") == final("twin")
    attempts = [json.loads(path.read_text()) for path in sorted((run_of("walk") / "attempts").glob("*.json"))]
    assert [attempt.get("resume", {}).get("step") for attempt in attempts] == [None, 3]
    assert len(list((run_of("mean") / "attempts").glob("*.json"))) == 2


def test_status_and_resume_take_the_name_of_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2") == 75
    messages.said(capsys.readouterr().out, "recipe/next-resume", run="pair")
    assert cli.main(["status", "pair"]) == 0
    out = capsys.readouterr().out
    messages.said(out, "recipe/stages-mean-finished-at-step-walk", step=6, path="2/6")
    messages.said(out, "recipe/trained-on-mean-step-of-pair", digest=digest("mean", 6)[:12], step=6)
    messages.said(out, "recipe/go-on-with", run="pair", recipe=PAIR)
    assert cli.main(["status", "pair.mean", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == "pair.mean"
    assert [(link["stage"], link["status"], link["step"], link["total_steps"]) for link in found["chain"]] == [
        ("mean", "finished", 6, 6), ("walk", "interrupted", 2, 6),
    ]  # fmt: skip
    assert cli.main(["resume", "pair", "--recipe", PAIR, "--device", "cpu", "--stop-at", "walk:4"]) == 75
    assert cli.main(["resume", "pair.walk", "--recipe", PAIR, "--device", "cpu"]) == 0
    assert cli.main(["status", "pair"]) == 0
    messages.said(capsys.readouterr().out, "recipe/chain", words="stages: ", mean=6, walk=6)


def test_verbs_about_a_run_take_the_name_of_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    """All stages are listed and verified; what is made is made of the stage under way, or the last."""
    assert train("--stop-at", "walk:2") == 75
    capsys.readouterr()
    for verb in ("checkpoints", "verify"):
        assert cli.main([verb, "pair"]) == 0
        assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("pair")] == [
            "pair.mean:", "pair.walk:",
        ]  # fmt: skip
    assert cli.main(["checkpoints", "pair", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(row["run"], row["step"]) for row in rows} >= {("pair.mean", 6), ("pair.walk", 2)}
    damaged = newest("mean") / "state.json"
    damaged.write_bytes(damaged.read_bytes() + b" ")
    assert cli.main(["verify", "pair"]) == cli.main(["checkpoints", "pair"]) == 1
    assert cli.main(["archive", "pair", "--recipe", PAIR]) == 0
    assert Path("pair.walk_outputs.zip").is_file()
    assert cli.main(["export", "pair", "--recipe", PAIR]) == 0
    assert [path.name.partition("-")[0] for path in Path().glob("*.safetensors")] == ["pair.walk"]


def test_another_name_is_another_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--experiment-name", "other", "--stop-at", "walk:2") == 75
    assert sorted(path.name for path in Path("runs").iterdir()) == ["other.mean", "other.walk"]
    messages.said(capsys.readouterr().out, "recipe/next-resume", run="other")
    assert cli.main(["resume", "other", "--recipe", PAIR]) == 0


def test_a_run_that_began_from_a_stage_keeps_its_input() -> None:
    assert train("--stop-at", "walk:2") == 75
    assert train("--resume", str(newest("walk")), "--experiment-name", "fork") == 0
    fork = json.loads(Path("runs/fork/run.json").read_text())
    assert fork["inputs"] == about("walk")["inputs"]
    assert fork["parent"]["run"] == "pair.walk"


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--dry-run") == 0
    messages.said(capsys.readouterr().out, "recipe/run-of-a-stage", stage="mean")
    assert train("--dry-run", "--stage", "walk") == 0
    messages.said(capsys.readouterr().out, "recipe/run-of-a-stage", stage="walk")
    assert not Path("runs").exists()


def test_a_saved_stage_is_opened_by_its_own_declaration() -> None:
    assert train() == 0
    opened = outlast.open_saved("pair.mean", step="best", recipe=PAIR)
    distances = {
        json.loads(line)["step"]: json.loads(line)["distance"] for line in (run_of("mean") / "journal.jsonl").open()
    }
    assert opened.step == min(distances, key=distances.__getitem__)
    assert opened.recipe.stage is not None
    assert opened.recipe.stage.name == "mean"
    assert opened.part()["at"].shape == (3,)
    assert opened.digest == digest("mean", opened.step)


def test_a_session_has_one_budget_for_all_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(stages, "now", lambda: clock[0])
    request = prepare.Request(flags={"budget": "60s"})
    steps = stages.unfinished(find(PAIR), request, tell=print)
    first = next(steps)
    assert (first.run_id, first.resolved.config.budget) == ("pair.mean", 60.0)
    prepare.start(first, progress="none")
    clock[0] += 45.0
    second = next(steps)
    assert (second.run_id, second.resolved.config.budget) == ("pair.walk", 15.0)
    again = stages.unfinished(find(PAIR), replace(request, stage="mean"), tell=print)
    next(again)
    clock[0] += 59.0
    steps = stages.unfinished(
        find(PAIR), replace(request, flags={"budget": "60s", "experiment_name": "late"}), tell=print
    )
    prepare.start(next(steps), progress="none")
    clock[0] += 59.0
    with pytest.raises(SessionEnded) as caught:
        next(steps)
    assert caught.value.code == 75


def test_a_chain_says_which_stage_when_it_is_started_as_one_run() -> None:
    recipe = find(PAIR)
    with messages.raises(UsageError, "recipe/stages-mean-walk-say"):
        prepare.start(prepare.prepare(recipe, prepare.Request()))
    with messages.raises(UnknownName, "recipe/no-stage-it-has-mean-walk", stage="men"):
        recipe.of_stage("men")


def stage(name: str, **options: object) -> outlast.Stage:
    return outlast.Stage(name, lambda run, config, inputs: None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ((stage("A"),), messages.says("recipe/expected-name", stage="A")),
        ((stage("a"), stage("a")), messages.says("recipe/expected-name", stage="a")),
        ((stage("a.b"),), messages.says("recipe/expected-name", stage="a.b")),
        (
            (stage("b", after={"a": "latest"}), stage("a")),
            messages.says("recipe/comes-after-which-is-no-earlier", name="a"),
        ),
        (
            (stage("a"), stage("b", after={"a": "best"})),
            messages.says("recipe/stage-with-metric", name="best", name2="latest", name3="best"),
        ),
        (
            (stage("a"), stage("b", after={"a": "first"})),
            messages.says("recipe/stage-with-metric", name="first", name2="latest", name3="best"),
        ),
        ((), messages.says("recipe/has-both-or-neither", found="neither")),
    ],
)
def test_stages_that_contradict_each_other_are_refused(chain: tuple[outlast.Stage, ...], words: str) -> None:
    with messages.raises(UsageError, words):
        outlast.Recipe(name="x", summary="x", Config=outlast.Config, stages=chain)
    with messages.raises(UsageError, "recipe/has-both-or-neither", found="both"):
        outlast.Recipe(
            name="x", summary="x", Config=outlast.Config, train=lambda run, config: None, stages=(stage("a"),)
        )


def test_links_and_forged_records_beside_the_runs_are_no_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2") == 75
    lie = Path("runs/pair.lie")
    lie.mkdir()
    (lie / "run.json").write_text(
        json.dumps(about("walk") | {"inputs": {"mean": {"run": "x", "step": -1, "digest": "0" * 32}}})
    )
    capsys.readouterr()
    assert cli.main(["status", "pair"]) == 0
    messages.said(capsys.readouterr().out, "recipe/stages-mean-finished-at-step-walk", step=6, path="2/6")
    record = about("walk")
    record["inputs"]["mean"]["digest"] = "../../x"
    (run_of("walk") / "run.json").write_text(json.dumps(record))
    assert train() == 1
    messages.said(capsys.readouterr().err, "recipe/error-runs-inputs-mean-digest", path="pair.walk/run.json")


def test_the_progress_line_shows_the_stages_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=itertools.count(0, 100).__next__)
    monkeypatch.setattr("outlast.tracking.progress.time", clock)
    assert train() == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("mean · step ")]
    assert [line for line in lines if line.startswith("mean finished at step 6 -> walk · step ")]


def test_a_chain_elsewhere_is_named_by_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "walk:2", root="deep/runs") == 75
    capsys.readouterr()
    assert cli.main(["status", "deep/runs/pair"]) == 0
    messages.said(capsys.readouterr().out, "recipe/go-on-with", run="deep/runs/pair", recipe=PAIR)
    assert cli.main(["resume", "deep/runs/pair", "--recipe", PAIR, "--device", "cpu"]) == 0
    assert not Path("runs").exists()
    assert cli.main(["status", "pair", "--checkpoint-dir", "deep/runs"]) == 0
    messages.said(capsys.readouterr().out, "recipe/chain", words="pair: ", mean=6, walk=6)


@pytest.mark.parametrize(
    "words",
    [
        ["train", PAIR, "--stage", "walk", "--resume", "runs/pair.mean", "--steps", "9"],
        ["train", PAIR, "--stage", "walk", "--resume", "pair.mean", "--dry-run"],
        ["resume", "pair.mean", "--recipe", PAIR, "--stage", "walk", "--steps", "9"],
        ["resume", "runs/pair.mean/checkpoints/step-00000006", "--recipe", PAIR, "--stage", "walk"],
        ["train", PAIR, "--stage", "walk", "--resume", "runs/pair.mean/checkpoints/step-00000002"],
    ],
)
def test_no_stage_is_trained_in_the_run_of_another(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "mean:2") == 75
    assert train() == 0
    before = everything(Path("runs"))
    capsys.readouterr()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    run = run_of("mean").resolve() if "step-00000002" in words[-1] else run_of("mean")
    messages.said(said, "recipe/run-of-another-stage", run=run, stage="mean", other="walk", recipe=PAIR)
    assert everything(Path("runs")) == before


ALONE = """
import outlast
from pair_recipe import Config, walk

def train(run, config):
    walk(run, config, 0)

recipe = outlast.Recipe(name="alone", summary="a walk", Config=Config, train=train)
"""


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file of a recipe whose runs hold the same state as those of the chain's stages."""
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "pair_recipe.py").write_text((Path(PAIR) / "recipe.py").read_text())
    (folder / "recipe.py").write_text(ALONE)
    monkeypatch.syspath_prepend(folder)
    return str(folder)


def test_a_recipe_without_stages_is_not_trained_in_a_chains_run(alone: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stop-at", "mean:2") == 75
    before = everything(Path("runs"))
    for words in (["resume", "pair.mean", "--recipe", alone], ["train", alone, "--experiment-name", "pair.mean"]):
        capsys.readouterr()
        assert cli.main(words) == 2
        messages.said(capsys.readouterr().err, "recipe/run-of-a-chain", run="pair.mean", stage="mean", recipe=alone)
        assert everything(Path("runs")) == before


def test_a_stage_is_not_trained_in_a_run_without_stages(alone: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", alone, "--experiment-name", "pair.mean", "--stop-at", "mean:2"]) == 75
    before = everything(Path("runs"))
    for words in (["--resume", "pair.mean", "--stage", "mean"], ["--stage", "mean"], []):
        capsys.readouterr()
        assert train(*words) == 2
        messages.said(capsys.readouterr().err, "recipe/run-without-stages", run="pair.mean", stage="mean", recipe=PAIR)
    capsys.readouterr()
    assert train("--resume", "pair.mean") == 2, "the flag is not ignored"
    messages.said(capsys.readouterr().err, "recipe/which-stage", run="pair.mean", recipe=PAIR, stages="mean, walk")
    assert everything(Path("runs")) == before


def test_a_stage_killed_before_its_record_continues() -> None:
    run_of("mean").mkdir(parents=True)
    assert train("--stop-at", "mean:2") == 75
    record = about("mean")
    del record["chain"], record["inputs"]
    (run_of("mean") / "run.json").write_text(json.dumps(record))
    shutil.rmtree(run_of("mean") / "checkpoints")
    assert train("--resume", "pair.mean", "--stage", "mean") == 0
    assert about("mean")["chain"]["stage"] == "mean"


def test_a_run_of_one_installed_recipe_is_not_continued_by_another(
    alone: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["train", alone, "--experiment-name", "one"]) == 0
    record = json.loads(Path("runs/one/run.json").read_text())
    Path("runs/one/run.json").write_text(json.dumps(record | {"recipe": "digits"}))
    before = everything(Path("runs"))
    monkeypatch.setattr(belonging, "is_installed", lambda name: name in ("digits", "walks"))
    with messages.raises(UsageError, "recipe/run-of-another-recipe", run="runs/one", recipe="digits", other="walks"):
        prepare.prepare(replace(find(alone), source="walks"), prepare.Request(resume="one"))
    assert everything(Path("runs")) == before
    capsys.readouterr()
    assert cli.main(["resume", "one", "--recipe", alone]) == 0, "a file may be a copy of the recipe"
    messages.said(capsys.readouterr().err, "recipe/begun-with-another-recipe", recipe="digits", other=alone)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["train", PAIR], "recipe/finished-stage-train"),
        (["resume", "pair", "--recipe", PAIR], "recipe/finished-stage-resume"),
    ],
)
def test_values_that_a_finished_stage_does_not_use_are_reported_with_the_command(
    words: list[str], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--stop-at", "walk:2") == 75
    mean = everything(run_of("mean"))
    capsys.readouterr()
    assert cli.main([*words, "--steps", "8"]) == 0
    told = capsys.readouterr().out
    facts = {"run": "pair.mean", "before": 6, "after": 8, "recipe": PAIR, "stage": "mean"}
    messages.said(told, key, **facts)
    messages.said(told, "recipe/chain", words="pair: ", mean=6, walk=8)
    assert everything(run_of("mean")) == mean
    command = next(line for line in told.splitlines() if "To train it further: " in line).partition("further: ")[2]
    assert cli.main(shlex.split(command)[1:]) == 0
    assert newest("mean").name == "step-00000008"
    capsys.readouterr()
    assert cli.main([*words, "--steps", "8"]) == 0
    assert "further" not in capsys.readouterr().out, "both stages have had it"


def test_one_stage_alone_ends_with_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--stage", "mean") == 0
    messages.said(capsys.readouterr().out, "recipe/chain-of-one-stage", step=6)


def test_a_stage_instead_of_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--alone", "--stop-at", "stroll:2") == 75
    again = shlex.split(capsys.readouterr().out.partition("Go on with: ")[2])
    assert again[:3] == ["outlast", "resume", "pair.stroll"], "the chain of that name is another training"
    assert about("stroll")["chain"] == {"name": "pair", "stage": "stroll", "stages": ["stroll"]}
    assert train("--alone", root="twin") == 0
    assert cli.main(["resume", "pair", "--recipe", PAIR]) == 0, "there is no other run under this name"
    assert newest("stroll").name == "step-00000006"
    assert (newest("stroll") / "model.safetensors").read_bytes() == (
        newest("stroll", "twin") / "model.safetensors"
    ).read_bytes()
    assert [path.name for path in Path("runs").iterdir()] == ["pair.stroll"]
    capsys.readouterr()
    assert train("--stage", "all") == 0
    said = capsys.readouterr().out
    assert "stage mean of pair\n" in said, "the other training is no part of the chain"
    assert about("walk")["chain"]["stages"] == ["mean", "walk"]
    assert [link.stage for link in chain_named(Path("runs"), "pair")] == ["mean", "walk"]


def test_a_stage_that_the_values_do_not_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--alone", "--stage", "mean") == 2
    messages.said(capsys.readouterr().err, "recipe/instead-and-stage", stage="mean", other="stroll")
    assert not Path("runs").exists()


def test_a_notebook_of_a_stage_instead() -> None:
    assert cli.main(["notebook", PAIR, "--alone"]) == 0
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(Path("pair.ipynb").read_text())["cells"]}
    assert "'pair', ['pair.stroll']\n" in cells["setup"]
    assert "--alone" in cells["train"]
    assert "--stage" not in cells["train"]


def test_no_stage_is_called_all() -> None:
    with messages.raises(UsageError, "recipe/stage-name", stage="all"):
        outlast.Recipe("r", "", outlast.Config, stages=(outlast.Stage("all", lambda *_: None),))


def test_code_beside_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(PAIR, tmp_path / "pair")
    place = tmp_path / "pair/recipe.py"
    place.write_text(place.read_text().replace('name="pair",', 'name="pair", code=".code",'))
    (tmp_path / "pair/code.py").write_text("def check(config):\n    return f'{config.steps} steps are fine'\n")
    assert cli.main(["train", str(place), "--dry-run"]) == 0
    assert "data: 6 steps are fine" in capsys.readouterr().out
    assert cli.main(["train", str(place)]) == 0


def test_the_notebook_that_tests_a_resume(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells, one after the other, as a kernel would run them; `nbclient` runs that of dungeon."""
    assert cli.main(["notebook", PAIR, "--steps", "300", "--resume-test"]) == 0
    book = json.loads(Path("test_checkpoint_resume.ipynb").read_text())
    cells = {cell["id"]: "".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"}
    assert list(cells) == ["setup", "values", "twin", "kill", "compare", "verify"]
    monkeypatch.setattr(sys, "path", sys.path[:])
    names: dict[str, Any] = {}
    for source in cells.values():
        exec(source, names)
    said = capsys.readouterr().out
    assert said.endswith("All tests pass.\n")
    assert names["kills"] == 2
    for stage in ("mean", "walk"):
        assert f"pair-test.{stage} is the same in" in said


def stored(stage: str) -> dict[str, Any]:
    return json.loads((run_of(stage) / "config.json").read_text())


def test_a_stage_that_was_not_begun_has_the_values_of_the_chain() -> None:
    """`outlast resume pair` names no value: the later stage is trained with those that the first one was begun with."""
    assert train("--stop-at", "mean:2", "--seed", "7", "--steps", "5") == 75
    assert cli.main(["resume", "pair"]) == 0
    for stage in ("mean", "walk"):
        assert (stored(stage)["values"]["seed"], stored(stage)["values"]["steps"]) == (7, 5)
    assert stored("walk")["origins"]["seed"] == "run (was: flag --seed)"
    assert newest("walk").name == "step-00000005"
    assert train("--seed", "7", "--steps", "5", root="twin") == 0
    assert final("runs") == final("twin")


def test_a_flag_wins_over_the_values_of_the_chain() -> None:
    assert train("--stage", "mean", "--seed", "7", "--steps", "5") == 0
    assert train("--stage", "walk", "--steps", "4") == 0
    assert (stored("walk")["values"]["seed"], stored("walk")["values"]["steps"]) == (7, 4)


def test_another_chain_has_values_of_its_own() -> None:
    assert train("--stage", "mean", "--seed", "7") == 0
    assert train("--experiment-name", "other") == 0
    assert json.loads(Path("runs/other.walk/config.json").read_text())["values"]["seed"] == 42
