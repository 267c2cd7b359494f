"""What studies on clips share: the tracker that looks, and the measures of a report."""

from models.protocols import ConceptTracker
from pipeline.config.sections.model import ModelConfig
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.video import VideoReport, VideoSettings
from pipeline.lab.metrics.recovery import count_recoveries
from pipeline.lab.studies.study import Measure, StudyContext, Unit


def build_clip_tracker(model: ModelConfig, **options: bool | float | str) -> ConceptTracker:
    """Build the model for clips, with session options by name where they differ from its own.

    Raises:
        ConfigError: If the model, its weights, the device or an option cannot be used.
    """
    # Imported here, because torch costs seconds that a list of studies need not pay.
    from pipeline.model_building import build_model

    return build_model(model.model_copy(update={"options": options}))


def hiding_settings(context: StudyContext, *, num_clips: int) -> VideoSettings:
    """Return clips with many full occlusions; the wide worlds have enough as they are."""
    world = HeldOutWorld.PLAIN if context.world is None else context.world
    return VideoSettings(
        num_clips=context.samples or num_clips, world=world, is_hiding=world.wide_split is None
    )


def told(settings: VideoSettings) -> str:
    """Return a sentence for the table on which clips it is about."""
    arranged = ""
    if settings.is_hiding:
        arranged = (
            f", of the {settings.world.value} world, arranged so that everything passes behind "
            "something"
        )
    return (
        f"{settings.num_clips} held-out clips of {settings.duration_s:g} s per setting and seed, "
        f"{settings.width} x {settings.height} px at {settings.fps:g} frames per second{arranged}."
    )


def quality_measures(report: VideoReport) -> tuple[Measure, ...]:
    """Return what tells most of how well objects are followed."""
    objects, tracked = len(report.objects), report.counts.truth_masks
    return (
        Measure(name="J&F", value=report.j_and_f if objects else None, count=objects),
        Measure(name="HOTA", value=report.hota.hota, count=tracked),
        Measure(name="IDF1", value=report.identity.idf1, count=tracked),
        Measure(
            name="id switches",
            value=report.counts.id_switches,
            count=objects,
            unit=Unit.NUMBER,
        ),
        recovered(report),
    )


def recovered(report: VideoReport) -> Measure:
    """Return the share of objects that are followed again after up to 2 s of hiding."""
    counts = count_recoveries(report.recoveries)
    return Measure(name="recovered ≤ 2 s", value=counts.share, count=counts.judged)


def frames_per_second(report: VideoReport) -> Measure:
    """Return the speed of the tracker alone, without drawing and judging."""
    return Measure(
        name="frames/s",
        value=1 / report.seconds_per_frame,
        count=report.num_frames,
        unit=Unit.NUMBER,
    )
