"""Hours of a provider's quota: what is left, what a run has used, and an estimate of what it still needs."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import replace

from outlast.checkpoint import CheckpointStore
from outlast.config.units import format_seconds
from outlast.errors import LaunchError
from outlast.folder.layout import RunFolder
from outlast.launch.provider import Limits, Provider, Quota, Terms
from outlast.launch.records import all_launches
from outlast.report import read_run

_WEEK = 7 * 86400.0


def quota_of(provider: Provider, metered: str | None) -> Quota | None:
    """The quota for a kind of hours; None if the provider does not count them."""
    if metered is None or not provider.capabilities.quota:
        return None
    return next((quota for quota in provider.quotas() if quota.kind == metered), None)


def until(quota: Quota) -> float:
    """Seconds until the quota is renewed; 0 if the provider does not report it."""
    if quota.refresh is None:
        return 0.0
    refresh = quota.refresh if quota.refresh.tzinfo else quota.refresh.replace(tzinfo=dt.UTC)
    return (refresh - dt.datetime.now(dt.UTC)).total_seconds()


def within(
    provider: Provider, folders: Sequence[RunFolder], terms: Terms, limits: Limits, gpu_hours: float | None
) -> Terms:
    """The terms of the next session, shortened to the remaining allowed GPU hours.

    `folders`: of the run, and of the other stages of its chain, whose hours count as well.
    """
    if gpu_hours is None or limits.metered != "GPU":
        return terms
    folder, had = folders[0], sum(gpu_seconds(provider, each) for each in folders)
    left = gpu_hours * 3600.0 - had
    if left < limits.least:
        raise LaunchError(
            f"{folder.path.name} has had {had / 3600:.1f} GPU hours, and {gpu_hours:g} are allowed; it is at step "
            f"{CheckpointStore(folder).newest_step()}. Allow more with --max-gpu-hours."
        )
    return replace(terms, seconds=min(limits.training(terms), left - limits.least / 2))


def gpu_seconds(provider: Provider, folder: RunFolder) -> float:
    """Seconds of GPU time that the sessions of a run have used at this provider."""
    return sum(
        float(each.record.get("seconds", 0.0))
        for each in all_launches(folder)
        if each.provider == provider.name and provider.metered(each.record["accelerator"]) == "GPU"
    )


def spent(provider: Provider, folder: RunFolder) -> str:
    """The GPU time as text for the end of a sentence; empty if it is zero."""
    seconds = gpu_seconds(provider, folder)
    return f", after {seconds / 3600:.1f} GPU hours" if seconds else ""


def forecast(provider: Provider, folder: RunFolder) -> str:
    """The estimated remaining time of the run, from the speed of its sessions so far, as text."""
    total = read_run(folder.path).total_steps if folder.run.exists() else None
    step = CheckpointStore(folder).newest_step()
    done = [each for each in all_launches(folder) if "step" in each.record]
    if not total or not step or step >= total:
        return ""
    sessions = -(-(total - step) * len(done) // step)
    took = sum(float(each.record.get("seconds", 0.0)) for each in done)
    more = took * (total - step) / step
    text = f" of {total}: about {sessions} more, {format_seconds(more)} of training"
    quota = quota_of(provider, provider.metered(done[-1].record["accelerator"]))
    if quota is None:
        return text
    days = more / 86400.0
    if quota.total and more > quota.left:
        weeks = (more - quota.left) // quota.total
        days = ((until(quota) or _WEEK) + _WEEK * weeks) / 86400.0
    count = max(1, math.ceil(days))
    hours = f"{quota.left / 3600:.1f} {quota.kind} hours are left this week"
    return f"{text}; {hours}, so about {count} day{'s' if count > 1 else ''}"
