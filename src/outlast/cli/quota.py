"""outlast quota."""

from __future__ import annotations

from outlast.cli import show
from outlast.cli.flags import Parser
from outlast.errors import EXIT_FINISHED
from outlast.terminal import say, say_json


def run(argv: list[str]) -> int:
    """Print what is left of this week's accelerator hours."""
    parser = Parser("outlast quota", "Print what is left of this week's GPU and TPU hours on Kaggle.")
    parser.add_argument("--json", action="store_true", help="one JSON object, in seconds")
    values = parser.parse(argv)
    from outlast.launch.kaggle import Kaggle, find_credential

    credential = find_credential()
    quota = Kaggle(credential, patience=60.0).quota()
    rows = (("GPU", quota.gpu_used, quota.gpu_total), ("TPU", quota.tpu_used, quota.tpu_total))
    if values.json:
        found = {name.lower(): {"used": used, "total": total} for name, used, total in rows}
        say_json(found | {"refresh": quota.refresh.isoformat() if quota.refresh else None})
        return EXIT_FINISHED
    table = show.table("on Kaggle", "left", "used", "of", right=("left", "used", "of"))
    for name, used, total in rows:
        table.add_row(name, *(f"{seconds / 3600:.1f} h" for seconds in (max(0.0, total - used), used, total)))
    show.console().print(table)
    if quota.refresh:
        say(f"given anew {quota.refresh:%A %d %B, %H:%M} UTC · login from {credential.source}")
    return EXIT_FINISHED
