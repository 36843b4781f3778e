"""outlast prove [flags] -- COMMAND ..., and outlast prove RECIPE [flags]."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from outlast.cli.parser import Parser, dashed, split, whole
from outlast.errors import EXIT_FAILED, EXIT_FINISHED, UsageError
from outlast.integrations import child, prove, prove_files
from outlast.integrations.prove import Asked, Verdict
from outlast.terminal import say

_MOST_KILLS = 1000


def run(argv: list[str]) -> int:
    """Prove that a training survives its interruptions. Returns 0 or 1."""
    own, words = split(argv)
    parser = _parser()
    values, rest = parser.parse_known_args(list(map(dashed, own)))
    is_recipe = not words and bool(rest) and not rest[0].startswith("-")
    if is_recipe:
        words = [sys.executable, "-m", "outlast", "train", *rest]
    else:
        values = parser.parse(own)
    if not words:
        raise UsageError(
            "outlast prove needs a command after `--`, such as `outlast prove -- python train.py`, or a recipe, such "
            "as `outlast prove digits`."
        )
    child.check_program(words[0], Path.cwd(), os.environ)
    with tempfile.TemporaryDirectory(prefix="outlast-prove-") as temporary:
        place = _place(values.folder) if values.folder else Path(temporary)
        asked = Asked(
            argv=(*words, *(("--checkpoint-dir", str(place / "unused")) if is_recipe else ())),
            folder=Path.cwd(),
            place=place,
            steps=values.steps,
            kills=values.kills,
            seed=values.kill_seed,
            tell=lambda line: say(line, error=True),
        )
        verdict = prove_files.prove(asked, values.keep) if values.keep else prove.prove(asked)
    return _show(verdict)


def _show(verdict: Verdict) -> int:
    for line in verdict.lines:
        say(line)
    return EXIT_FINISHED if verdict.identical else EXIT_FAILED


def _place(given: str) -> Path:
    path = Path(given).resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"--folder {given!r:.200} is there and is not an empty folder. Give another one.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _parser() -> Parser:
    parser = Parser(
        "outlast prove",
        "Train a command (`outlast prove -- python train.py`) or a recipe (`outlast prove digits`) undisturbed and "
        "once more with interruptions, and compare all that is saved, byte for byte. Says `identical`, or the first "
        "step that differs and the likely cause. A script that uses outlast needs no change; its runs are not touched.",
    )
    add = parser.add_argument
    add("--steps", type=_steps, default=200, metavar="N", help="steps to train (default: 200)")
    add(
        "--kills",
        type=_kills,
        default=3,
        metavar="N",
        help="interruptions, at random steps: kill -9, SIGTERM and the end of a budget in turn (default: 3)",
    )
    add("--kill-seed", type=_seed, default=0, metavar="N", help="chooses the steps (default: 0)")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="GLOB",
        help="of a command that does not use outlast: the files that it continues from, which are compared at its end; "
        "as of `outlast run`. It is trained to its end",
    )
    add("--folder", metavar="PATH", help="an empty folder for the runs and the output (default: a temporary one)")
    return parser


def _steps(text: str) -> int:
    return whole(text, 2, 10**9)


def _seed(text: str) -> int:
    return whole(text, 0, 2**32 - 1)


def _kills(text: str) -> int:
    return whole(text, 1, _MOST_KILLS)
