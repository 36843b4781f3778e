"""A chain of runs, read from their folders: the stages of a recipe, in order, with their progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import OutlastError
from outlast.folder import layout
from outlast.report.runs import RunInfo, read_run


@dataclass(frozen=True)
class Link:
    """A stage of a chain.

    Attributes:
        stage: its name.
        info: its run; None if it has none yet.
    """

    stage: str
    info: RunInfo | None

    @property
    def status(self) -> str:
        """The status of its run; pending if it has none yet."""
        return self.info.status if self.info else "pending"

    def __str__(self) -> str:
        """The progress of the stage, such as "vqvae finished at step 1200" or "diffusion running 300/5000"."""
        if self.info is None:
            return f"{self.stage} pending"
        if self.status == "finished":
            return f"{self.stage} finished at step {self.info.step}"
        return f"{self.stage} {self.status} {self.info.step}" + (
            f"/{self.info.total_steps}" if self.info.total_steps else ""
        )

    def as_json(self) -> dict[str, Any]:
        """The stage in the output of --json."""
        found = self.info
        return {
            "stage": self.stage, "run": found.id if found else None, "status": self.status,
            "step": found.step if found else 0, "total_steps": found.total_steps if found else None,
        }  # fmt: skip


def chain_at(name: str, root: Path) -> list[Link]:
    """The stages of a chain, by its name or by the common beginning of the paths of its run folders.

    Empty if there is no such chain.
    """
    return chain_named(Path(name).parent, Path(name).name) if "/" in name else chain_named(root, name)


def chain_named(root: Path, name: str) -> list[Link]:
    """The stages of the chain of a name below a folder of runs, in order; empty if there is no such chain.

    Each run records its chain and stage. A run with another record does not belong to the chain.
    """
    if not layout.RUN_ID.fullmatch(name):
        return []
    found: dict[str, RunInfo] = {}
    names: list[str] = []
    for path in sorted(root.glob(f"{name}.*/run.json")):
        try:
            info = read_run(path.parent)
        except OutlastError:
            continue
        chain = info.about.get("chain")
        if not chain or chain["stage"] not in chain["stages"]:  # not even its own list names it
            continue
        if chain["name"] == name and info.id == f"{name}.{chain['stage']}":
            found[chain["stage"]] = info
            names = max(names, chain["stages"], key=len)
    return [Link(stage, found.get(stage)) for stage in names]


def chain_of(info: RunInfo) -> list[Link]:
    """The chain to which a run belongs; empty if it belongs to none."""
    chain = info.about.get("chain")
    return chain_named(info.folder.parent, chain["name"]) if chain else []


def under_way(links: list[Link]) -> RunInfo:
    """The run of the first unfinished stage that has a run; otherwise that of the last stage that has one."""
    infos = [link.info for link in links if link.info]
    return next((info for info in infos if info.status != "finished"), infos[-1])


def line(links: list[Link]) -> str:
    """All stages on one line."""
    return " -> ".join(map(str, links))
