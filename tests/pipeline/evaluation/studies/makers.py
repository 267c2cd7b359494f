from pipeline.evaluation.metrics import QuestionScore
from pipeline.evaluation.studies.study import Measure, Point, StudyResult


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
