from pipeline.lab.evaluation.images import ImageSettings, draw_picture
from pipeline.lab.metrics.overlap import Mask, QuestionScore
from pipeline.lab.studies.exemplars import box_of
from pipeline.lab.studies.study import Measure, Point, StudyResult


def make_question(*, truth: int, predicted: int, hits: int) -> QuestionScore:
    """A question whose matched pairs overlap perfectly."""
    return QuestionScore(
        num_truth=truth,
        num_predicted=predicted,
        true_positives=(hits,) * 10,
        matched_ious=(1.0,) * hits,
    )


def make_result(values: dict[str, dict[int, float | None]], **given) -> StudyResult:
    """A result with one measure, ``cgF1``, by setting and seed."""
    return StudyResult(
        **{
            "name": "toy",
            "title": "A toy",
            "settings": tuple(values),
            "x_label": "way",
            "plotted": ("cgF1",),
            "points": tuple(
                Point(
                    setting=setting,
                    seed=seed,
                    measures=(Measure(name="cgF1", value=value, count=10),),
                )
                for setting, seeds in values.items()
                for seed, value in seeds.items()
            ),
            **given,
        }
    )


def masks_by_box(settings: ImageSettings) -> dict[bytes, dict[tuple[float, ...], Mask]]:
    """For each picture's pixels, what shows of every object by the box that shows it."""
    drawn = (draw_picture(settings, index)[0] for index in range(settings.num_pictures))
    return {
        frame.pixels.tobytes(): {
            box_of(thing.visible_mask): thing.visible_mask
            for thing in frame.objects
            if thing.visible_mask.any()
        }
        for frame in drawn
    }
