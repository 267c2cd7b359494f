"""``maskstream eval``: measures a model, or predictions. Heavy imports wait until it is run."""

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.cli.errors import reporting_errors
from pipeline.cli.flag_groups import refuse_unfit, with_flag_groups
from pipeline.cli.flags import Json, ModelFlags
from pipeline.cli.output import progress_bar, write_line
from pipeline.cli.study import study
from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.problems import OnBad
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.set_kinds import ClipSetName, PictureSet, SetRequest

if TYPE_CHECKING:
    from pipeline.lab.evaluation.images import ImageReport
    from pipeline.lab.evaluation.report import Evaluation
    from pipeline.lab.evaluation.set_reports import SetReport
    from pipeline.lab.evaluation.sets import OpenSession
    from pipeline.lab.evaluation.video import VideoReport

eval_app = typer.Typer(
    help="Measure a model on held-out synthetic worlds or published data sets.",
    no_args_is_help=True,
)
eval_app.command("study")(study)


class EvaluationKind(StrEnum):
    """What is measured."""

    IMAGES = "images"
    VIDEO = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFlags:
    """Flags of held-out worlds."""

    seed: Annotated[int, typer.Option(min=0, help="Chooses among the held-out sets.")] = 0
    size: Annotated[int, typer.Option(min=32, help="Side of the square frames in pixels.")] = 168
    world: Annotated[
        HeldOutWorld,
        typer.Option(
            help="plain: day, 2 or 3 objects; full: nights too, up to 5; wide: hundreds of "
            "concepts; wide-combinations, wide-concepts: also what was kept from training."
        ),
    ] = HeldOutWorld.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFlags:
    """Flags of data sets."""

    root: Annotated[Path | None, typer.Option(help="Folder of the set, or of its pictures.")] = None
    annotations: Annotated[
        list[Path] | None,
        typer.Option(help="JSON file of the set; once per annotator for saco-gold."),
    ] = None
    on_bad: Annotated[
        OnBad, typer.Option(help="Refuse a set with broken data, or leave that out.")
    ] = OnBad.FAIL
    save_predictions: Annotated[
        Path | None,
        typer.Option(help="Write predictions as the official evaluators read them."),
    ] = None
    save_results: Annotated[
        Path | None, typer.Option(help="Write results under the official names, as JSON.")
    ] = None

    def to_request(self, *, split: str = "val") -> SetRequest:
        """Return what is asked for."""
        return SetRequest(
            root=self.root,
            annotations=tuple(self.annotations or ()),
            split=split,
            on_bad=self.on_bad,
            predictions=self.save_predictions,
            results=self.save_results,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What to measure on held-out worlds.

    Attributes:
        kind: Detection on pictures, or tracking on clips.
        model: Which model.
        scenes: Which worlds.
        samples: Number of pictures or clips, at least 1.
        gallery: Picture file for the best and the worst, pictures only.
        duration_s: Length of each clip, clips only.
    """

    kind: EvaluationKind
    model: ModelFlags
    scenes: WorldFlags
    samples: int
    gallery: Path | None = None
    duration_s: float = 10.0


def _way(data: PictureSet | ClipSetName) -> str:
    return f"--data {data}"


def _flags_of(data: PictureSet | ClipSetName) -> set[str]:
    """Return the parameters that go with a kind of data, but for those that go with all."""
    if data == PictureSet.WORLD:
        return {*_names(WorldFlags), "samples", "gallery", "duration"}
    names = _names(SetFlags)
    if isinstance(data, PictureSet):
        return names
    if not data.gives_masks:
        return names | {"fps", "phrases_at_once"}
    return names - {"annotations"} | ({"split"} if data.has_splits else set())


def _names(group: type[WorldFlags | SetFlags]) -> set[str]:
    return {field.name for field in fields(group)}


@eval_app.command("images")
@with_flag_groups
def evaluate_pictures(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    *,
    data: Annotated[PictureSet, typer.Option(help="Which pictures.")] = PictureSet.WORLD,
    model: ModelFlags,
    scenes: WorldFlags,
    dataset: SetFlags,
    samples: Annotated[int, typer.Option(min=1, help="Number of pictures of the world.")] = 200,
    gallery: Annotated[
        Path | None, typer.Option(help="Picture file for the worst and the best pictures.")
    ] = None,
    json_lines: Json = False,
) -> None:
    """Detection on single pictures: cgF1 and its parts, average precision."""
    with reporting_errors(json_lines=json_lines):
        refuse_unfit(context, _way(data), {_way(kind): _flags_of(kind) for kind in PictureSet})
        if data is not PictureSet.WORLD:
            request = dataset.to_request()
            _show_set(model, _run_picture_set(model, request, data), json_output=json_lines)
            return
        evaluate(
            EvaluationRequest(
                kind=EvaluationKind.IMAGES,
                model=model,
                scenes=scenes,
                samples=samples,
                gallery=gallery,
            ),
            json_output=json_lines,
        )


@eval_app.command("video")
@with_flag_groups
def evaluate_clips(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    *,
    data: Annotated[ClipSetName, typer.Option(help="Which clips.")] = ClipSetName.WORLD,
    model: ModelFlags,
    scenes: WorldFlags,
    dataset: SetFlags,
    split: Annotated[str, typer.Option(help="Part of the set, where it lists clips.")] = "val",
    fps: Annotated[float, typer.Option(min=0.1, help="Frame rate of the set's clips.")] = 6.0,
    phrases_at_once: Annotated[
        int, typer.Option(min=1, help="Phrases of a pass over a clip; published: one.")
    ] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Number of clips of the world.")] = 10,
    duration: Annotated[
        float, typer.Option(min=0.1, help="Length of each clip of the world, s.")
    ] = 10.0,
    json_lines: Json = False,
) -> None:
    """Tracking on clips: J&F, pHOTA, TETA, identity switches, cgF1 on volumes."""
    with reporting_errors(json_lines=json_lines):
        refuse_unfit(context, _way(data), {_way(kind): _flags_of(kind) for kind in ClipSetName})
        if data is ClipSetName.WORLD:
            request = EvaluationRequest(
                kind=EvaluationKind.VIDEO,
                model=model,
                scenes=scenes,
                samples=samples,
                duration_s=duration,
            )
            evaluate(request, json_output=json_lines)
        elif data.gives_masks:
            report = _run_object_set(model, dataset.to_request(split=split), data)
            _show_set(model, report, json_output=json_lines)
        else:
            pace = fps, phrases_at_once
            report = _run_clip_set(model, dataset.to_request(split=split), data, *pace)
            _show_set(model, report, json_output=json_lines)


@eval_app.command("files")
def evaluate_predictions(
    *,
    gt: Annotated[
        list[Path],
        typer.Option(help="Annotations, once per annotator; or a folder of object masks."),
    ],
    pred: Annotated[Path, typer.Option(help="Predictions, or a folder of the same layout.")],
    on_bad: Annotated[
        OnBad, typer.Option(help="Refuse files with broken data, or leave that out.")
    ] = OnBad.FAIL,
    save_results: Annotated[
        Path | None, typer.Option(help="Write results under the official names, as JSON.")
    ] = None,
    json_lines: Json = False,
) -> None:
    """Score predictions that are there already, of any program."""
    with reporting_errors(json_lines=json_lines):
        from pipeline.lab.evaluation.sets import evaluate_files

        request = SetRequest(on_bad=on_bad, results=save_results)
        _show_set(None, evaluate_files(tuple(gt), pred, request), json_output=json_lines)


def evaluate(request: EvaluationRequest, *, json_output: bool = False) -> "Evaluation":
    """Measure a model and show what was found on stdout: tables, or one line of JSON.

    Raises:
        ConfigError: If the model or its weights cannot be used, or the gallery not be written.
    """
    from pipeline.lab.evaluation.report import Evaluation

    seed, size = request.scenes.seed, request.scenes.size
    if min(request.samples, seed + 1, size // 32) < 1:
        given = f"samples {request.samples!r}, seed {seed!r}, size {size!r}"
        raise ConfigError([f"{given} (accepted: samples from 1, seed from 0, size from 32)"])
    run = _run_images if request.kind == EvaluationKind.IMAGES else _run_video
    report = run(request)
    model = request.model
    evaluation = Evaluation(model=model.model, checkpoint=model.checkpoint, report=report)
    if json_output:
        write_line("evaluation", **evaluation.to_fields())
    else:
        from pipeline.cli.evaluation_tables import show_evaluation

        show_evaluation(evaluation, Console(highlight=False))
    return evaluation


def _show_set(model: ModelFlags | None, report: "SetReport", *, json_output: bool) -> None:
    if json_output:
        fields = {} if model is None else {"model": model.model, "checkpoint": model.checkpoint}
        write_line("evaluation", task="data", **fields, **report.to_fields())
        return
    from pipeline.cli.evaluation_tables import show_set_report

    console = Console(highlight=False)
    if model is not None:
        where = "" if model.checkpoint is None else f", {model.checkpoint}"
        console.print(f"[bold]{model.model}[/bold]{where}")
    show_set_report(report, console)


def _run_images(request: EvaluationRequest) -> "ImageReport":
    from pipeline.lab.detector import build_image_detector
    from pipeline.lab.evaluation.gallery import write_gallery
    from pipeline.lab.evaluation.images import ImageSettings, evaluate_images

    detector = build_image_detector(request.model.to_config())
    scenes = request.scenes
    settings = ImageSettings(
        num_pictures=request.samples,
        seed=scenes.seed,
        width=scenes.size,
        height=scenes.size,
        world=scenes.world,
    )
    with progress_bar(request.kind) as on_total:
        report = evaluate_images(detector, settings, on_progress=on_total(request.samples))
    if request.gallery is not None:
        write_gallery(detector, report, request.gallery)
    return report


def _run_video(request: EvaluationRequest) -> "VideoReport":
    from pipeline.lab.evaluation.video import VideoSettings, evaluate_video
    from pipeline.model_building import build_model

    tracker = build_model(request.model.to_config())
    scenes = request.scenes
    settings = VideoSettings(
        num_clips=request.samples,
        seed=scenes.seed,
        width=scenes.size,
        height=scenes.size,
        duration_s=request.duration_s,
        world=scenes.world,
    )
    with progress_bar(request.kind) as on_total:
        return evaluate_video(tracker, settings, on_progress=on_total(request.samples))


def _run_picture_set(model: ModelFlags, request: SetRequest, data: PictureSet) -> "SetReport":
    from pipeline.lab.detector import build_image_detector
    from pipeline.lab.evaluation.sets import evaluate_picture_set

    detector = build_image_detector(model.to_config())
    with progress_bar(data.value) as on_total:
        return evaluate_picture_set(detector, request, title=data.value, on_total=on_total)


def _run_clip_set(
    model: ModelFlags, request: SetRequest, data: ClipSetName, fps: float, phrases_at_once: int
) -> "SetReport":
    from pipeline.lab.evaluation.runs import TrackingRules
    from pipeline.lab.evaluation.sets import evaluate_clip_set
    from pipeline.model_building import build_model

    tracker = build_model(model.to_config())
    rules = TrackingRules(fps=fps, phrases_at_once=phrases_at_once)
    with progress_bar(data.value) as on_total:
        return evaluate_clip_set(tracker, request, rules, title=data.value, on_total=on_total)


def _run_object_set(model: ModelFlags, request: SetRequest, data: ClipSetName) -> "SetReport":
    from pipeline.lab.evaluation.sets import evaluate_object_set

    open_session = _build_sessions(model)
    with progress_bar(data.value) as on_total:
        return evaluate_object_set(open_session, request, data, on_total=on_total)


def _build_sessions(model: ModelFlags) -> "OpenSession":
    """Return what begins a session per clip; a pixel of a palette can show one object alone."""
    from models.build import build_promptable_tracker
    from models.sam2.video import VideoOptions, VideoSession
    from pipeline.model_building import build_with

    tracker = build_with(build_promptable_tracker, model.to_config())
    return lambda clip: VideoSession(
        tracker, options=VideoOptions(non_overlapping=not clip.has_object_files)
    )
