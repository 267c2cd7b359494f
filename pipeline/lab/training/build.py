"""From a recipe to a run: the model, its vocabulary, the data and the tasks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from connectors.world.still import StillConfig
from connectors.world.wide.casting import WideContent
from models.build import build_sam3, describe
from models.catalogue import NANO_FOLDER, sam3_network
from models.sam3.network.config import Sam3Config
from models.sam3.network.model import Sam3
from models.sam3.network.refiner import MaskRefiner
from models.sam3.tokenizer import Tokenizer
from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.clips import ClipSet
from pipeline.lab.data.datasets.problems import OnBad
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.training.annotated import (
    AnnotatedClips,
    PictureFiles,
    frames_of,
    read_clips_of,
    read_coco_pictures,
)
from pipeline.lab.training.backbone_task import BackboneTask
from pipeline.lab.training.clips import ClipSource, WorldClips
from pipeline.lab.training.detector_task import DetectorTask
from pipeline.lab.training.distributed import ProcessGroup
from pipeline.lab.training.loop import TrainingRun
from pipeline.lab.training.mixed import MixedClips, MixedPictures
from pipeline.lab.training.optimisers import check_optimiser
from pipeline.lab.training.panels import draw_cells
from pipeline.lab.training.pictures import PictureSource, WorldPictures
from pipeline.lab.training.recipe import CocoData, Recipe, Stage, TaskName, WorldData, YtvisData
from pipeline.lab.training.refiner_task import RefinerTask
from pipeline.lab.training.tasks import Task
from pipeline.lab.training.tracker_task import TrackerTask
from pipeline.lab.training.wide import WideClips, WidePictures

PANEL_SEED = 2_000_003
SHIPPED = "sam3-nano"
ReadClips = Callable[[YtvisData], ClipSet]


def build_run(
    recipe: Recipe, *, out: Path, group: ProcessGroup, text: str | None = None
) -> TrainingRun:
    """Build a run.

    Args:
        recipe: What to do.
        out: Folder of checkpoints, log and pictures.
        group: This process among all.
        text: The recipe as it was written, for the weights to carry.

    Raises:
        ConfigError: If the recipe names a model, weights or data that cannot be had.
    """
    try:
        config = sam3_network(recipe.model)
    except ValueError as error:
        raise ConfigError([f"model: {error}"]) from error
    if _refines(recipe) and config.refiner is None:
        raise ConfigError([f"model {recipe.model!r} has no refiner (accepted: {SHIPPED})"])
    _check_start(recipe)
    _check_sizes(recipe, config.vision.side_step)
    check_optimiser(recipe.optimiser)
    return TrainingRun(
        recipe=recipe,
        make_model=_maker(recipe, config),
        tokenizer=Tokenizer(
            vocabulary_folder(recipe),
            context_length=config.text.context_length,
            vocab_size=config.text.vocab_size,
        ),
        tasks=_tasks(recipe, config),
        out=out,
        group=group,
        is_fresh=recipe.start == "nothing",
        text=text,
    )


def _refines(recipe: Recipe) -> bool:
    return any(stage.task == "refiner" for stage in recipe.stages)


def _check_sizes(recipe: Recipe, step: int) -> None:
    """Refuse pictures that no whole number of windows covers."""
    problems = [
        f"stages[{index}].image_size: {stage.image_size} (accepted: a multiple of {step})"
        for index, stage in enumerate(recipe.stages)
        if stage.image_size % step
    ]
    if problems:
        raise ConfigError(problems)


def _check_start(recipe: Recipe) -> None:
    """Refuse weights that cannot be started from before anything is built."""
    if not isinstance(recipe.start, Path):
        if recipe.model != SHIPPED:
            problem = f"start: {recipe.start!r} is for {SHIPPED}"
            raise ConfigError([f"{problem} (accepted for {recipe.model}: a checkpoint)"])
        return
    try:
        faults = describe(recipe.model, checkpoint=recipe.start).missing
    except ValueError as error:
        raise ConfigError([f"start: {error}"]) from error
    if faults:
        raise ConfigError([f"start: {str(recipe.start)!r}: {fault}" for fault in faults])


def vocabulary_folder(recipe: Recipe) -> Path:
    """Return where the vocabulary lies that goes with the weights to start from."""
    if not isinstance(recipe.start, Path):
        return NANO_FOLDER
    return recipe.start if recipe.start.is_dir() else recipe.start.parent


def _maker(recipe: Recipe, config: Sam3Config) -> Callable[[], Sam3]:
    start = recipe.start if isinstance(recipe.start, Path) else None
    refines = _refines(recipe)

    def make() -> Sam3:
        if recipe.start == "nothing":
            with torch.random.fork_rng():
                torch.manual_seed(recipe.seed)
                return Sam3(config if refines else replace(config, refiner=None))
        model, _ = build_sam3(recipe.model, checkpoint=start)
        if refines and model.mask_refiner is None and config.refiner is not None:
            with torch.random.fork_rng():
                torch.manual_seed(recipe.seed)
                model.mask_refiner = MaskRefiner(config.refiner)
        # Weights as read are views of their file, which training must not write to.
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return model.train()

    return make


def _tasks(recipe: Recipe, config: Sam3Config) -> Mapping[TaskName, Task[Any]]:
    """Return the tasks of the recipe's stages, so that no data is read which none of them needs."""
    patch = config.vision.patch_size
    wanted = {stage.task for stage in recipe.stages}
    read = _reader()
    tasks: dict[TaskName, Task[Any]] = {}
    if wanted != {"tracker"}:
        pictures = _picture_source(recipe, read)
        tasks["backbone"] = BackboneTask(source=pictures, patch_size=patch)
        tasks["detector"] = DetectorTask(source=pictures, patch_size=patch)
        tasks["refiner"] = RefinerTask(source=pictures)
    if "tracker" in wanted:
        tasks["tracker"] = TrackerTask(source=_clip_source(recipe, read), patch_size=patch)
    return tasks


