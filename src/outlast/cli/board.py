"""outlast board."""

from __future__ import annotations

import argparse

from outlast.cli import show
from outlast.cli.parser import Parser
from outlast.errors import EXIT_FINISHED
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Serve the report of all runs of a folder, live, until Ctrl-C."""
    parser = Parser(
        "outlast board", "Show all runs of a folder in a browser of this machine, live. Nothing is written."
    )
    parser.add_argument(
        "--root", "--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)"
    )
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="port on 127.0.0.1 (default: any free one)")
    values = parser.parse(argv)
    from outlast.report.board import Board

    board = Board(show.root_of(values.root), values.port)
    say(
        f"Open {board.address}",
        "The address is for you only: whoever has it can read these runs on this machine. Ctrl-C ends the board.",
    )
    try:
        board.serve_forever()
    except KeyboardInterrupt:
        say("The board has stopped; runs continue.")
    finally:
        board.ended.set()
        board.server_close()
    return EXIT_FINISHED


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError(f"is {text}; expected 0 to 65535")
    return value
