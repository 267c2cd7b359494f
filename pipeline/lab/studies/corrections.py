"""What corrections are good for: a phrase, and then boxes where its answer is wrong, one by one.

The protocol of the paper's interactive exemplars (SAM 3, section 6, "PCS with K exemplars"): of
each answer, true objects that were missed may be shown as what is meant, and detections of nothing
as what is not; the question is asked again with one box more. Here a person shows what was missed
as long as anything was, and then what was found in error; who sees no error shows nothing more, and
the answer stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from connectors.world.compose import WorldFrame
from models.protocols import ConceptDetector, ConceptQuery, ExemplarBox
from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.held_out import HELD_OUT_SEED, Question
from pipeline.lab.evaluation.images import Answer, judge
from pipeline.lab.metrics.overlap import IOU_THRESHOLDS, assign, iou_matrix
from pipeline.lab.studies.exemplars import box_of
from pipeline.lab.studies.pictures import compare_both_ways, drawn, settings_of, told
from pipeline.lab.studies.score_book import GATED, ScoreBook
from pipeline.lab.studies.study import StudyContext, StudyResult

SETTINGS = ("text", "1 box", "2 boxes", "3 boxes")
# Overlap at which an object is found, and share of a detection that must lie on what is meant.
ENOUGH, MEANT = IOU_THRESHOLDS[0], 0.5


@dataclass(slots=True, kw_only=True)
class Talk:
    """One question, its newest answer and the boxes that led to it.

    Attributes:
        question: What is asked.
        answer: What the detector says by now.
        boxes: All that was shown, oldest first.
    """

    question: Question
    answer: Answer
    boxes: list[ExemplarBox] = field(default_factory=list[ExemplarBox])

    @property
    def query(self) -> ConceptQuery:
        """The phrase with all boxes."""
        return ConceptQuery(phrase=self.question.phrase, exemplars=tuple(self.boxes))

    def correct(self, rng: np.random.Generator) -> bool:
        """Show one thing more that the answer is wrong about; return whether there is any."""
        candidates = [box for box in errors_of(self.answer) if box not in self.boxes]
        missed = [box for box in candidates if box.is_positive]
        candidates = missed or candidates
        if not candidates:
            return False
        self.boxes.append(candidates[int(rng.integers(len(candidates)))])
        return True


def errors_of(answer: Answer) -> list[ExemplarBox]:
    """Return boxes of what an answer missed at overlap 0.50, then of what it found in error.

    A poor outline of what is meant is no error of that kind: nobody says of a deer that it is none.
    """
    found = [detection.mask for detection in answer.detections]
    overlaps = iou_matrix(found, answer.truth)
    right = {column for row, column in assign(overlaps) if overlaps[row, column] >= ENOUGH}
    missed = [mask for place, mask in enumerate(answer.truth) if place not in right]
    meant = np.logical_or.reduce(answer.truth) if answer.truth else None
    wrong = [mask for mask in found if meant is None or (mask & meant).sum() < MEANT * mask.sum()]
    return [
        ExemplarBox(box_xyxy=box_of(mask), is_positive=is_positive)
        for masks, is_positive in ((missed, True), (wrong, False))
        for mask in masks
        if mask.any()
    ]


def run(context: StudyContext) -> StudyResult:
    """Ask, correct and ask again."""
    return measure(build_image_detector(context.model), context)


def measure(detector: ConceptDetector, context: StudyContext) -> StudyResult:
    """Study a detector."""
    settings = settings_of(context)
    book = ScoreBook()
    for seed, index, frame, questions in drawn(context, settings):
        rng = np.random.default_rng((HELD_OUT_SEED, seed, index))
        talks = _begin(detector, frame, questions)
        for number, setting in enumerate(SETTINGS):
            if number:
                _go_on(detector, frame, [talk for talk in talks if talk.correct(rng)])
            book.add(setting, seed, [talk.answer.score for talk in talks])
    result = StudyResult(
        name="corrections",
        title="Corrections: boxes where the answer is wrong",
        settings=SETTINGS,
        x_label="shown beside the phrase, one after another",
        points=book.points(),
        plotted=GATED,
        is_ordered=True,
        note=f"{told(settings)} After each answer a box of an object that it missed is added, or, "
        "if it missed none, of something that it found, of which less than half lies on what is "
        "meant, as what is not; an answer without such errors is left as it is.",
    )
    text, one, _, three = SETTINGS
    steps = ((text, one), (one, three), (text, three))
    return replace(result, comparisons=compare_both_ways(book, result, steps))


def _begin(
    detector: ConceptDetector, frame: WorldFrame, questions: Sequence[Question]
) -> list[Talk]:
    results = detector.detect(frame.pixels, [ConceptQuery(phrase=q.phrase) for q in questions])
    return [
        Talk(question=question, answer=judge(frame, question, result))
        for question, result in zip(questions, results, strict=True)
    ]


def _go_on(detector: ConceptDetector, frame: WorldFrame, talks: Sequence[Talk]) -> None:
    """Ask those again whose answers were corrected."""
    results = detector.detect(frame.pixels, [talk.query for talk in talks]) if talks else []
    for talk, result in zip(talks, results, strict=True):
        talk.answer = judge(frame, talk.question, result)
