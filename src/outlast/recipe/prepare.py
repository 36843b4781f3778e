"""Prepares and starts a run of a recipe: environment, previous values of the run, and all values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from outlast.checkpoint import Checkpoint, CheckpointStore, Retention, read_manifest
from outlast.config import ResolvedConfig, resolve
from outlast.config.words import nearest
from outlast.distributed import ranks
from outlast.environment import Environment
from outlast.errors import CorruptCheckpoint, ObjectMissing, RunNotFinished, SessionEnded, UnknownName, UsageError
from outlast.folder import layout
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import CONFIG
from outlast.recipe import belonging
from outlast.recipe.recipe import Recipe
from outlast.recipe.registry import loaded
from outlast.recipe.scratch import scratch
from outlast.recipe.surroundings import surroundings
from outlast.remote.address import open_remote
from outlast.remote.attached import copies_of, stored_config
from outlast.run.arguments import remote_address
from outlast.run.open import open_run
from outlast.run.run import Run
from outlast.tracking import Sink

VARIABLES = {"checkpoint_dir": "OUTLAST_ROOT"}
"""Key of a config -> the environment variable that gives its value, where no file and no flag does."""


@dataclass(frozen=True)
class Request:
    """A request of the user, before it is checked.

    Attributes:
        environment: "auto", or the name of one, such as "local".
        data_config: a data YAML, or None.
        model_config: a model YAML, or None.
        train_config: a train YAML, or None.
        resume: a run's name, a run folder, or a checkpoint folder; None to continue the run of this name, or begin it.
        stage: a stage of a recipe that has several, or None.
        flags: dotted key -> text or boolean, only what was given.
    """

    environment: str = "auto"
    data_config: Path | None = None
    model_config: Path | None = None
    train_config: Path | None = None
    resume: str | None = None
    stage: str | None = None
    flags: Mapping[str, str | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedRun:
    """A request that makes sense: everything is typed and nothing was written yet.

    Attributes:
        recipe: the recipe.
        environment: where this is.
        environment_file: the preferences that were read for it.
        resolved: values and origins.
        run_id: the run's name.
        fork_of: the checkpoint that a new run is to begin from, or None.
        given: the flags as they were typed.
        chain: the name that the runs of all stages begin with; None when the recipe has no stages.
    """

    recipe: Recipe
    environment: Environment
    environment_file: Path | None
    resolved: ResolvedConfig[Any]
    run_id: str
    fork_of: Checkpoint | None = None
    given: Mapping[str, str | bool] = field(default_factory=dict)
    chain: str | None = None

    @property
    def folder(self) -> RunFolder:
        """The run folder, which may not exist yet."""
        return RunFolder(self.resolved.config.checkpoint_dir / self.run_id)


def prepare(recipe: Recipe, request: Request) -> PreparedRun:
    """Find out where this is, what the run already has, and what every value is. Writes nothing.

    Raises:
        ConfigError: a layer is wrong.
        UsageError: the run is of another recipe or stage.
        ResumeRefused: a field that the run keeps forever was given another value.
        UnknownName: there is nothing to resume under that name.
    """
    if request.stage:
        recipe = recipe.of_stage(request.stage)
    environment, environment_file = surroundings(request.environment)
    cores = environment.limits.places.get("cores")

    def resolved(stored: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None = None) -> ResolvedConfig[Any]:
        return resolve(
            recipe.Config,
            limits={"cores": environment.limits.cores},
            limits_of=f"environment {cores}" if cores else environment.name,
            flags=request.flags,
            variables=VARIABLES,
            environment_file=environment_file,
            data_file=request.data_config,
            model_file=request.model_config,
            train_file=request.train_config,
            stored=stored,
            earlier=earlier,
        )

    # What decides which run this is belongs to the session, so the run's own values cannot change it.
    first = resolved(None)
    root, name, fork_of = _which_run(
        request.resume, first.config.checkpoint_dir, first.config.experiment_name, recipe.name, environment.inputs
    )
    run_id, chain = (f"{name}.{request.stage}", name) if request.stage and not request.resume else (name, None)
    layout.check_run_id(run_id)
    begun = RunFolder(fork_of.path.parents[1] if fork_of else root / run_id)
    belonging.check(begun, recipe, () if fork_of else environment.inputs)
    stored = stored_config(begun, environment.inputs)
    address = None if fork_of else remote_address(first.config.remote)
    if stored is None and address:
        stored = _stored_there(run_id, address)
    earlier = _of_chain(recipe, root, chain, environment.inputs, address) if chain and stored is None else None
    final = resolved(stored, earlier)
    if root != first.config.checkpoint_dir:
        final = replace(final, config=final.config.model_copy(update={"checkpoint_dir": root}))
    return PreparedRun(recipe, environment, environment_file, final, run_id, fork_of, request.flags, chain)


def _of_chain(
    recipe: Recipe, root: Path, chain: str, inputs: Sequence[Path], address: str | None
) -> dict[str, Any] | None:
    """The config of the nearest earlier stage that was begun: a stage that was not begins with the chain's values."""
    names = [stage.name for stage in recipe.links]
    own = recipe.stage.name if recipe.stage else ""
    for name in reversed(names[: names.index(own)] if own in names else ()):
        run_id = f"{chain}.{name}"
        found = stored_config(RunFolder(root / run_id), inputs)
        if found is None and address:
            found = _stored_there(run_id, address)
        if found:
            return found
    return None


