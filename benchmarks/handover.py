"""From the end of one job to the first step of the next, beside a script that submits itself again.

    python -m benchmarks.handover [--rounds N] [--megabytes N]

Both train the same model with PyTorch, save the same bytes, end after some steps, and go on in a new job. `bare` writes
its state with safetensors, ends with 75, whereupon its job calls sbatch, and reads the state back. outlast is a relay.
The programs of Slurm are planted: sbatch starts the script at once, so a queue takes no part. Pairs in alternating
order; prints JSON: medians of seconds on the clock and of a core, the median of the ratios within a pair, and the
seconds of each part, by the moment that ends it (see `PARTS`).

Both import the same, save before the clock starts, and read the same bytes; `bare` verifies nothing and keeps one copy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS, JOBS = 2, 4
"""Steps of a job, and jobs of a run; so there are three handovers."""

PARTS = (
    ("exit", "the training has written its exit code"),
    ("end.json", "its process has ended"),
    ("submitted", "sbatch is called"),
    ("job.json", "the job's keeper runs"),
    ("training.json", "the training's process is started"),
    ("code", "the user's code begins"),
    ("torch", "torch is imported"),
    ("opened", "the checkpoint is found and verified; the user builds the model"),
    ("built", "the model and the optimizer exist"),
    ("loaded", "they have the checkpoint's state"),
    ("first", "the first step is done"),
)
"""The moments of a handover; `bare` has only some of them."""

SBATCH = """#!/bin/bash
echo submitted $(date +%s.%N) >> $NOTES
script="${@: -1}"
number=$(( $(cat {root}/jobs 2>/dev/null || echo 0) + 1 ))
echo $number > {root}/jobs
log=$(sed -n 's/^#SBATCH --output=//p' "$script" | tr -d '"')
SLURM_JOB_ID=$number SLURMD_NODENAME=here SLURM_JOB_END_TIME=$(( $(date +%s) + 600 )) \\
    setsid nohup {time} -f '%U %S' -a -o {root}/core bash "$script" >> "${{log:-/dev/null}}" 2>&1 < /dev/null &
echo $! > {root}/pid.$number
echo $number "$script" >> {root}/submitted
echo $number
"""
SQUEUE = """#!/bin/bash
while read -r number script; do
    state=COMPLETED
    kill -0 "$(cat {root}/pid.$number)" 2>/dev/null && state=RUNNING
    echo "$number|$state|None|$script"
done < {root}/submitted
"""

MODEL = """
import os, sys, time

def note(word):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{word} {time.time():.6f}\\n")

note("code")
import torch
note("torch")

SIZE = int(os.environ["WIDTH"])

def make():
    torch.manual_seed(0)
    model = torch.nn.Linear(SIZE, SIZE, bias=False)
    return model, torch.optim.AdamW(model.parameters())

