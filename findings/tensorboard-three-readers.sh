#!/usr/bin/env bash
# TensorBoard 2.21.0 with torch 2.13.0: after a resume with purge_step, its three readers show three
# different curves of the same two files.
#
# Guess:    a resumed training opens SummaryWriter(folder, purge_step=7), as torch documents it, and
#           TensorBoard shows each step once: 1 to 6 of the first session, 7 to 10 of the second.
# Happens:  the EventAccumulator (Python) does. `tensorboard --load_fast=false` purges nothing: it
#           shows 7 to 10 twice, and 11 and 12, which the run no longer has. The default server shows
#           these steps once, but keeps a tag that was logged in the abandoned steps alone: a
#           validation at step 11 stays, though the run is at step 10.
#           With purge_step=0 in the first session, too, --load_fast=false is right, and the default
#           server is not.
# Version:  tensorboard 2.21.0, torch 2.13.0 (CPU), Python 3.11; the second file's name sorts after the
#           first one's.
# Known:    torch issue 42379 is about add_scalars, which is not used here.
# Matters:  what a program reads back to test its logging is not what a user sees in the browser.
# outlast:  each event file of a session begins with a START, also the first:
#           tests/tracking/sinks/test_tensorboard.py. What the default server keeps is in
#           docs/how-to/trackers.md.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tensorboard==2.21.0 torch==2.13.0 numpy==2.4.6 'setuptools<81'
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import json
import logging
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

logging.disable(logging.CRITICAL)


def sessions(folder, first):
    writer = SummaryWriter(folder / "run", purge_step=first)
    for step in range(1, 13):
        writer.add_scalar("loss", step, step)
    writer.add_scalar("validation", 1, 11)
    writer.close()
    time.sleep(1.1)  # names of files have whole seconds
    writer = SummaryWriter(folder / "run", purge_step=7)
    for step in range(7, 11):
        writer.add_scalar("loss", 100 + step, step)
    writer.close()


def accumulated(folder):
    reader = EventAccumulator(str(folder / "run"))
    reader.Reload()
    return [[(event.step, event.value) for event in reader.Scalars(tag)] for tag in ("loss", "validation")]


def served(folder, fast):
    words = ["--logdir", str(folder), "--host", "127.0.0.1", "--port", "0", f"--load_fast={fast}"]
    command = [sys.executable, "-m", "tensorboard.main", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
            return [rows_of(f"{address}data/plugin/scalars/scalars?run=run&tag={tag}") for tag in ("loss", "validation")]
        finally:
            server.terminate()


def rows_of(url):
    for _ in range(120):
        try:
            if rows := json.load(urllib.request.urlopen(url, timeout=10)):
                return [(step, value) for _, step, value in rows]
        except urllib.error.HTTPError:
            pass  # not loaded yet
        time.sleep(0.25)
    return []


def said(name, loss, validation):
    print(f"  {name}: loss at", *(f"{step}{'*' if value > 100 else ''}" for step, value in loss), end="; ")
    print("validation at", *([step for step, _ in validation] or ["none"]))


for first in (None, 0):
    folder = Path(sys.argv[1]) / str(first)
    sessions(folder, first)
    print(f"purge_step={first}, then purge_step=7 (* of the second session)")
    said("EventAccumulator", *accumulated(folder))
    said("--load_fast=false", *served(folder, "false"))
    said("--load_fast=true", *served(folder, "true"))
PY
cat >"$work/known" <<'TXT'
purge_step=None, then purge_step=7 (* of the second session)
  EventAccumulator: loss at 1 2 3 4 5 6 7* 8* 9* 10*; validation at none
  --load_fast=false: loss at 1 2 3 4 5 6 7 8 9 10 11 12 7* 8* 9* 10*; validation at 11
  --load_fast=true: loss at 1 2 3 4 5 6 7* 8* 9* 10*; validation at 11
purge_step=0, then purge_step=7 (* of the second session)
  EventAccumulator: loss at 1 2 3 4 5 6 7* 8* 9* 10*; validation at none
  --load_fast=false: loss at 1 2 3 4 5 6 7* 8* 9* 10*; validation at none
  --load_fast=true: loss at 1 2 3 4 5 6 7* 8* 9* 10*; validation at 11
TXT
(cd "$work" && "$python" case.py "$work/logs" 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: loss at 1 to 10, each once, and no validation, by every reader."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
