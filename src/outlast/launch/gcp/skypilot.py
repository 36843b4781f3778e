"""A session as a task of SkyPilot, which finds a machine, and starts the training again when it is taken back.

Keys: SkyPilot's reference of the task YAML, version 0.14. outlast does not import SkyPilot.
"""

from __future__ import annotations

import io
import shlex
import shutil
import zipfile
from pathlib import Path
from typing import Any

from outlast.errors import EXIT_RUN_AGAIN
from outlast.folder import durable
from outlast.launch.bundle import flags_of, own_recipe
from outlast.launch.gcp.terms import GcpTerms, skypilot_accelerator
from outlast.launch.provider import Request

_HOME = "~/outlast"
_CORE = ("numpy", "pydantic", "PyYAML", "rich", "xxhash", "google-auth", "requests")


def write_task(request: Request, terms: GcpTerms, folder: Path) -> Path:
    """Write the task NAME.skypilot.yaml and the code beside it; returns the task's path.

    Each checkpoint is pushed to the bucket, so that the next machine continues there. `sky jobs launch FILE` runs it.
    """
    code = folder / f"{request.name}.code"
    durable.remove_any(code)
    with zipfile.ZipFile(io.BytesIO(request.bundle.data)) as archive:
        archive.extractall(code)
    for name, path in request.files.items():
        target = code / "inputs" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    place = folder / f"{request.name}.skypilot.yaml"
    text = (
        f"# Run it with: sky jobs launch {shlex.quote(str(place))}\n"
        "# The paths below file_mounts are those of this machine.\n"
    )
    durable.write_file(place, [(text + _yaml(task(request, terms, code))).encode()])
    return place


def _yaml(value: dict[str, Any]) -> str:
    """YAML with texts of several lines as such."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, words: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", words, style="|" if "\n" in words else None)

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, width=1000)


def task(request: Request, terms: GcpTerms, code: Path) -> dict[str, Any]:
    """The task as a mapping.

    Args:
        request: what is trained.
        terms: the machine.
        code: the folder that is sent.
    """
    resources: dict[str, Any] = {"infra": f"gcp/*/{terms.zone}" if terms.zone else "gcp"}
    if terms.gpu:
        resources["accelerators"] = skypilot_accelerator(terms.gpu)
    else:
        resources["instance_type"] = terms.machine
    resources |= {
        "disk_size": terms.disk,
        "use_spot": terms.spot,
        "job_recovery": {"recover_on_exit_codes": [EXIT_RUN_AGAIN]},
        "autostop": {"idle_minutes": 10, "down": True},
    }
    wanted = [*_CORE, *terms.install]
    setup = [f"python3 -m pip install --quiet {shlex.join(wanted)}"]
    for own in ("recipe", "command"):
        file = f"{_HOME}/{own}/requirements.txt"
        setup.append(f"test ! -e {file} || python3 -m pip install --quiet -r {file}")
    return {
        "name": request.name,
        "resources": resources,
        "envs": {"PYTHONPATH": "."},
        "file_mounts": {_HOME: str(code.absolute())},
        "setup": "\n".join(setup),
        "run": f"cd {_HOME}\nOUTLAST_INPUTS=inputs {shlex.join(_words(request, terms))}",
    }


def _words(request: Request, terms: GcpTerms) -> list[str]:
    """The command that trains, with a remote in the bucket."""
    asked = request.asked
    common = [
        "--checkpoint-dir=runs",
        f"--budget={terms.limits.training(request.terms):g}s",
        f"--remote={asked['values'].get('remote') or f'{terms.bucket}/runs'}",
    ]
    python = ["python3", "-m", "outlast"]
    if "command" in asked:
        return [*python, "run", f"--name={request.run}", *common, *asked["flags"], "--", *asked["command"]]
    recipe = own_recipe(asked["source"]) or asked["source"]
    stage = [f"--stage={asked['stage']}"] if asked.get("stage") else []
    values = {name: value for name, value in asked["values"].items() if name != "remote"}
    name = f"--experiment-name={asked.get('chain') or request.run}"
    return [*python, "train", str(recipe), *stage, *flags_of(values), name, *common]
