"""LAST against ST-GCN, a network of CTR-GCN's class and the original's, under one recipe: what they reach and what they
cost.

    python -m benchmarks.skeleton nw-ucla   [--networks NAME ...] [--seeds N] [--set epochs=N ...] [--work FOLDER]
    python -m benchmarks.skeleton utkinect
    python -m benchmarks.skeleton synthetic
    python -m benchmarks.skeleton speed
    python -m benchmarks.skeleton pairs
    python -m benchmarks.skeleton data

Every network and seed is an outlast run below --work, so the same command continues after any end. Nothing
is chosen by the test: what is reported is the last step's averaged weights. Data are read from ../shared/data. Writes
benchmarks/results/skeleton-*.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import random
import re
import statistics
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.skeleton import speed, synthetic
from benchmarks.skeleton.networks import NETWORKS
from rich.console import Console
from rich.table import Table
from torch import nn

import outlast
from outlast.recipe.prepare import Request, start
from outlast.recipe.prepare import prepare as prepared
from outlast_recipes.common.classification import correct
from outlast_recipes.common.clips import duplicates
from outlast_recipes.common.complexity import parameters
from outlast_recipes.common.preparing import prepare
from outlast_recipes.skeleton import formats
from outlast_recipes.skeleton import recipe as installed
from outlast_recipes.skeleton import training as skeleton
from outlast_recipes.skeleton.evaluation import logits_of
from outlast_recipes.skeleton.layouts import LAYOUTS, Layout
from outlast_recipes.skeleton.saved import Labels
from outlast_recipes.skeleton.store import FORM, open_store

DATA = Path(__file__).resolve().parents[3] / "shared/data"
RESULTS = Path(__file__).resolve().parents[1] / "results"

LASTS: dict[str, dict[str, str]] = {
    "last": {},
    "last, joint": {"model.streams": "joint"},
    "last, bone": {"model.streams": "bone"},
    "last, velocity": {"model.streams": "velocity"},
    "last, no shift": {"model.shift": "off"},
    "last, tsm": {"model.shift": "tsm"},
    "last, fixed scales": {"model.shift": "scales"},
    "last, static joints": {"model.routing": "static"},
    "last, no joints": {"model.routing": "off"},
    "last, no attention": {"model.attention": "false"},
    "last, one body": {"model.bodies": "1"},
}
BASELINES = {
    "st_gcn": ("st_gcn", "fused"),
    "st_gcn, joint": ("st_gcn", "joint"),
    "ctr_gcn": ("ctr_gcn", "fused"),
    "ctr_gcn, joint": ("ctr_gcn", "joint"),
    "last_seed": ("last_seed", "fused"),
    "last_seed, joint": ("last_seed", "joint"),
}
NAMES = [*LASTS, *BASELINES]


def builder(name: str) -> Callable[..., nn.Module]:
    """The function that builds this network from a config, like the recipe's own `build`."""
    if name in LASTS:
        return skeleton.build
    maker, kind = BASELINES[name]

    def build(config: Any, classes: int, layout: Layout, _frames: int) -> nn.Module:
        return NETWORKS[maker](classes, layout, kind, dropout=config.model.dropout)

    return build


def nw_ucla(work: Path, _fold: int) -> Path:
    return _store(work, "nw_ucla", "nw_ucla_all_sqe.tar.xz")


def nw_ucla_chosen(work: Path, _fold: int) -> Path:
    return _store(work, "nw_ucla", "nw_ucla_all_sqe.tar.xz", "cameras-1-2", r"_v0[12]$")


def utkinect(work: Path, _fold: int) -> Path:
    return _store(work, "utkinect", "utkinect_ntu_format.tar.xz")


def utkinect_chosen(work: Path, fold: int) -> Path:
    part, kept = ("subjects-6-10", "P(00[6-9]|010)") if fold % 2 else ("subjects-1-5", "P00[1-5]")
    return _store(work, "utkinect", "utkinect_ntu_format.tar.xz", part, kept)


def _store(work: Path, name: str, archive: str, part: str = "", kept: str = "") -> Path:
    """The store of a data set, or of a part of it: the files whose names without suffix have `kept` in them."""
    target = work / f"{name}{'-' if part else ''}{part}.store"
    if not (target / "index.json").exists():
        with tarfile.open(DATA / name / archive) as packed:
            packed.extractall(work / name, filter="data")
        raw = formats.find(work / name)
        files = [path for path in raw.files if re.search(kept, path.stem)]
        prepare(dataclasses.replace(raw, files=files), target, FORM)
    return target


