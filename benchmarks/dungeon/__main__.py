"""Rooms of baselines on the corpus of the recipe dungeon, measured against dungeons that are held out.

    python -m benchmarks.dungeon [--data FOLDER] [--rooms N] [--seed N] [--test N,N] [--validation N,N] [--repeats]
                                 [--ask-as-held-out] [--times]
                                 [--without NAME ...] [--dungeons N] [--run RUN ...]

FOLDER is that of `outlast data get dungeon`, ../shared/data/vglc if it is there; --synthetic takes the recipe's own
corpus instead. With --dungeons, N dungeons of 20 rooms and 3 keys are made of the rooms of each sampler that can be
asked for doors, and mission graphs are compared with those of the corpus. --run adds what `outlast train dungeon`
trained, with the weights of the best validation loss. --times measures what the same rooms cost: those with the doors
and stair that were asked for, valid and not of training. Writes benchmarks/results/dungeon.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.dungeon.baselines import PinnedRejection, Rejection
from benchmarks.dungeon.comparison import BASELINES, compare, prepare, times
from benchmarks.dungeon.whole import dungeons, missions
from rich.console import Console
from rich.table import Table

from outlast_recipes.dungeon.corpus import HELD_OUT, VALIDATION, load_corpus
from outlast_recipes.dungeon.metrics import SIZES
from outlast_recipes.dungeon.patterns import PatternSampler
from outlast_recipes.dungeon.saved import load_sampler, open_generator

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dungeon", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/vglc")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--rooms", type=int, default=1000, help="rooms of each generator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", default=",".join(HELD_OUT), help="numbers of the held-out dungeons")
    parser.add_argument("--validation", default=",".join(VALIDATION))
    parser.add_argument("--repeats", action="store_true", help="learn from all rooms, as often as they occur")
    parser.add_argument("--ask-as-held-out", action="store_true", help="for doors and stairs of the held-out rooms")
    parser.add_argument("--times", action="store_true", help="of all, 20 and one room at once")
    parser.add_argument(
        "--without", nargs="*", default=[], choices=BASELINES, metavar="NAME", help=f"of: {', '.join(BASELINES)}"
    )
    parser.add_argument("--dungeons", type=int, default=0, help="dungeons of each sampler (default: none)")
    parser.add_argument("--run", nargs="*", default=[], metavar="RUN", help="names or folders of trained runs")
    parser.add_argument("--checkpoint-dir", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--step", default="best", help="a step of the runs, latest or best (default: best)")
    given = parser.parse_args()
    corpus = load_corpus(None if given.synthetic else given.data)
    test, validation = given.test.split(","), given.validation.split(",")
    data, parts = prepare(
        corpus,
        test,
        validation,
        repeats=given.repeats,
        number=given.rooms,
        seed=given.seed,
        as_held_out=given.ask_as_held_out,
    )
    about = {
        "corpus": "synthetic" if corpus.synthetic else Path(corpus.name).name,
        "rooms": given.rooms, "seed": given.seed, "held_out": test, "validation": validation, "repeats": given.repeats,
        "asked_as": "held-out rooms" if given.ask_as_held_out else "training rooms",
        "parts": {name: len(part) for name, part in parts._asdict().items()},
        "learnt_from": len(data.train), "held_out_rooms": len(data.dungeons), "unseen_rooms": len(data.unseen),
    }  # fmt: skip
    chosen = {name: of(data.train) for name, of in BASELINES.items() if name not in given.without}
    trained = {run: load_sampler(open_generator(run, given.checkpoint_dir, given.step)) for run in given.run}
    once = {run: sampler.once for run, sampler in trained.items()}
    again = {f"{run}, drawn again": sampler for run, sampler in trained.items()}
    rows = compare({**chosen, **once, **again}, data, given.seed)
    found: dict[str, Any] = {**about, "rows": rows}
    if given.times:
        rejecting = {
            "MdMC + position, rejection": Rejection(data.train, data.digests),
            "MdMC + position, doors pinned, rejection": PinnedRejection(data.train, data.digests),
        }
        found["times"] = times({**rejecting, **trained}, data, given.seed)
    if given.dungeons:
        samplers = {
            "patterns": PatternSampler(),
            "MdMC + position, rejection": Rejection(data.train),
            **trained,
        }
        found["dungeons"] = dungeons(samplers, given.dungeons)
        found["missions"] = missions(list(corpus.graphs.values()), 10)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "dungeon.json").write_text(json.dumps(found, indent=1) + "\n")
    console = Console(width=200)
    console.print(", ".join(f"{key} {value}" for key, value in about.items()))
    for title, key in (("raw", "raw"), ("after repair", "repaired")):
        console.print(table(title, key, rows))
    for key in ("times", "dungeons", "missions"):
        if key in found:
            console.print(key)
            console.print_json(data=found[key])


def table(title: str, key: str, rows: list[dict[str, Any]]) -> Table:
    found = Table(title=f"Rooms, {title}; % but for distances and divergences")
    heads = ["valid", "strict", "novel", "novel & valid", "copies", "new inside", "doors asked", "nearest", "diversity"]
    sizes = "/".join(map(str, SIZES))
    heads += [f"TPKL {sizes} dungeons", f"TPKL {sizes} unseen"]
    heads += ["rooms", "tiles changed"] if key == "repaired" else ["ms/room"]
    found.add_column("generator")
    for head in heads:
        found.add_column(head, justify="right")
    for row in rows:
        if key in row:
            found.add_row(row["generator"], *cells(row, key))
    return found


def cells(row: dict[str, Any], key: str) -> list[str]:
    one = row[key]
    shares = [
        one["valid"],
        one["strict"],
        one["novel"],
        one["novel_valid"],
        1 - one["novel"],
        one["new_inside"],
        one.get("doors_as_asked"),
    ]
    found = ["" if share is None else f"{100 * share:.1f}" for share in shares]
    found += [f"{one['distance']:.3f}", f"{one['diversity']:.3f}"]
    found += ["/".join(f"{one[name][size]:.2f}" for size in SIZES) for name in ("divergence", "divergence_unseen")]
    if key == "repaired":
        return [*found, f"{100 * row['rooms_repaired']:.1f}", f"{row['tiles_changed']:.2f}"]
    return [*found, f"{row['milliseconds_each']:.2f}" if "milliseconds_each" in row else ""]


if __name__ == "__main__":
    main()
