"""A trained generator of rooms, from the run that trained it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from torch import nn

import outlast
from outlast_recipes.dungeon.config import Config
from outlast_recipes.dungeon.networks import LatentGenerator, generator_of, masked_of
from outlast_recipes.dungeon.sampling import LatentSampler, RedrawingSampler, RoomSampler

GENERATORS: dict[str, Callable[[Config], nn.Module]] = {
    "joint": generator_of,
    "diffusion": generator_of,
    "masked": masked_of,
}
"""The stages whose runs draw rooms, the last one of a chain first."""


def sampler_of(network: nn.Module, config: Config, known: Collection[str]) -> RedrawingSampler:
    """What draws rooms with a network of `GENERATORS`, in evaluation mode. `known`: as in `RoomFacts`."""
    return RedrawingSampler(_sampler(network, config), config.redraws, known)


def _sampler(network: nn.Module, config: Config) -> LatentSampler | RoomSampler:
    if isinstance(network, LatentGenerator):
        steps = min(config.diffusion.sampling_steps, config.num_timesteps)
        return LatentSampler(network.autoencoder, network.denoiser, steps=steps, guidance=config.diffusion.guidance)
    values = config.masked
    return RoomSampler(
        network,
        entropy=values.entropy,
        at_once=values.at_once,
        temperature=values.temperature,
        guidance=values.guidance,
    )


def open_generator(run: str, root: Path, step: str = "latest") -> outlast.SavedCheckpoint:
    """The checkpoint of a run that draws rooms.

    Args:
        run: name or folder of the run, or of a chain: its last stage that has a checkpoint is taken.
        root: folder that holds the run folders.
        step: a step, "latest" or "best".

    Raises:
        outlast.OutlastError: there is no such run, it draws no rooms, or a chain has trained no such stage yet.
    """
    place = Path(run) if "/" in run else root / run
    stages = [stage for stage in GENERATORS if any(place.with_name(f"{place.name}.{stage}").glob("checkpoints/step-*"))]
    if (place / "run.json").exists() or not stages:
        saved = outlast.open_saved(run, root=root, step=step)
    else:
        saved = outlast.open_saved(place.with_name(f"{place.name}.{stages[0]}"), root=root, step=step)
    stage = saved.recipe.stage
    if saved.recipe.name != "dungeon" or stage is None or stage.name not in GENERATORS:
        what = f"the stage {stage.name}" if stage else f"the recipe {saved.recipe.name}"
        raise outlast.OutlastError(
            f"{saved.folder} is the run of {what}, which draws no rooms; expected one of the stages "
            f"{', '.join(GENERATORS)} of dungeon, such as dungeon.joint."
        )
    return saved


def load_sampler(saved: outlast.SavedCheckpoint, part: str | None = None) -> RedrawingSampler:
    """What draws rooms with the weights of a checkpoint of `open_generator`.

    Args:
        saved: the checkpoint.
        part: tracked name of the weights; the averaged ones by default.
    """
    stage = saved.recipe.stage
    assert stage is not None  # noqa: S101 - a checkpoint of `open_generator`
    network = GENERATORS[stage.name](saved.config)
    saved.load_into(network, part)
    # Runs from before training rooms were drawn again do not have them.
    return sampler_of(network.eval(), saved.config, saved.part("facts").get("known", ()))
