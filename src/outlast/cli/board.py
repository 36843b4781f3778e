"""outlast board."""

from __future__ import annotations

from outlast.cli.parser import Parser, whole
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder import layout
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Serve the report of all runs of a folder, live, until Ctrl-C."""
    parser = Parser(
        "outlast board", "Show all runs of a folder in a browser of this machine, live. Nothing is written."
    )
    parser.add_runs_folder()
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="port on 127.0.0.1 (default: any free one)")
    values = parser.parse(argv)
    root = layout.runs_root(values.checkpoint_dir)
    if not root.is_dir():
        found = "is no folder" if root.exists() else "does not exist"
        raise UsageError(f"{root} {found}; the board needs the folder that holds the run folders (--root PATH).")
    from outlast.report.board import Board

    board = Board(root, values.port)
    say(
        f"Open {board.address}",
        "The address is for you only: whoever has it can read these runs on this machine. Ctrl-C ends the board.",
    )
    if (root / "run.json").is_file():
        say(f"{root} is a run folder, and the board shows runs of a folder: give --root {root.parent}.")
    try:
        board.serve_forever()
    except KeyboardInterrupt:
        say("The board has stopped; runs continue.")
    finally:
        board.ended.set()
        board.server_close()
    return EXIT_FINISHED


def _port(text: str) -> int:
    return whole(text, 0, 65535)
