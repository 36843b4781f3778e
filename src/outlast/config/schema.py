"""The typed values of a run. A recipe's config is a subclass of `Config` or `SupervisedConfig`.

Nothing else knows which fields exist.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from outlast.config.units import Interval, parse_interval, parse_seconds
from outlast.errors import ConfigError
from outlast.folder.layout import RUN_ID

OnResume = Literal["fixed", "warns", "free", "place", "session"]
"""What a resume may do with a field.

fixed: another value is refused (architecture, data, seed).
warns: another value is used, with a warning that this is another training (learning rate).
free: another value is used, with a message (epochs, save interval).
place: the location of an input (data, a teacher). That of this session or of the environment is used; otherwise the
run's own, if it still exists.
session: belongs to the machine of this attempt, and is not kept (device, budget, folders to write to).
"""

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]

Seconds = Annotated[float | None, BeforeValidator(parse_seconds)]


def setting(
    default: Any,
    help: str,  # noqa: A002 - the word that argparse and every CLI library use
    *,
    on_resume: OnResume | None = None,
    flags: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    limit: str | None = None,
    clampable: bool = True,
    older: Any = ...,
    **limits: Any,
) -> Any:
    """Declare a field of a config.

    Args:
        default: the value if no layer gives one.
        help: one line for --help: a phrase with its noun, without a full stop.
        on_resume: see OnResume; by default that of the section, else "warns".
        flags: other spellings on the command line ("-b", "--lr").
        aliases: other names in YAML files.
        limit: the attribute of `Limits` that bounds this value.
        clampable: a value over the limit is reduced to it; otherwise it is refused.
        older: the value of runs that were begun before the field existed, where `default` would change their model or
            their training.
        **limits: ge, gt, le, lt as in pydantic.
    """
    extra: Any = {
        "on_resume": on_resume,
        "flags": list(flags),
        "aliases": list(aliases),
        "limit": limit,
        "clampable": clampable,
        **({} if older is ... else {"older": older}),
    }
    return Field(default, description=help, json_schema_extra=extra, validate_default=True, **limits)


_ZEROS = re.compile(r"[+-]?0[0-9_]")
_LOGIN = re.compile(r"(?i)://[^/@]*:[^/@]*@|^https?://[^/@]+@")


def _path(value: str) -> Path | None:
    """A path with ~ and ~user as their folders; shells leave them in `--flag=~/x`, and YAML has none."""
    if value.lower() == "none":
        return None
    if not value or "\x00" in value:
        raise ValueError("expected a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # no such user
        raise ValueError(f"expected a path ({str(error).removesuffix('.')})") from error


def _kinds(annotation: Any) -> set[type]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_kinds(part) for part in typing.get_args(annotation)))
    if origin is Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if origin is Literal:
        return {type(choice) for choice in typing.get_args(annotation)}
    found = origin or annotation
    return {found} if isinstance(found, type) else set()


class Section(BaseModel):
    """A frozen group of fields that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and bool not in wanted and wanted & {int, float}:
            raise ValueError("expected a number, not true or false")
        if isinstance(value, str) and wanted & {int, float} and str not in wanted and _ZEROS.match(value.strip()):
            raise ValueError(
                "expected a number without leading zeros, which some read as octal: write "
                f"{value.strip().lstrip('+-0_') or 0}"
            )
        if isinstance(value, str) and Path in wanted:
            return _path(value)
        if isinstance(value, str) and wanted & {tuple, list}:
            return [item.strip() for item in value.split(",") if item.strip()]
        if isinstance(value, str) and value.lower() == "none" and type(None) in wanted:
            return None
        return value