def generated(work: Path, _fold: int) -> Path:
    target = work / "synthetic.store"
    if not (target / "index.json").exists():
        synthetic.store(target)
    return target


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set, how it is split, and what it is trained with; chosen by held-out training subjects, see
    docs/log.md."""

    data: Callable[[Path, int], Path]
    flags: Mapping[str, str | bool]
    folds: tuple[dict[str, str], ...] = ({},)


USUAL: dict[str, str | bool] = {"ema": "0.99", "mixed_precision": True}
TASKS = {
    "nw-ucla": Task(nw_ucla, {"data.split": "cameras", "model.bodies": "1"}),  # the rest follows from the set
    "utkinect": Task(  # as `outlast train skeleton` trains without flags
        utkinect,
        {"data.split": "subjects"},
        ({"data.train_subjects": "1,2,3,4,5"}, {"data.train_subjects": "6,7,8,9,10"}),
    ),
    # What a small set's defaults are chosen by: the test half, or the test camera, is not in the store.
    "utkinect-chosen": Task(
        utkinect_chosen,
        {"data.split": "subjects"},
        tuple({"data.train_subjects": subjects} for subjects in ("1,2,3", "6,7,8", "3,4,5", "8,9,10")),
    ),
    "nw-ucla-chosen": Task(
        nw_ucla_chosen,
        {"data.split": "subjects"},
        tuple({"data.train_subjects": subjects} for subjects in ("1,2,3,4,5,6,7", "4,5,6,7,8,9,10")),
    ),
    "synthetic": Task(
        generated,
        # Left and right, and speed, are what classes differ by: a mirror or a short crop would make one the other.
        {"data.split": "subjects", "data.train_subjects": "1,2,3,4,5,6", "data.frames": "64", "batch_size": "32",
            "epochs": "15",
         "augment.mirror": "0", "augment.crop": "0.9", **USUAL},
    ),
}  # fmt: skip


def trained(task: Task, name: str, seed: int, fold: int, flags: dict[str, str], work: Path) -> dict[str, Any]:
    """Train one network, or continue with it, and say what it reached on the test."""
    store = task.data(work, fold)
    given = {
        "data.validate_subjects": "0",
        "keep_best": "0",
        "keep_last": "1",
        **task.flags,
        **task.folds[fold],
        **LASTS.get(name, {}),
        **flags,
    }
    identity = hashlib.blake2b(
        json.dumps([given, open_store(store).hash], sort_keys=True).encode(), digest_size=4
    ).hexdigest()
    run_id = f"{store.stem}-{name.replace(', ', '-').replace(' ', '-')}-{fold}-{seed}-{identity}"
    result = work / "results" / f"{run_id}.json"
    if result.exists():
        return json.loads(result.read_text())
    own = {"seed": str(seed), "experiment_name": run_id, "checkpoint_dir": str(work / "runs"), "data_root": str(store)}
    recipe = dataclasses.replace(
        installed.recipe, code=None, train=functools.partial(skeleton.train, build=builder(name)), source="skeleton"
    )
    ready = prepared(recipe, Request(flags={**given, **own}))
    begin = time.process_time()
    start(ready)
    attempts = len(list((work / "runs" / run_id / "attempts").glob("*.json")))
    seconds = (
        time.process_time() - begin if attempts == 1 else float("nan")
    )  # a part of it was spent in another process
    config = ready.resolved.config
    found, parts, classes = skeleton.load_data(config)
    saved = outlast.open_saved(run_id, root=work / "runs")
    frames = Labels(**saved.part("labels")).frames(config)
    network = builder(name)(config, classes, LAYOUTS[found.layout], frames)
    network.load_state_dict(saved.part("ema"))
    logits, labels = logits_of(network.eval(), parts["test"], frames, torch.device("cpu"))
    lost = float(nn.functional.cross_entropy(logits, labels))
    copies = {copy for _, copy in duplicates(found.entries, {key: part.numbers for key, part in parts.items()})}
    clean = torch.tensor([found.entries[number].name not in copies for number in parts["test"].numbers])
    right = (logits.argmax(1) == labels).float()
    facts = {
        "network": name,
        "seed": seed,
        "fold": fold,
        "clips": len(labels),
        "clean": int(clean.sum()),
        "top1": float(right.mean()),
        "top1 clean": float(right[clean].mean()),
        "cross-entropy": lost,
        "top5": correct(logits, labels, 5) / len(labels),
        "parameters": parameters(network),
        "CPU seconds": seconds,
        "flags": {key: str(value) for key, value in given.items()},
        "logits": [[round(value, 3) for value in row] for row in logits.tolist()],
        "labels": labels.tolist(),
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(facts))
    return facts


def accuracy_table(what: str, rows: list[dict[str, Any]]) -> None:
    table = Table("network", "seeds", "parameters", "top-1", "without copies", "one run's s of CPU", title=what)
    families: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        columns = []
        for column in ("top1", "top1 clean"):
            by_seed = [
                statistics.fmean(row[column] for row in own if row["seed"] == seed)
                for seed in sorted({row["seed"] for row in own})
            ]
            spread = f" ± {statistics.stdev(by_seed):.2%}" if len(by_seed) > 1 else ""
            columns.append(f"{statistics.fmean(by_seed):.2%}{spread}")
        seeds = str(len({row["seed"] for row in own}))
        table.add_row(
            name,
            seeds,
            f"{own[0]['parameters']:,}",
            *columns,
            f"{statistics.fmean(row['CPU seconds'] for row in own):.0f}",
        )
        if what == "synthetic":
            families[name] = by_family(own)
    Console(width=120).print(table)
    if families:
        table = Table("network", *synthetic.FAMILIES, title="synthetic, by what tells classes apart")
        for name, shares in families.items():
            table.add_row(name, *(f"{shares[family]:.1%}" for family in synthetic.FAMILIES))
        Console(width=120).print(table)


def by_family(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Share of right answers among the clips of each family."""
    found: dict[str, list[bool]] = {family: [] for family in synthetic.FAMILIES}
    for row in rows:
        for logits, label in zip(row["logits"], row["labels"], strict=True):
            best = max(range(len(logits)), key=logits.__getitem__)
            found[synthetic.FAMILIES[label // 15]].append(best == label)
    return {family: statistics.fmean(right) for family, right in found.items()}


# speed --------------------------------------------------------------------------------------------------------------


def costs() -> None:
    """Show each row as it comes, then the whole table."""
    facts: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name, title, rows in (
        ("compared", "speed: 64 frames, 25 joints, two bodies", speed.compared()),
        ("growth", "ms a clip of inference as frames, joints and batch grow", speed.growing()),
    ):
        facts[name] = []
        for row in rows:
            facts[name].append(row)
            show(title, [row])
        show(title, facts[name])
        write("speed", facts)


def pairs() -> None:
    """LAST base beside ST-GCN, in turns."""
    facts = []
    for row in speed.paired():
        facts.append(row)
        show("LAST base beside ST-GCN", [row])
    show("LAST base beside ST-GCN", facts)
    write("pairs", facts)


# data ---------------------------------------------------------------------------------------------------------------


def data(work: Path) -> None:
    """Reading 64 real NTU clips as text against the store, in random order; and preparing them."""
    with tarfile.open(DATA / "ntu_samples/ntu60_samples_64.tar.xz") as packed:
        packed.extractall(work / "ntu", filter="data")
    raw = formats.find(work / "ntu", "ntu")
    nbytes = sum(path.stat().st_size for path in raw.files)
    eight = work / "ntu-8"  # enough for both cores: each file under eight names
    eight.mkdir(exist_ok=True)
    links = {
        eight / re.sub(r"R\d{3}", f"R{copy:03d}", path.name): path.resolve() for path in raw.files for copy in range(8)
    }
    for link, path in links.items():
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    begin = time.perf_counter()
    store = prepare(dataclasses.replace(raw, files=sorted(links)), work / "ntu.store", FORM, replace=True)
    prepared_in = time.perf_counter() - begin
    numbers = {entry.name: number for number, entry in enumerate(store.entries)}
    places = {link.stem: link for link in links if "R000" in link.name}
    ratios, text_rate, store_rate = [], [], []
    for seed in range(7):
        order = random.Random(seed).sample(sorted(places), len(places))
        begin = time.perf_counter()
        for name in order:
            raw.read(places[name])
        text = time.perf_counter() - begin
        begin = time.perf_counter()
        for name in order:
            store[numbers[name]]
        mapped = time.perf_counter() - begin
        ratios.append(text / mapped)
        text_rate.append(len(order) / text)
        store_rate.append(len(order) / mapped)
    facts = {
        "clips": len(raw.files),
        "text, clips/s on one core": statistics.median(text_rate),
        "store, clips/s on one core": statistics.median(store_rate),
        "store against text": statistics.median(ratios),
        "prepare, MB/s on two cores": 8 * nbytes / 1e6 / prepared_in,
        "NTU-120, hours to prepare on two cores": 114_480 / (len(store) / prepared_in) / 3600,
        "NTU-120, GB of store": 114_480
        * sum(path.stat().st_size for path in (work / "ntu.store").iterdir())
        / len(store)
        / 1e9,
        "NTU-120, s of reading an epoch on one core": 114_480 / statistics.median(store_rate),
    }
    show("data: 64 real NTU RGB+D clips", [{"what": key, "value": value} for key, value in facts.items()])
    write("data", facts)


def show(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(
            *(
                value if isinstance(value, str) else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
                for value in row.values()
            )
        )
    Console(width=140).print(table)


def write(name: str, facts: Any) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"skeleton-{name}.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*TASKS, "speed", "pairs", "data"))
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=["last", "st_gcn", "ctr_gcn", "last_seed"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("bench-runs"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other values of the recipe, for all networks"
    )
    values = parser.parse_args()
    if values.what == "speed":
        costs()
        return
    if values.what == "pairs":
        pairs()
        return
    values.work.mkdir(exist_ok=True)
    if values.what == "data":
        data(values.work)
        return
    task, flags = TASKS[values.what], dict(word.split("=", 1) for word in values.set)
    rows = []
    for seed, name, fold in itertools.product(range(values.seeds), values.networks, range(len(task.folds))):
        rows.append(trained(task, name, seed, fold, flags, values.work))
        accuracy_table(values.what, rows)
    short = [{key: value for key, value in row.items() if key not in ("logits", "labels")} for row in rows]
    path = RESULTS / f"skeleton-{values.what}.json"
    older = json.loads(path.read_text()) if path.exists() else []
    keys = ("network", "seed", "fold", "flags")
    again = [[row[key] for key in keys] for row in short]
    write(values.what, [row for row in older if [row[key] for key in keys] not in again] + short)


if __name__ == "__main__":
    main()
