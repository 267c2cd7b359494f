"""The worst and the best pictures of a held-out set, drawn."""

from dataclasses import replace

from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.gallery import draw_gallery
from pipeline.lab.evaluation.images import evaluate_images
from pipeline.lab.studies.main_results import main_measures
from pipeline.lab.studies.pictures import settings_of, told
from pipeline.lab.studies.study import Point, StudyContext, StudyResult

COLUMNS, ROWS = 4, 4


def run(context: StudyContext) -> StudyResult:
    """Draw half a sheet of failures and half a sheet of successes, of the first seed."""
    settings, seed = settings_of(context), context.seeds[0]
    settings = replace(settings, seed=seed)
    detector = build_image_detector(context.model)
    advance = context.on_total(settings.num_pictures)
    report = evaluate_images(detector, settings, on_progress=advance)
    return StudyResult(
        name="gallery",
        title="The worst and the best pictures",
        settings=(settings.world.value,),
        x_label="world",
        points=(Point(setting=settings.world.value, seed=seed, measures=main_measures(report)),),
        note=f"{told(settings)} First the worst, then the best. Predictions are filled, missed "
        "objects are outlined.",
        sheet=draw_gallery(detector, report, columns=COLUMNS, rows=ROWS),
    )