class Publication(Section):
    """Where a run is published, and whether the end of a training publishes it."""

    to: str | None = setting(None, "destination of `outlast publish`: git+dvc, or the address of a store")
    store: str | None = setting(None, "with git+dvc: address of the store of the weights")
    git: str | None = setting(None, "with git+dvc: git remote or URL; origin by default")
    title: str | None = setting(None, "with kaggle://OWNER/NAME: title of the dataset; its name by default")
    when: Literal["never", "finished"] = setting(
        "never", "when training publishes the run: never, or when it is finished"
    )

    @field_validator("title")
    @classmethod
    def _a_title(cls, value: str | None) -> str | None:
        if value is not None and not (6 <= len(value) <= 50 and value.isprintable()):
            raise ValueError("expected 6 to 50 characters, as Kaggle takes them")
        return value

    @field_validator("to", "store", "git")
    @classmethod
    def _without_secret(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Refuse a secret, because values are recorded and published."""
        if value and _LOGIN.search(value):
            raise ConfigError(
                f"publish.{info.field_name} has a password or token in it; it is not shown. Addresses are written "
                "down: take it out, and set a variable such as OUTLAST_GIT_TOKEN instead."
            )
        return value


class Config(Section):
    """Fields of every recipe: folders, device, saves, logs, publication, and the budget."""

    checkpoint_dir: Path = setting(
        Path("runs"),
        "folder that holds the run folders (or OUTLAST_ROOT)",
        on_resume="session",
        aliases=("checkpoint_root",),
    )
    log_dir: Path | None = setting(
        None, "folder for a CSV copy of each run's metrics", on_resume="session", aliases=("log_root",)
    )
    results_dir: Path | None = setting(
        None, "folder for artifacts, instead of the run's own", on_resume="session", aliases=("results_root",)
    )
    scratch_dir: Path | None = setting(
        None,
        "folder for temporary files; that of the system by default",
        on_resume="session",
        aliases=("temp_workspace",),
    )
    experiment_name: str | None = setting(None, "name of the run; the recipe's name by default", on_resume="session")

    seed: int = setting(42, "seed of all random numbers", on_resume="fixed", ge=0, lt=2**63)
    device: str = setting("auto", "device: cpu, cuda, cuda:0, ..., or auto", on_resume="session")
    deterministic: bool = setting(default=False, help="use deterministic kernels: the same bits every time")
    debug: bool = setting(default=False, help="write a log line for every step")

    save_every: str = setting(
        "auto",
        'save interval: auto, every step, or for example "10m", "500 steps", "1 epoch" or "10m, 1 epoch"',
        on_resume="free",
    )
    keep_last: int = setting(3, "number of newest checkpoints to keep", on_resume="free", ge=1)
    keep_best: int = setting(
        1,
        "number of best checkpoints to keep, by the recipe's metric",
        on_resume="free",
        aliases=("keep_best_k",),
        ge=0,
    )
    keep_every: int | None = setting(None, "keep every checkpoint at a multiple of N steps", on_resume="free", ge=1)
    log_every: int = setting(
        10, "number of steps between two journal lines", on_resume="free", aliases=("log_frequency",), ge=1
    )
    remote: str | None = setting(
        None,
        "address to which each checkpoint is pushed: gs://bucket/prefix, s3://..., sftp://..., or a folder",
        on_resume="session",
        aliases=("cloud.remote",),
    )
    remote_rate: float | None = setting(
        None,
        "average rate limit of pushing, in MB/s",
        on_resume="session",
        aliases=("cloud.remote_rate",),
        gt=0,
    )
    publish: Publication = setting(Publication(), "publication", on_resume="session")
    log_csv: Path | None = setting(None, "CSV file to which the metrics are also written", on_resume="session")
    sinks: tuple[Tracker, ...] = setting(
        (), "trackers that show the run, for example tensorboard; several with commas", on_resume="free"
    )
    budget: Seconds = setting(None, "time budget of this session, for example 11h30m", on_resume="session", gt=0)
    reserve: Seconds = setting(
        None, "time reserved for the last save; estimated when not given", on_resume="session", ge=0
    )

    @field_validator("save_every")
    @classmethod
    def _interval(cls, value: str) -> str:
        parse_interval(value)
        return value

    @field_validator("log_csv")
    @classmethod
    def _writable(cls, value: Path | None) -> Path | None:
        if value is not None and value.exists() and not value.is_file():
            raise ValueError("expected the name of a file; that is a folder or a device")
        return value

    @field_validator("experiment_name")
    @classmethod
    def _nameable(cls, value: str | None) -> str | None:
        if value is not None and not RUN_ID.fullmatch(value):
            raise ValueError("expected up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit")
        return value

    @property
    def save_interval(self) -> Interval:
        """`save_every`, parsed."""
        return parse_interval(self.save_every)


class SupervisedConfig(Config):
    """Fields of a recipe that trains on the samples of a dataset, epoch by epoch."""

    data_root: Path | None = setting(None, "folder of the data", on_resume="place", flags=("--data-path",))
    epochs: int = setting(
        10, "passes over the training data", on_resume="free", flags=("-e",), aliases=("max_epochs",), ge=1
    )
    batch_size: int = setting(64, "samples per optimizer step", flags=("-b",), ge=1)
    learning_rate: float = setting(1e-3, "peak learning rate", flags=("--lr",), aliases=("lr",), ge=0)
    seed: int = setting(42, "seed of initial weights, data order and augmentation", on_resume="fixed", ge=0, lt=2**63)
    num_workers: int = setting(0, "number of processes that load data", on_resume="session", limit="cores", ge=0)
    pin_memory: bool = setting(default=False, help="copy batches from pinned memory to the GPU", on_resume="session")
    persistent_workers: bool = setting(
        default=False, help="keep the processes that load data from one epoch to the next", on_resume="session"
    )
    mixed_precision: bool = setting(
        default=False, help="train in bfloat16, or in float16 with loss scaling where bfloat16 is not supported"
    )
    debug: bool = setting(default=False, help="use a small subset of the data and write a log line for every step")


@dataclass(frozen=True)
class Leaf:
    """One field of a config, nested ones included: its dotted key and what was declared for it."""

    key: str
    info: FieldInfo
    on_resume: str

    @property
    def extra(self) -> dict[str, Any]:
        """The arguments of `setting`; defaults for a field that was declared without it."""
        given = self.info.json_schema_extra
        return {"flags": [], "aliases": [], "limit": None, "clampable": True} | (
            dict(given) if isinstance(given, dict) else {}
        )

    @property
    def default(self) -> Any:
        """The value when no layer gives one."""
        return self.info.get_default(call_default_factory=True)

    @property
    def kinds(self) -> set[type]:
        """The types that its annotation allows."""
        return _kinds(self.info.annotation)


def leaves(model: type[Section], prefix: str = "", on_resume: str | None = None) -> Iterator[Leaf]:
    """All fields of a config class, depth first. A section that was declared with on_resume gives it to its fields."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        given = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        rule = typing.cast("str | None", given.get("on_resume") or on_resume)
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from leaves(kind, f"{prefix}{name}.", rule)
        else:
            yield Leaf(prefix + name, info, rule or "warns")
