"""Average precision, by pycocotools: of objects on pictures or, by volume, of masklets in clips."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, cast

import numpy as np
from pycocotools import cocoeval

from pipeline.evaluation.metrics import AT_50, AT_75, Floats

MAX_DETECTIONS = 100
_COCO_EVAL: Any = cast("Any", cocoeval).COCOeval
_EVERY_AREA = (0.0, 1e10)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedAnswer:
    """Everything that was found for one question, however unsure.

    Attributes:
        scores: Of the predictions, shape (P,).
        ious: Their overlaps with the true objects, shape (P, T).
        is_crowd: Which true objects are neither asked for nor wrong to find, shape (T,).
    """

    scores: Sequence[float]
    ious: Floats
    is_crowd: Sequence[bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionScores:
    """Average precision: over IoU 0.50 to 0.95, at 0.50 and at 0.75, in [0, 1]."""

    ap: float
    ap_50: float
    ap_75: float


def average_precision(answers: Sequence[RankedAnswer]) -> PrecisionScores | None:
    """Rank the predictions of all questions together; None if nothing is there to be found.

    Of each question the :data:`MAX_DETECTIONS` surest count.
    """
    evaluation = _Ranking(answers)
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

    def __init__(self, answers: Sequence[RankedAnswer]) -> None:
        super().__init__(iouType="segm")
        self._answers = answers
        self.params.imgIds = list(range(len(answers)))
        self.params.catIds = [0]
        self.params.areaRng = [list(_EVERY_AREA)]
        self.params.areaRngLbl = ["all"]
        self.params.maxDets = [MAX_DETECTIONS]

    def _prepare(self) -> None:
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        for number, answer in enumerate(self._answers):
            # pycocotools takes an id of 0 for "not matched": files that number objects from 0, as
            # SA-Co/VEval's do, lose one true object in its hands. Not here.
            self._gts[number, 0] = [
                {"id": place, "ignore": crowd, "iscrowd": crowd, "area": 1.0}
                for place, crowd in enumerate(answer.is_crowd, start=1)
            ]
            self._dts[number, 0] = [
                {"id": place, "score": score, "area": 1.0}
                for place, score in enumerate(answer.scores, start=1)
            ]
        self.evalImgs = defaultdict(list)
        self.eval = {}

    def computeIoU(self, picture: int, _category: int) -> Floats | list[float]:  # noqa: N802
        answer = self._answers[picture]
        if not answer.ious.size:
            return []
        order = np.argsort([-score for score in answer.scores], kind="mergesort")
        return answer.ious[order[:MAX_DETECTIONS]]
