"""The model card: README.md of a publication."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from outlast.config import SupervisedConfig, leaves
from outlast.config.units import format_bytes
from outlast.publish.plan import PlannedFile
from outlast.terminal import measured, visible


def write(
    *,
    module: str,
    experiment: str,
    step: int,
    total: int | None,
    time: str,
    metrics: Mapping[str, Any],
    about: Mapping[str, Any],
    software: Mapping[str, Any],
    weights: Iterable[PlannedFile],
    values: Mapping[str, Any],
) -> bytes:
    """The text of the card; nothing in it but the run's own records.

    Args:
        module: what was trained.
        experiment: the run's name.
        step: of the newest checkpoint.
        total: steps that the run was to take.
        time: when that checkpoint was written.
        metrics: the last value of each.
        about: ids and hashes of the run.
        software: versions that trained it.
        weights: the files of weights.
        values: of the configuration.
    """
    head = {"library_name": "outlast", "tags": ["outlast", module], "model_name": experiment}
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(), "---", ""]
    lines += [f"# {_cell(experiment)}", ""]
    of = f" of {total}" if total else ""
    lines += [f"Weights of {_cell(module)} after {step}{of} steps, from the checkpoint of {_cell(time)}.", ""]
    lines += ["## Weights", "", "| file | size | SHA-256 |", "|---|---|---|"]
    lines += [f"| `{_cell(file.path)}` | {format_bytes(file.size)} | `{file.sha256}` |" for file in weights]
    lines += ["", "```python", "import safetensors.torch", ""]
    lines += ['model.load_state_dict(safetensors.torch.load_file("train/weights/last.safetensors"))', "```", ""]
    lines += [_of_what(about), ""]
    if metrics:
        lines += ["## Metrics", "", "| metric | last value |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(measured(value))} |" for name, value in metrics.items()]
        lines.append("")
    if values:
        lines += ["## Configuration", "", "`train/config.json` has these values with their origins.", ""]
        lines += ["| value | |", "|---|---|"]
        lines += [
            f"| {_cell(name)} | {_cell(value)} |"
            for name, value in values.items()
            if value is not None and name not in _of_a_machine()
        ]
        lines.append("")
    lines += ["## Origin", "", "| | |", "|---|---|"]
    lines += [
        f"| {_cell(name)} | {_cell(value)} |" for name, value in {**about, **software}.items() if value is not None
    ]
    lines += ["", "`MANIFEST.json` has the hashes of all files.", ""]
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _of_what(about: Mapping[str, Any]) -> str:
    """What the tensors belong to."""
    part, recipe = _cell(about.get("part")), about.get("recipe")
    whose = f"`{part}` of the run"
    if recipe and "/" not in str(recipe):
        name = _cell(recipe)
        whose = f"`{part}` of the recipe `{name}`, whose network is `model` (`outlast copy {name}` writes its code)"
    return f"They are plain tensors, of {whose}. Loading them runs no code."


@functools.cache
def _of_a_machine() -> frozenset[str]:
    """Values that say nothing of the model: folders, devices and addresses of one session."""
    return frozenset(leaf.key for leaf in leaves(SupervisedConfig) if leaf.on_resume in ("session", "place"))


def _cell(value: object) -> str:
    """Text in a cell of a table."""
    text = visible(value).replace("\\", "\\\\") if "\\" in str(value) else visible(value)
    for char in "|<>`*[]":
        text = text.replace(char, f"\\{char}")
    return text if len(text) <= 300 else f"{text[:297]}..."
