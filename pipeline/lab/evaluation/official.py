"""Results under the names that the official evaluators give them, to lay files side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.lab.evaluation.clip_scores import MaskletScores, QuestionReport
from pipeline.lab.evaluation.picture_scores import PictureScores
from pipeline.lab.metrics.hota import HotaScores
from pipeline.lab.metrics.overlap import (
    AT_50,
    AT_75,
    EPS_PRESENCE,
    ConceptScores,
    Floats,
    QuestionScore,
    ScoreCurves,
)
from pipeline.lab.metrics.teta import TetaScores

_RANGES: tuple[tuple[str, int | None], ...] = (("50_95", None), ("50", AT_50), ("75", AT_75))
_HOTA_NAMES: dict[str, str] = {
    "HOTA": "hota",
    "DetA": "det_a",
    "AssA": "ass_a",
    "DetRe": "det_re",
    "DetPr": "det_pr",
    "AssRe": "ass_re",
    "AssPr": "ass_pr",
    "LocA": "loc_a",
    "OWTA": "owta",
}
_TETA_NAMES = (
    *("teta", "loc_a", "assoc_a", "cls_a", "loc_re", "loc_pr"),
    *("assoc_re", "assoc_pr", "cls_re", "cls_pr"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResults:
    """Masks and boxes of one set, scored.

    Attributes:
        masks: By mask.
        boxes: By box.
        has_negatives: Whether cgF1 means something.
    """

    masks: MaskletScores
    boxes: MaskletScores
    has_negatives: bool

    def to_official(self) -> dict[str, object]:
        """Return ``dataset_results`` and ``video_np_results`` as SA-Co/VEval's evaluator does.

        TETA is in per cent with five significant digits there, everything else in [0, 1].
        """
        sides = {"bbox": self.boxes, "mask": self.masks}
        results: dict[str, float] = {}
        for kind, scores in sides.items():
            results |= {f"video_{kind}_{name}": value for name, value in self._side(scores).items()}
        keys = sorted(self.masks.questions)
        return {
            "dataset_results": results,
            "video_np_results": [
                {"video_id": video_id, "category_id": category_id}
                | _question("bbox", self.boxes.questions[video_id, category_id])
                | _question("mask", self.masks.questions[video_id, category_id])
                for video_id, category_id in keys
            ],
        }

    def _side(self, scores: MaskletScores) -> dict[str, float]:
        fields: dict[str, float] = {}
        if scores.category_ap is not None:
            fields["mAP_50_95"] = scores.category_ap
        if scores.phrase_ap is not None:
            fields["phrase_ap_50_95"] = scores.phrase_ap.ap
            fields["phrase_ap_50"] = scores.phrase_ap.ap_50
            fields["phrase_ap_75"] = scores.phrase_ap.ap_75
        if scores.teta is not None:
            fields |= _teta(scores.teta)
        if scores.hota is not None:
            fields |= {f"all_phrase_{name}": v for name, v in _hota(scores.hota).items()}
        if self.has_negatives:
            fields |= {f"demo_{name}": value for name, value in _demo(scores.curves).items()}
        return fields


def picture_results(scores: PictureScores, *, use_boxes: bool = False) -> dict[str, float]:
    """Return results as SA-Co/Gold's evaluator (``CGF1Evaluator``) names them, in [0, 1]."""
    whole, curves = scores.scores, scores.curves
    named: Mapping[str, Floats] = {
        "cgF1": curves.cgf1,
        "precision": curves.precision,
        "recall": curves.recall,
        "F1": curves.f1,
        "positive_macro_F1": curves.positive_macro_f1,
        "positive_micro_F1": curves.positive_micro_f1,
        "positive_micro_precision": curves.positive_micro_precision,
    }
    presence = {
        "IL_precision": whole.il_precision,
        "IL_recall": whole.il_recall,
        "IL_F1": _il_f1(whole),
        "IL_FPR": whole.il_fpr,
        "IL_MCC": whole.il_mcc,
    }
    suffixes = (("", None), ("@0.5", AT_50), ("@0.75", AT_75))
    fields = {f"{n}{suffix}": _at(c, place) for suffix, place in suffixes for n, c in named.items()}
    kind = "bbox" if use_boxes else "segm"
    return {f"cgF1_eval_{kind}_{name}": value for name, value in (fields | presence).items()}


def _teta(scores: TetaScores) -> dict[str, float]:
    return {name: float(f"{100 * getattr(scores, name):1.5g}") for name in _TETA_NAMES}


def _hota(scores: HotaScores) -> dict[str, float]:
    return {name: getattr(scores, field) for name, field in _HOTA_NAMES.items()}


def _demo(curves: ScoreCurves) -> dict[str, float]:
    named: Mapping[str, Floats] = {
        "precision": curves.precision,
        "recall": curves.recall,
        "f1": curves.f1,
        "pmf1": curves.positive_macro_f1,
        "ilmcc": np.full_like(curves.f1, curves.il_mcc),
        "cgf1": curves.positive_macro_f1 * curves.il_mcc,
        "positive_micro_f1": curves.positive_micro_f1,
        "cgf1_micro": curves.cgf1,
    }
    fields = {f"{n}_{r}": _at(curve, place) for n, curve in named.items() for r, place in _RANGES}
    without_answer = curves.positive_macro_f1_all
    fields["pmf1_w0dt_50_95"] = _at(without_answer, None)
    fields["cgf1_w0dt_50_95"] = _at(without_answer * curves.il_mcc, None)
    return fields


def _question(kind: str, report: QuestionReport) -> dict[str, float]:
    fields = {} if report.hota is None else _hota(report.hota)
    fields |= {
        f"{name}_{suffix}": _at(curve, place)
        for suffix, place in _RANGES
        for name, curve in _counts(report.score).items()
    }
    return {f"{kind}_{name}": value for name, value in fields.items()}


def _counts(score: QuestionScore) -> dict[str, Floats]:
    hits = np.array(score.true_positives, dtype=np.float64)
    false, missed = score.num_predicted - hits, score.num_truth - hits
    both = 2 * hits + false + missed
    f1 = np.divide(2 * hits, both, out=np.ones_like(hits), where=both > 0)
    return {"TP": hits, "FP": false, "FN": missed, "F1": f1}


def _il_f1(scores: ConceptScores) -> float:
    both = scores.il_precision + scores.il_recall + EPS_PRESENCE
    return 2 * scores.il_precision * scores.il_recall / both


def _at(curve: Floats, place: int | None) -> float:
    return float(curve.mean() if place is None else curve[place])
