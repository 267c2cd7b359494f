from dataclasses import dataclass

import numpy as np
import pytest

from models.protocols import ConceptQuery, ConceptResult, Detection
from pipeline.config.sections.model import ModelConfig
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.evaluation.images import ImageSettings
from pipeline.lab.studies.exemplars import CROWDS, TEXT, TEXT_1, TEXT_3, box_of, measure
from pipeline.lab.studies.study import StudyContext
from tests.pipeline.lab.studies.makers import masks_by_box

SETTINGS = ImageSettings(num_pictures=8, world=HeldOutWorld.WIDE, crowd_probability=CROWDS)
CONTEXT = StudyContext(model=ModelConfig(), seeds=(0,), samples=SETTINGS.num_pictures)


def test_box_holds_the_mask_and_nothing_more() -> None:
    mask = np.zeros((10, 20), dtype=np.bool_)
    mask[2:5, 4:14] = True
    assert box_of(mask) == (0.2, 0.2, 0.7, 0.5)


@dataclass
class Literal:
    """Finds exactly the objects that boxes show; deaf to phrases."""

    def __post_init__(self) -> None:
        self.masks = masks_by_box(SETTINGS)
        self.asked: list[ConceptQuery] = []

    def detect(self, pixels, queries):
        self.asked += queries
        masks = self.masks[pixels.tobytes()]
        return [
            ConceptResult(
                phrase=query.phrase or "visual",
                presence_score=1.0,
                detections=tuple(
                    Detection(
                        score=0.9,
                        presence_score=1.0,
                        box_xyxy=box.box_xyxy,
                        mask=masks[box.box_xyxy],
                    )
                    for box in query.exemplars
                ),
            )
            for query in queries
        ]


@pytest.fixture(scope="module")
def literal() -> Literal:
    return Literal()


@pytest.fixture(scope="module")
def result(literal):
    return measure(literal, CONTEXT)


def test_more_boxes_find_more_where_only_boxes_are_understood(result) -> None:
    found = [result.values(prompting.name, "pmF1")[0] for prompting in (TEXT, TEXT_1, TEXT_3)]
    assert found[0] == 0
    assert found[0] < found[1] < found[2] < 1
    assert found[1] == pytest.approx(result.values("1 box alone", "pmF1")[0])
    assert result.values(TEXT_3.name, "IL_MCC")[0] == pytest.approx(1.0, abs=1e-3)


def test_boxes_without_a_phrase_have_no_negatives(result, literal) -> None:
    assert result.values("1 box alone", "cgF1") == {}
    assert result.values("1 box alone", "false alarms") == {}
    assert all(query.exemplars for query in literal.asked if query.phrase is None)


def test_what_is_shown_counts_for_nothing_among_the_others(result) -> None:
    for prompting in (TEXT, TEXT_1):
        assert result.values(prompting.name, "pmF1 of all but 1") == {0: 0.0}
    assert result.values(TEXT_3.name, "pmF1 of all but 1") == {}
    counts = [result.count(TEXT.name, name) for name in ("pmF1 of all but 1", "pmF1 of all but 3")]
    assert counts[0] > counts[1] > 0


def test_each_box_is_of_an_object_that_the_phrase_covers(literal) -> None:
    known = {box for masks in literal.masks.values() for box in masks}
    shown = [query.exemplars for query in literal.asked]
    assert {len(boxes) for boxes in shown} == {0, 1, 2, 3}
    assert {box.box_xyxy for boxes in shown for box in boxes} <= known


def test_boxes_are_the_same_in_every_run(result) -> None:
    again = Literal()
    assert measure(again, CONTEXT).points == result.points
