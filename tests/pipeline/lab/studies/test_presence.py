from dataclasses import replace

import numpy as np
import pytest
import torch

from models.protocols import ConceptResult, Detection
from models.sam3.network.text import TextFeatures
from pipeline.config.sections.model import ModelConfig
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.images import ImageSettings, draw_picture
from pipeline.lab.metrics.overlap import SCORE_THRESHOLD
from pipeline.lab.studies.presence import WITH, WITHOUT, measure, without_presence
from pipeline.lab.studies.study import StudyContext
from tests.pipeline.lab.oracles import OracleDetector, corner_mask

PLAIN = ImageSettings(num_pictures=6, world=HeldOutWorld.PLAIN)


def make_answer(presence: float, *scores: float) -> ConceptResult:
    """An answer with joint scores."""
    return ConceptResult(
        phrase="deer",
        presence_score=presence,
        detections=tuple(
            Detection(
                score=score,
                presence_score=presence,
                box_xyxy=(0.0, 0.0, 1.0, 1.0),
                mask=corner_mask((16, 16)),
            )
            for score in scores
        ),
    )


@pytest.mark.parametrize(
    ("presence", "joint", "alone"),
    [
        (0.5, (0.45, 0.2), (0.9, 0.4)),
        (1.0, (0.7,), (0.7,)),
        (0.001, (0.001,), (1.0,)),
        (0.0, (), ()),
    ],
)
def test_score_without_presence_is_what_presence_was_multiplied_with(presence, joint, alone):
    found = without_presence(make_answer(presence, *joint))
    assert [one.score for one in found.detections] == pytest.approx(list(alone))


class Doubtful(OracleDetector):
    """Sure of every query and, for what is not there, sure that it is not there."""

    def detect(self, pixels, phrases):
        truth = super().detect(pixels, phrases)
        return [
            one if one.detections else make_alarm(one.phrase, pixels.shape[:2]) for one in truth
        ]


def make_alarm(phrase: str, hw: tuple[int, int]) -> ConceptResult:
    alarm = Detection(
        score=0.95 * 0.01, presence_score=0.01, box_xyxy=(0, 0, 1, 1), mask=corner_mask(hw)
    )
    return ConceptResult(phrase=phrase, presence_score=0.01, detections=(alarm,))


def test_presence_silences_sure_queries_where_nothing_is() -> None:
    context = StudyContext(
        model=ModelConfig(), seeds=(0,), samples=PLAIN.num_pictures, world=PLAIN.world
    )
    result = measure(Doubtful(settings=PLAIN), context)
    assert result.values(WITHOUT, "false alarms")[0] == pytest.approx(1.0, abs=1e-3)
    assert result.values(WITHOUT, "cgF1")[0] == pytest.approx(0.0, abs=1e-3)
    assert result.values(WITH, "false alarms")[0] == 0.0
    assert result.values(WITH, "cgF1")[0] == pytest.approx(1.0, abs=1e-3)
    assert result.values(WITHOUT, "pmF1") == pytest.approx(result.values(WITH, "pmF1"))
    cgf1 = next(one for one in result.comparisons if one.measure == "cgF1")
    assert cgf1.difference == pytest.approx(1.0, abs=1e-3)


@torch.inference_mode()
def test_shipped_model_gives_all_its_queries_for_the_study() -> None:
    detector = build_image_detector(ModelConfig(device="cpu"), min_score=0.0)
    # What is found twice is a query of its own, too.
    detector.rules = replace(detector.rules, nms_iou=1.0)
    frame, questions = draw_picture(PLAIN, 1)
    phrases = [question.phrase for question in questions]
    results = detector.detect(frame.pixels, phrases)
    output = detector.model.detector_model(
        detector.encode([frame.pixels]),
        torch.zeros(len(phrases), dtype=torch.long),
        TextFeatures.join(detector.phrases.encode(phrases)),
        None,
    )
    alone = output.logits[-1].sigmoid().numpy()
    for row, result in zip(alone, results, strict=True):
        found = [one.score for one in without_presence(result).detections]
        np.testing.assert_allclose(found, np.sort(row)[::-1], rtol=1e-4)
    joint = output.joint_scores().numpy()
    assert (joint >= SCORE_THRESHOLD).sum() == sum(
        one.score >= SCORE_THRESHOLD for result in results for one in result.detections
    )