def _reader() -> ReadClips:
    """Return what reads annotations once, also where they serve both pictures and clips."""
    found: dict[tuple[Path, Path], ClipSet] = {}

    def read(data: YtvisData) -> ClipSet:
        key = data.annotations, data.images
        if key not in found:
            found[key] = read_clips_of(data)
        return found[key]

    return read


def _still_config(data: WorldData) -> StillConfig:
    world = HeldOutWorld(data.style)
    nights = world.night_probability if data.nights is None else data.nights
    return StillConfig(max_objects=world.max_objects, night_probability=nights)


def _wide_content(data: WorldData) -> WideContent:
    content = WideContent()
    return replace(
        content,
        crowd_probability=content.crowd_probability if data.crowds is None else data.crowds,
        night_probability=content.night_probability if data.nights is None else data.nights,
        odd_looks=data.odd_looks,
    )


def _picture_source(recipe: Recipe, read: ReadClips) -> PictureSource:
    sources = [(place, _pictures_of(data, read)) for place, data in enumerate(recipe.data)]
    return sources[0][1] if len(sources) == 1 else MixedPictures(sources, _weights(recipe))


def _pictures_of(data: WorldData | CocoData | YtvisData, read: ReadClips) -> PictureSource:
    if isinstance(data, WorldData):
        return (
            WidePictures(content=_wide_content(data))
            if data.style == "wide"
            else WorldPictures(config=_still_config(data))
        )
    if isinstance(data, CocoData):
        return read_coco_pictures(data)
    return frames_of(read(data), data.images, _files_of(data))


def _clip_source(recipe: Recipe, read: ReadClips) -> ClipSource:
    sources = [
        (place, _clips_of(data, read))
        for place, data in enumerate(recipe.data)
        if not isinstance(data, CocoData)
    ]
    if not sources:
        raise ConfigError(["data: only pictures, but a stage trains the tracker on clips"])
    return sources[0][1] if len(sources) == 1 else MixedClips(sources, _weights(recipe))


def _clips_of(data: WorldData | YtvisData, read: ReadClips) -> ClipSource:
    if isinstance(data, YtvisData):
        return AnnotatedClips(clips=read(data).clips, root=data.images, files=_files_of(data))
    if data.style == "wide":
        return WideClips(content=_wide_content(data))
    return WorldClips(config=_still_config(data))


def _files_of(data: YtvisData) -> PictureFiles:
    return PictureFiles(on_bad=OnBad(data.on_bad))


def _weights(recipe: Recipe) -> list[float]:
    return [data.weight for data in recipe.data]


def make_panel(run: TrainingRun) -> Callable[[Sam3, Stage], list[NDArray[np.uint8]]]:
    """Return what draws the model's predictions, always on the same pictures.

    A world makes pictures for it that no step draws; of one's own data it takes crops of pictures
    that training may have seen.
    """

    def panel(model: Sam3, stage: Stage) -> list[NDArray[np.uint8]]:
        rng = np.random.default_rng((PANEL_SEED, run.recipe.seed))
        task = run.tasks["tracker" if stage.task == "tracker" else "detector"]
        batch = task.draw(rng, stage.model_copy(update={"images": 8}))
        return draw_cells(model, run.tokenizer, batch)

    return panel