def train_step(model, optimizer):
    loss = model(torch.ones(1, SIZE)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

BARE = """
import json
from safetensors.torch import load_file, save_file

note("opened")
model, optimizer = make()
note("built")
step = 0
train_step(model, optimizer) if not os.path.exists("state.json") else None
if os.path.exists("state.json"):
    step = json.load(open("state.json"))["step"]
    found = load_file("state.safetensors")
    model.weight.data.copy_(found["weight"])
    moments = {name: found[name] for name in ("exp_avg", "exp_avg_sq")}
    optimizer.load_state_dict({"state": {0: {"step": torch.tensor(float(step)), **moments}},
                               "param_groups": optimizer.state_dict()["param_groups"]})
note("loaded")
last = step + STEPS
while step < last:
    train_step(model, optimizer)
    step += 1
    if step == last - STEPS + 1:
        note("first")
moments = optimizer.state[model.weight]
save_file({"weight": model.weight.data, "exp_avg": moments["exp_avg"], "exp_avg_sq": moments["exp_avg_sq"]},
          "state.safetensors")
json.dump({"step": step}, open("state.json", "w"))
note("end")
sys.exit(75 if step < STEPS * JOBS else 0)
"""

RECIPE = """
import outlast

def train(run, config):
    note("opened")
    model, optimizer = make()
    note("built")
    run.track(model=model, optimizer=optimizer)
    note("loaded")
    first = True
    try:
        for step in run.steps(STEPS * JOBS):
            train_step(model, optimizer)
            if first:
                note("first")
                first = False
            if step % STEPS == 0 and step < STEPS * JOBS:
                run.session.request_stop("budget", "the job is short")
    finally:
        note("end")
"""

LIGHT = """
import outlast

recipe = outlast.Recipe(name="wide", summary="one wide layer", Config=outlast.Config, code=".training")
"""


def prepare(root: Path, megabytes: float) -> dict[str, str]:
    """Plant Slurm's programs; returns the variables of a run."""
    (root / "bin").mkdir(parents=True)
    time_program = "/usr/bin/time"
    for name, text in (("sbatch", SBATCH.replace("{time}", time_program)), ("squeue", SQUEUE)):
        (root / "bin" / name).write_text(text.replace("{root}", str(root)).replace("{{", "{").replace("}}", "}"))
        (root / "bin" / name).chmod(0o755)
    width = int((megabytes * 1e6 / 12) ** 0.5)  # float32: the weights and two moments
    return {
        **os.environ,
        "PATH": f"{root}/bin:{os.environ['PATH']}",
        "NOTES": str(root / "notes"),
        "WIDTH": str(width),
        "OMP_NUM_THREADS": "1",
    }


def handovers(root: Path) -> list[float]:
    """Seconds from each end to the next first step."""
    notes = [(word, float(at)) for word, at in map(str.split, (root / "notes").read_text().splitlines())]
    ends = [at for word, at in notes if word == "end"]
    firsts = [at for word, at in notes if word == "first"]
    return [first - end for end, first in zip(ends, firsts[1:], strict=False)]


def parts(root: Path) -> dict[str, float]:
    """Median seconds of each part of a handover: from the moment before it to the one that ends it."""
    moments = [(word, float(at)) for word, at in map(str.split, (root / "notes").read_text().splitlines())]
    names = [name for name, _ in PARTS]
    moments += [
        (path.name, path.stat().st_mtime)
        for path in (root / "runs/.jobs").glob("*/*")
        if path.name in names and path.name not in ("code", "work")
    ]
    moments.sort(key=lambda moment: moment[1])
    found: dict[str, list[float]] = {}
    ends = [at for word, at in moments if word == "end"]
    firsts = [at for word, at in moments if word == "first"]
    for end, first in zip(ends, firsts[1:], strict=False):
        before = end
        for word, at in moments:
            if end < at <= first:
                found.setdefault(word, []).append(at - before)
                before = at
    return {name: round(statistics.median(found[name]), 3) for name in names if name in found}


def core(root: Path) -> float:
    """Seconds of a core that the jobs took, for each job."""
    used = [sum(map(float, line.split())) for line in (root / "core").read_text().splitlines() if line[0].isdigit()]
    return sum(used) / JOBS


def bare(root: Path, megabytes: float) -> tuple[float, float, dict[str, float]]:
    """Seconds of a handover on the clock, and of a core a job; and those of each part on the clock."""
    variables = prepare(root, megabytes)
    (root / "train.py").write_text(f"{MODEL}\nSTEPS, JOBS = {STEPS}, {JOBS}\n{BARE}")
    (root / "job.sh").write_text(
        f"#!/bin/bash\ncd {shlex.quote(str(root))}\n{sys.executable} train.py\n[ $? -eq 75 ] && sbatch job.sh\n"
    )
    subprocess.run(["sbatch", "job.sh"], cwd=root, env=variables, check=True, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 900
    while not (root / "core").exists() or sum(line[0].isdigit() for line in (root / "core").open()) < JOBS:
        if time.monotonic() > end:
            raise SystemExit("the bare script did not end")
        time.sleep(0.1)
    return statistics.median(handovers(root)), core(root), parts(root)


def relayed(root: Path, megabytes: float) -> tuple[float, float, dict[str, float]]:
    """The same of a relay."""
    variables = prepare(root, megabytes)
    (root / "wide").mkdir()
    (root / "wide/recipe.py").write_text(LIGHT)
    (root / "wide/training.py").write_text(f"{MODEL}\nSTEPS, JOBS = {STEPS}, {JOBS}\n{RECIPE}")
    words = [sys.executable, "-m", "outlast", "relay", "wide", "--on", "slurm", "--time", "5m"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=root, env=variables, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return statistics.median(handovers(root)), core(root) + own / JOBS, parts(root)


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]}


def main(rounds: int, megabytes: float) -> None:
    """Measure and print."""
    found: dict[str, list[tuple[float, float, dict[str, float]]]] = {"bare": [], "outlast": []}
    for number in range(rounds):
        pair = [("bare", bare), ("outlast", relayed)]
        for name, measure in pair if number % 2 else reversed(pair):
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(measure(Path(folder) / "x", megabytes))
    clock = {name: [each[0] for each in pairs] for name, pairs in found.items()}
    cores = {name: [each[1] for each in pairs] for name, pairs in found.items()}
    print(
        json.dumps(
            {
                "rounds": rounds,
                "megabytes": megabytes,
                "load": os.getloadavg()[0],
                "seconds": {name: round(statistics.median(each), 2) for name, each in clock.items()},
                "core": {name: round(statistics.median(each), 2) for name, each in cores.items()},
                "parts": {name: _medians([each[2] for each in pairs]) for name, pairs in found.items()},
                "ratio": round(
                    statistics.median(a / b for a, b in zip(clock["outlast"], clock["bare"], strict=True)), 2
                ),
                "core_ratio": round(
                    statistics.median(a / b for a, b in zip(cores["outlast"], cores["bare"], strict=True)), 2
                ),
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=100.0)
    given = parser.parse_args()
    main(given.rounds, given.megabytes)