def _stored_there(run_id: str, address: str) -> dict[str, Any] | None:
    """The config that a run was last trained with, as a remote holds it; None when it holds none.

    Raises:
        CorruptCheckpoint: what it holds is none.
        RemoteError: it does not answer, or refuses.
    """
    from outlast.remote.revision import PushedRun  # here and below: what most starts need not import

    with contextlib.closing(open_remote(address, writes=False)) as remote, contextlib.suppress(ObjectMissing):
        return PushedRun(remote, run_id).place.read_record("config.json", CONFIG)
    return None


def start(prepared: PreparedRun, *, progress: str = "auto", sinks: Sequence[Sink] = ()) -> Run:
    """Open the run and train it; returns the closed run when it is finished.

    Raises:
        SessionEnded: the session is over and the run is not.
    """
    config, recipe = prepared.resolved.config, loaded(prepared.recipe)  # frameworks are imported before a run opens
    if recipe.train is None and recipe.stage is None:
        names = ", ".join(stage.name for stage in recipe.links)
        raise UsageError(
            f"The recipe {recipe.name!r} has the stages {names}; choose one with --stage. Nothing was trained."
        )
    if recipe.ranks:
        ranks.meet()
    if prepared.fork_of:
        from outlast.remote.fork import fork

        source = prepared.fork_of
        (channel,) = ranks.connect(1)
        origin = RunFolder(source.path.parents[1])
        channel.together(
            "beginning from an old state",
            lambda: fork(origin, source, prepared.folder) if channel.is_main else None,
        )
    keep = Retention(
        last=config.keep_last,
        best=config.keep_best if recipe.metric else 0,
        metric=recipe.metric,
        mode=recipe.mode,
        every=config.keep_every,
    )
    try:
        with (
            scratch(config.scratch_dir),
            open_run(
                prepared.run_id,
                root=config.checkpoint_dir,
                save=config.save_every,
                keep=keep,
                budget=config.budget,
                reserve=config.reserve,
                config=prepared.resolved,
                recipe=recipe.source,
                grade=recipe.grade,
                environment=prepared.environment,
                progress=progress,
                sinks=[*sinks, *_trackers(config.sinks)],
                deterministic=config.deterministic,
                results=config.results_dir,
                renamed=recipe.renamed,
                remote=config.remote,
                remote_rate=config.remote_rate,
            ) as run,
        ):
            if words := belonging.remark(prepared.folder, recipe):
                run.tell(words)
            if recipe.stage:
                from outlast.recipe import inputs

                inputs.train(run, config, recipe)
            elif recipe.train:
                recipe.train(run, config)
    except RunNotFinished as ended:  # in a notebook; the caller gets the same exception as elsewhere
        raise SessionEnded(ended.reason) from None
    return run


def _trackers(names: Sequence[str]) -> Sequence[Sink]:
    """The sinks of trackers."""
    if not names:
        return ()
    from outlast.tracking.sinks.tracker import tracker

    return [tracker(name) for name in names]


def locate(resume: str, root: Path, inputs: Iterable[Path] = ()) -> Path | None:
    """The folder of a run by its name or path: among the runs, at that path, or attached by the platform."""
    attached = [place.path for place in copies_of(resume, inputs)] if "/" not in resume else []
    for folder in (Path(resume), root / resume, *attached):
        try:
            if (folder / "run.json").is_file():
                return folder.resolve()
        except (OSError, ValueError):  # a name that no file can have
            continue
    return None


def _which_run(
    resume: str | None, root: Path, name: str | None, recipe: str, inputs: Sequence[Path]
) -> tuple[Path, str, Checkpoint | None]:
    """Folder of runs, run id, and the checkpoint to fork from, if any."""
    if resume is None:
        return root, name or recipe, None
    path = Path(resume)
    if layout.step_of(path) is not None and path.is_dir():
        return _at_checkpoint(path, root, name, inputs)
    folder = locate(resume, root, inputs)
    if folder is not None:
        if name not in (None, folder.name):
            raise UsageError(
                f"--resume {resume} continues the run {folder.name!r} and --experiment-name says {name!r}. To begin a "
                "new run from an old one's state, give one of its checkpoint folders to --resume."
            )
        return _home(folder, root, inputs), folder.name, None
    if path.is_file():
        raise UsageError(
            f"{path} is a file. outlast resumes from a run's name, a run folder, or one of its checkpoint folders "
            "(runs/NAME/checkpoints/step-00001200); pickled checkpoints (.pt, .pth, .pkl) are never loaded, because "
            "loading one can run code."
        )
    there = sorted(p.parent.name for p in root.glob("*/run.json"))
    known = f"{root} holds {', '.join(there)}." if there else f"{root} holds no runs yet."
    raise UnknownName(f"There is no run or checkpoint {resume!r}. {known}{nearest(resume, there)}")


def _home(folder: Path, root: Path, inputs: Sequence[Path]) -> Path:
    """The folder in which a run continues.

    That is there, or in `root` when a platform attached the folder read-only.
    """
    attached = any(folder.is_relative_to(place.resolve()) for place in inputs)
    return root if attached or folder.parent == root.resolve() else folder.parent


def _at_checkpoint(
    path: Path, root: Path, name: str | None, inputs: Sequence[Path]
) -> tuple[Path, str, Checkpoint | None]:
    checkpoint = read_manifest(path.resolve())
    source = RunFolder(path.resolve().parents[1])
    if not source.run.is_file():
        raise CorruptCheckpoint(
            f"{path} is not inside a run folder: {source.run} is missing. Copy whole run folders, not single "
            "checkpoints."
        )
    newest = CheckpointStore(source).newest_step()
    if checkpoint.step == newest and name in (None, source.path.name):
        return _home(source.path, root, inputs), source.path.name, None
    return root, name or f"{source.path.name}-from-{checkpoint.step}", checkpoint
