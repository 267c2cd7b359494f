"""A person shows what was missed, then what was found in error, and nothing if all is right."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from models.protocols import ConceptQuery, ConceptResult, Detection, ExemplarBox
from pipeline.config.sections.model import ModelConfig
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.images import ImageSettings, draw_picture, judge
from pipeline.lab.studies.corrections import SETTINGS, errors_of, measure
from pipeline.lab.studies.exemplars import box_of
from pipeline.lab.studies.study import StudyContext
from tests.pipeline.lab.studies.makers import masks_by_box

PICTURES = ImageSettings(num_pictures=12, world=HeldOutWorld.WIDE)
CONTEXT = StudyContext(model=ModelConfig(), seeds=(0,), samples=PICTURES.num_pictures)
GHOST = np.zeros((PICTURES.height, PICTURES.width), dtype=np.bool_)
GHOST[:4, :6] = True


def result_of(found, phrase="deer"):
    return ConceptResult(
        phrase=phrase,
        presence_score=1.0,
        detections=tuple(
            Detection(score=0.9, presence_score=1.0, box_xyxy=box_of(mask), mask=mask)
            for mask in found
        ),
    )


@dataclass
class Literal:
    """Finds what boxes show, and a ghost wherever nobody has said that it is none."""

    sees_ghosts: bool
    asked: list[ConceptQuery] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.masks = masks_by_box(PICTURES)

    def detect(self, pixels, queries):
        self.asked += queries
        masks = self.masks[pixels.tobytes()]
        return [result_of(self.found(query, masks), query.phrase) for query in queries]

    def found(self, query, masks):
        shown = [masks[box.box_xyxy] for box in query.exemplars if box.is_positive]
        knows_better = any(not box.is_positive for box in query.exemplars)
        return shown + ([GHOST] if self.sees_ghosts and not knows_better else [])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "ghosts"])
def study(request):
    detector = Literal(request.param)
    return detector, measure(detector, CONTEXT)


def test_each_correction_makes_the_answers_better(study) -> None:
    detector, result = study
    found = [result.values(setting, "pmF1")[0] for setting in SETTINGS]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] < found[3]
    if detector.sees_ghosts:
        assert result.values("text", "false alarms")[0] == pytest.approx(1)
        assert result.values("1 box", "false alarms")[0] == 0
    else:
        assert found[3] > 0.9


def test_what_was_missed_is_shown_before_what_was_found_in_error(study) -> None:
    detector, _ = study
    signs = {tuple(box.is_positive for box in query.exemplars) for query in detector.asked}
    longest = max(len(boxes) for boxes in signs)
    assert longest == 3
    assert all(boxes == tuple(sorted(boxes, reverse=True)) for boxes in signs)
    assert any(False in boxes for boxes in signs) == detector.sees_ghosts
    for query in detector.asked:
        negative = [box for box in query.exemplars if not box.is_positive]
        assert negative in ([], [ExemplarBox(box_xyxy=box_of(GHOST), is_positive=False)])


def test_nothing_is_shown_twice_and_right_answers_are_left(study) -> None:
    detector, _ = study
    assert all(len(set(query.exemplars)) == len(query.exemplars) for query in detector.asked)
    if not detector.sees_ghosts:  # nobody has anything to say about what is not there
        answered = sum(bool(query.exemplars) for query in detector.asked)
        missed = sum(
            min(sum(thing.concept == question.concept for thing in frame.objects), 3)
            for frame, questions in (
                draw_picture(PICTURES, index) for index in range(PICTURES.num_pictures)
            )
            for question in questions
        )
        assert 0 < answered <= missed


def test_people_are_the_same_in_every_run(study) -> None:
    detector, result = study
    assert measure(Literal(detector.sees_ghosts), CONTEXT).points == result.points


def rectangle(x0, y0, x1, y1):
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_poor_outline_is_shown_again_and_not_called_wrong():
    truth, corner, elsewhere = (
        rectangle(10, 10, 30, 30),
        rectangle(10, 10, 20, 20),
        rectangle(30, 0, 40, 9),
    )
    frame, questions = draw_picture(PICTURES, 0)
    answer = replace(
        judge(frame, questions[0], result_of([])),
        truth=[truth],
        detections=result_of([corner, elsewhere]).detections,
    )
    assert errors_of(answer) == [
        ExemplarBox(box_xyxy=box_of(truth)),
        ExemplarBox(box_xyxy=box_of(elsewhere), is_positive=False),
    ]
