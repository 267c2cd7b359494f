"""Average precision, by pycocotools: of objects on pictures or, by volume, of masklets in clips."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, cast

import numpy as np
from pycocotools import cocoeval

from pipeline.lab.metrics.overlap import AT_50, AT_75, Floats

MAX_DETECTIONS = 100
_COCO_EVAL: Any = cast("Any", cocoeval).COCOeval
EVERY_AREA = (0.0, 1e10)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedAnswer:
    """Everything that was found for one question, however unsure.

    Attributes:
        scores: Of the predictions, shape (P,).
        ious: Their overlaps with the true objects, shape (P, T).
        is_crowd: Which true objects are neither asked for nor wrong to find, shape (T,).
        areas: Of the predictions in px, shape (P,); needed for precision by size only.
        truth_areas: Of the true objects, shape (T,); likewise.
    """

    scores: Sequence[float]
    ious: Floats
    is_crowd: Sequence[bool]
    areas: Sequence[float] = ()
    truth_areas: Sequence[float] = ()

    def __post_init__(self) -> None:
        given = len(self.areas), len(self.truth_areas)
        if any(given) and given != (len(self.scores), len(self.is_crowd)):
            raise ValueError(
                f"areas of {given!r} predictions and true objects; accepted: of none, or of all "
                f"{(len(self.scores), len(self.is_crowd))!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionScores:
    """Average precision: over IoU 0.50 to 0.95, at 0.50 and at 0.75, in [0, 1]."""

    ap: float
    ap_50: float
    ap_75: float


def average_precision(
    answers: Sequence[RankedAnswer], *, area_range: tuple[float, float] = EVERY_AREA
) -> PrecisionScores | None:
    """Rank the predictions of all questions together; None if nothing is there to be found.

    Of each question the :data:`MAX_DETECTIONS` surest count. Objects of other areas than those of
    ``area_range``, both ends included, are neither asked for nor wrong to find, and other
    predictions that match nothing do not count (COCO's AP by size).
    """
    evaluation = _Ranking(answers, area_range)
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = cast("Floats", evaluation.eval["precision"])[:, :, 0, 0, -1]
    if (precision < 0).any():
        return None
    curve = precision.mean(1)
    return PrecisionScores(
        ap=float(curve.mean()), ap_50=float(curve[AT_50]), ap_75=float(curve[AT_75])
    )


class _Ranking(_COCO_EVAL):
    """pycocotools' evaluation with overlaps known beforehand; one question stands for a picture."""

    def __init__(self, answers: Sequence[RankedAnswer], area_range: tuple[float, float]) -> None:
        super().__init__(iouType="segm")
        self._answers = answers
        self.params.imgIds = list(range(len(answers)))
        self.params.catIds = [0]
        self.params.areaRng = [list(area_range)]
        self.params.areaRngLbl = ["all"]
        self.params.maxDets = [MAX_DETECTIONS]

    def _prepare(self) -> None:
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        for number, answer in enumerate(self._answers):
            # pycocotools takes an id of 0 for "not matched": files that number objects from 0, as
            # SA-Co/VEval's do, lose one true object in its hands. Not here.
            self._gts[number, 0] = [
                {"id": place, "ignore": crowd, "iscrowd": crowd, "area": area}
                for place, (crowd, area) in enumerate(
                    zip(
                        answer.is_crowd, _or_ones(answer.truth_areas, answer.is_crowd), strict=True
                    ),
                    start=1,
                )
            ]
            self._dts[number, 0] = [
                {"id": place, "score": score, "area": area}
                for place, (score, area) in enumerate(
                    zip(answer.scores, _or_ones(answer.areas, answer.scores), strict=True), start=1
                )
            ]
        self.evalImgs = defaultdict(list)
        self.eval = {}

    def computeIoU(self, picture: int, _category: int) -> Floats | list[float]:  # noqa: N802
        answer = self._answers[picture]
        if not answer.ious.size:
            return []
        order = np.argsort([-score for score in answer.scores], kind="mergesort")
        return answer.ious[order[:MAX_DETECTIONS]]


def _or_ones(areas: Sequence[float], all_of_them: Sequence[object]) -> Sequence[float]:
    return areas or [1.0] * len(all_of_them)
