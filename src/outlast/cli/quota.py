"""outlast quota [--on PROVIDER]."""

from __future__ import annotations

from outlast.cli import show
from outlast.cli.parser import Parser
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder import layout
from outlast.launch import providers
from outlast.launch.settings import read_settings
from outlast.terminal import say, say_json


def run(argv: list[str]) -> int:
    """Show the accelerator hours that are left this week."""
    parser = Parser("outlast quota", "Show the accelerator hours that are left this week.")
    parser.add_argument(
        "--on",
        choices=providers.NAMES,
        help="provider (default: from outlast-launch.yaml, else the first that has a quota)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, in seconds")
    values = parser.parse(argv)
    on = values.on or read_settings().where
    names = [on] if on else providers.NAMES
    known = (providers.connect(name, layout.runs_root(), patience=60.0) for name in names)
    counting = [provider for provider in known if provider.capabilities.quota]
    if not counting:
        raise UsageError(f"The provider {on} counts no hours: its sessions are not limited by a weekly quota.")
    provider = counting[0]
    quotas = provider.quotas()
    refresh = next((quota.refresh for quota in quotas if quota.refresh), None)
    if values.json:
        found = {quota.kind.lower(): {"used": quota.used, "total": quota.total} for quota in quotas}
        say_json(found | {"refresh": refresh.isoformat() if refresh else None})
        return EXIT_FINISHED
    table = show.table(f"on {provider.title}", "left", "used", "of", right=("left", "used", "of"))
    for quota in quotas:
        table.add_row(quota.kind, *(f"{seconds / 3600:.1f} h" for seconds in (quota.left, quota.used, quota.total)))
    if quotas:
        show.console().print(table)
    if not refresh:
        say(provider.account())
    else:
        say(f"renewed on {refresh:%A %d %B, %H:%M} UTC · {provider.account()}")
    return EXIT_FINISHED
