from collections.abc import Sequence

import numpy as np
import pytest

from connectors.world.compose import WorldFrame
from pipeline.lab.evaluation.held_out import Phrasing, Question
from pipeline.lab.evaluation.images import Answer, PictureOutcome
from pipeline.lab.metrics.average_precision import RankedAnswer
from pipeline.lab.studies.crowding import OBJECT_STEPS, step_names, steps_of
from tests.pipeline.lab.studies.makers import make_question


def make_outcome(counts: Sequence[int]) -> PictureOutcome:
    """A picture with a question for each count of objects."""
    answers = tuple(
        Answer(
            question=Question(phrase="deer", concept="deer", phrasing=Phrasing.NAME),
            truth=(np.ones((4, 4), dtype=np.bool_),) * count,
            detections=(),
            score=make_question(truth=count, predicted=0, hits=0),
            ranked=RankedAnswer(scores=[], ious=np.zeros((0, count)), is_crowd=[False] * count),
        )
        for count in counts
    )
    frame = WorldFrame(index=0, time_s=0.0, pixels=np.zeros((4, 4, 3), np.uint8), objects=())
    return PictureOutcome(index=0, frame=frame, answers=answers, seconds=0.0)


@pytest.mark.parametrize(
    ("counts", "steps"),
    [
        ([], []),
        ([0, 0], []),
        ([1, 0], ["1 concept", "1 object"]),
        ([2, 1, 0], ["2 concepts", "2-3 objects"]),
        ([3, 1, 1, 1, 0], ["4 or more concepts", "4-6 objects"]),
        ([7], ["1 concept", "7 or more objects"]),
    ],
)
def test_pictures_are_sorted_by_what_is_on_them(counts, steps) -> None:
    assert steps_of(make_outcome(counts)) == steps


def test_steps_are_named_by_their_ends() -> None:
    names = ["1 object", "2-3 objects", "4-6 objects", "7 or more objects"]
    assert step_names(OBJECT_STEPS, "object") == names
