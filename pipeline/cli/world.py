"""``maskstream world``: films of the synthetic world with exact truth, as a data set."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from connectors.world.config import Split, WorldSourceConfig
from pipeline.cli.errors import reporting_errors
from pipeline.cli.flag_groups import refuse_unfit, with_flag_groups
from pipeline.cli.flags import Json
from pipeline.cli.output import write_line
from pipeline.errors import ConfigError

# Flags that are shorter than the fields they fill.
_FLAGS = {
    "duration_s": "duration",
    "night_probability": "night",
    "max_objects": "max-objects",
}


class WorldStyle(StrEnum):
    """Which world is filmed."""

    MEADOW = "meadow"
    WIDE = "wide"


_FLAGS_OF_STYLE = {f"--style {WorldStyle.MEADOW}": (), f"--style {WorldStyle.WIDE}": ("split",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFlags:
    """What is filmed."""

    seed: Annotated[int, typer.Option(min=0, help="Scene of the first film; then 1 more each.")] = 0
    films: Annotated[int, typer.Option(min=1, help="Number of films.")] = 1
    style: Annotated[
        WorldStyle, typer.Option(help="meadow: 12 concepts; wide: hundreds, in many places.")
    ] = WorldStyle.WIDE
    split: Annotated[Split, typer.Option(help="Which part of the wide world is shown.")] = (
        Split.TRAIN
    )
    width: Annotated[int, typer.Option(help="Frame width, px.")] = 640
    height: Annotated[int, typer.Option(help="Frame height, px.")] = 360
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 10.0
    duration: Annotated[float, typer.Option(help="Length of a film, s.")] = 10.0
    max_objects: Annotated[int, typer.Option(min=1, help="Most objects, but for crowds.")] = 6
    night: Annotated[float, typer.Option(help="Share of infrared nights, 0 to 1.")] = 0.15


@with_flag_groups
def world(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option(help="Folder for frames, videos and annotations.")],
    scene: SceneFlags,
    phrases: Annotated[int, typer.Option(min=1, help="Phrases asked of each film.")] = 12,
    has_video: Annotated[bool, typer.Option("--video/--no-video", help="Write MP4s too.")] = True,
    json_lines: Json = False,
) -> None:
    """Film the synthetic world, with exact truth in SA-Co/VEval's and COCO's layouts.

    Equal flags give equal films. Frames are below OUT/frames, videos in OUT/videos;
    OUT/annotations.json has masklets and phrases, with negatives, OUT/instances.json objects on
    single frames.
    """
    with reporting_errors(json_lines=json_lines):
        refuse_unfit(context, f"--style {scene.style}", _FLAGS_OF_STYLE)
        from pipeline.lab.data.world_dataset import Film, concept_count, shoot, write_annotations

        films: list[Film] = []
        for number in range(scene.films):
            config = _source_config(scene, scene.seed + number).to_world()
            name = f"{scene.style}_{scene.seed + number:06d}"
            film = shoot(config, name=name, folder=out, questions=phrases, has_video=has_video)
            films.append(film)
            counts = {
                "frames": len(film.file_names),
                "objects": len(film.objects),
                "phrases": len(film.questions),
                "negatives": sum(not covered for covered in film.questions.values()),
            }
            if json_lines:
                write_line("film", name=name, concepts=concept_count(config), **counts)
            else:
                listed = ", ".join(f"{count} {what}" for what, count in counts.items())
                typer.echo(f"{name}: {listed}")
        part = f", split {scene.split}" if scene.style is WorldStyle.WIDE else ""
        write_annotations(films, out, description=f"maskstream's {scene.style} world{part}")
        if not json_lines:
            typer.echo(f"{out / 'annotations.json'}")


def _source_config(scene: SceneFlags, seed: int) -> WorldSourceConfig:
    try:
        return WorldSourceConfig(
            style=scene.style.value,
            split=scene.split,
            seed=seed,
            width=scene.width,
            height=scene.height,
            fps=scene.fps,
            duration_s=scene.duration,
            max_objects=scene.max_objects,
            night_probability=scene.night,
        )
    except ValidationError as error:
        problems = [
            f"--{_FLAGS.get(str(item['loc'][0]), item['loc'][0])}: {item['msg'].lower()}"
            for item in error.errors()
        ]
        raise ConfigError(problems) from error
