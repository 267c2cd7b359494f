"""``maskstream eval``: measures a model on held-out worlds. Heavy imports wait until it is run."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from pipeline.display import write_error, write_line
from pipeline.errors import ConfigError
from pipeline.evaluation.worlds import HeldOutWorld

if TYPE_CHECKING:
    from models.protocols import ConceptDetector
    from pipeline.config import ModelConfig
    from pipeline.evaluation.images import ImageReport
    from pipeline.evaluation.report import Evaluation
    from pipeline.evaluation.video import VideoReport

DEFAULT_MODEL = "sam3-nano"
BAD_USAGE = 2

eval_app = typer.Typer(help="Measure a model on held-out synthetic worlds.", no_args_is_help=True)


class EvaluationKind(StrEnum):
    """What is measured."""

    IMAGES = "images"
    VIDEO = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What to measure.

    Attributes:
        kind: Detection on pictures, or tracking on clips.
        model: A name of the model registry.
        checkpoint: Weights; the shipped ones when left out.
        device: A torch device, or ``auto``.
        samples: Number of pictures or clips, at least 1.
        seed: Chooses among held-out sets, at least 0.
        size: Side of the square frames in pixels.
        world: What the scenes are like.
        gallery: Picture file for the best and the worst, pictures only.
        duration_s: Length of each clip, clips only.
    """

    kind: EvaluationKind
    model: str = DEFAULT_MODEL
    checkpoint: Path | None = None
    device: str = "auto"
    samples: int = 1
    seed: int = 0
    size: int = 168
    world: HeldOutWorld = HeldOutWorld.PLAIN
    gallery: Path | None = None
    duration_s: float = 10.0


def evaluate(request: EvaluationRequest, *, json_output: bool = False) -> "Evaluation":
    """Measure a model and show what was found on stdout: tables, or one line of JSON.

    Raises:
        ConfigError: If the model or its weights cannot be used, or the gallery not be written.
    """
    from rich.console import Console

    from pipeline.evaluation.report import Evaluation, show

    if min(request.samples, request.seed + 1, request.size // 32) < 1:
        given = f"samples {request.samples!r}, seed {request.seed!r}, size {request.size!r}"
        raise ConfigError([f"{given} (accepted: samples from 1, seed from 0, size from 32)"])
    with _progress(request) as on_progress:
        run = _run_images if request.kind == EvaluationKind.IMAGES else _run_video
        report = run(request, on_progress)
    evaluation = Evaluation(model=request.model, checkpoint=request.checkpoint, report=report)
    if json_output:
        write_line("evaluation", **evaluation.to_fields())
    else:
        show(evaluation, Console(highlight=False))
    return evaluation


def _run_images(request: EvaluationRequest, on_progress: Callable[[], None]) -> "ImageReport":
    from pipeline.evaluation.gallery import write_gallery
    from pipeline.evaluation.images import ImageSettings, evaluate_images

    detector = _build_detector(request)
    settings = ImageSettings(
        num_pictures=request.samples,
        seed=request.seed,
        width=request.size,
        height=request.size,
        world=request.world,
    )
    report = evaluate_images(detector, settings, on_progress=on_progress)
    if request.gallery is not None:
        write_gallery(detector, report, request.gallery)
    return report


def _run_video(request: EvaluationRequest, on_progress: Callable[[], None]) -> "VideoReport":
    from pipeline.app import build_model
    from pipeline.evaluation.video import VideoSettings, evaluate_video

    tracker = build_model(_model_config(request))
    settings = VideoSettings(
        num_clips=request.samples,
        seed=request.seed,
        width=request.size,
        height=request.size,
        duration_s=request.duration_s,
        world=request.world,
    )
    return evaluate_video(tracker, settings, on_progress=on_progress)


def _build_detector(request: EvaluationRequest) -> "ConceptDetector":
    from models.registry import build_detector
    from pipeline.app import check_model_name, choose_device

    config = _model_config(request)
    check_model_name(config.name)
    device = choose_device(config.device)
    try:
        return build_detector(config.name, checkpoint=config.checkpoint, device=device)
    except ValueError as error:
        raise ConfigError([f"model: {error}"]) from error


def _model_config(request: EvaluationRequest) -> "ModelConfig":
    from pipeline.config import ModelConfig

    try:
        return ModelConfig(name=request.model, checkpoint=request.checkpoint, device=request.device)
    except ValidationError as error:
        raise ConfigError(
            [f"{item['loc'][0]}: {item['msg']}" for item in error.errors()]
        ) from error


@contextmanager
def _progress(request: EvaluationRequest) -> Generator[Callable[[], None]]:
    """Show a bar on stderr, where a person is looking."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(request.kind, total=request.samples)
        yield lambda: bar.advance(task)


@contextmanager
def _telling() -> Generator[None]:
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            write_error(problem)
        raise typer.Exit(BAD_USAGE) from None


Model = Annotated[str, typer.Option(help="Name of the model, see 'models list'.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Weights of the model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Seed = Annotated[int, typer.Option(min=0, help="Chooses among the held-out sets.")]
Size = Annotated[int, typer.Option(min=32, help="Side of the square frames in pixels.")]
WorldOption = Annotated[
    HeldOutWorld,
    typer.Option("--world", help="plain: day, 2 or 3 objects; full: nights too, up to 5."),
]
Json = Annotated[bool, typer.Option("--json", help="Write machine-readable lines to stdout.")]


@eval_app.command("images")
def evaluate_pictures(  # noqa: PLR0913 - one parameter per flag
    *,
    model: Model = DEFAULT_MODEL,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    samples: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 200,
    seed: Seed = 0,
    size: Size = 168,
    world: WorldOption = HeldOutWorld.PLAIN,
    gallery: Annotated[
        Path | None, typer.Option(help="Picture file for the worst and the best pictures.")
    ] = None,
    json_lines: Json = False,
) -> None:
    """Detection on single pictures: cgF1 and its parts."""
    request = EvaluationRequest(
        kind=EvaluationKind.IMAGES,
        model=model,
        checkpoint=checkpoint,
        device=device,
        samples=samples,
        seed=seed,
        size=size,
        world=world,
        gallery=gallery,
    )
    with _telling():
        evaluate(request, json_output=json_lines)


@eval_app.command("video")
def evaluate_clips(  # noqa: PLR0913 - one parameter per flag
    *,
    model: Model = DEFAULT_MODEL,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    samples: Annotated[int, typer.Option(min=1, help="Number of clips.")] = 10,
    seed: Seed = 0,
    size: Size = 168,
    world: WorldOption = HeldOutWorld.PLAIN,
    duration: Annotated[float, typer.Option(min=0.1, help="Length of each clip, s.")] = 10.0,
    json_lines: Json = False,
) -> None:
    """Tracking on clips: J&F, identity switches, false tracks."""
    request = EvaluationRequest(
        kind=EvaluationKind.VIDEO,
        model=model,
        checkpoint=checkpoint,
        device=device,
        samples=samples,
        seed=seed,
        size=size,
        world=world,
        duration_s=duration,
    )
    with _telling():
        evaluate(request, json_output=json_lines)
