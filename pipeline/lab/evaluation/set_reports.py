"""What an evaluation on a data set comes to: measures, official names, JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.lab.data.datasets.clips import ClipSet
from pipeline.lab.evaluation.clip_scores import MaskletScores
from pipeline.lab.evaluation.object_scores import ObjectScores
from pipeline.lab.evaluation.official import VideoResults, picture_results
from pipeline.lab.evaluation.picture_scores import PictureScores
from pipeline.lab.metrics.identity import IdentityCounts
from pipeline.lab.metrics.overlap import ConceptScores

Row = tuple[str, float | None]
NOTHING_COUNTS = (
    "all objects: none has a mask on a frame that counts, which its first and last annotated ones "
    "do not; where only a set's makers have more, hand in what --save-predictions writes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReport:
    """Results on one data set.

    Attributes:
        title: What was measured on what.
        rows: Measures for people, in [0, 1] or None where they mean nothing; counts as they are.
        counts: Numbers that are not shares.
        official: All results under the names of the official evaluators.
        problems: What was left out and why.
        seconds: Mean time for a picture or frame; None without a model.
    """

    title: str
    rows: tuple[Row, ...]
    counts: dict[str, int] = field(default_factory=dict[str, int])
    official: dict[str, object]
    problems: tuple[str, ...] = ()
    seconds: float | None = None

    def to_fields(self) -> dict[str, object]:
        """Return everything as JSON values."""
        return {
            "data": self.title,
            "measures": dict(self.rows),
            "counts": self.counts,
            "results": self.official,
            "problems": list(self.problems),
            "seconds": self.seconds,
        }


def picture_report(
    title: str, masks: PictureScores, boxes: PictureScores, *, num_annotators: int
) -> SetReport:
    """Report on a set of pictures."""
    official = picture_results(masks) | picture_results(boxes, use_boxes=True)
    judged = f"{num_annotators} annotators, the one who agrees best" if num_annotators > 1 else ""
    return SetReport(
        title=", ".join(filter(None, (title, f"{masks.scores.num_questions} questions", judged))),
        rows=(
            *_concept_rows(masks.scores),
            ("cgF1 of boxes", boxes.scores.cgf1),
            ("mask AP of all phrases", masks.phrase_ap and masks.phrase_ap.ap),
            ("box AP of all phrases", boxes.phrase_ap and boxes.phrase_ap.ap),
        ),
        official=dict(official),
    )


def clip_report(
    title: str, clips: ClipSet, masks: MaskletScores, boxes: MaskletScores
) -> SetReport:
    """Report on a set of clips with masklets."""
    results = VideoResults(masks=masks, boxes=boxes, has_negatives=clips.has_negatives)
    hota, teta = masks.hota, masks.teta
    return SetReport(
        title=f"{title}, {len(clips.clips)} clips, {masks.scores.num_questions} questions",
        rows=(
            *(_concept_rows(masks.scores) if clips.has_negatives else ()),
            ("pHOTA", hota and hota.hota),
            ("pDetA", hota and hota.det_a),
            ("pAssA", hota and hota.ass_a),
            ("TETA", teta and teta.teta),
            ("LocA", teta and teta.loc_a),
            ("AssocA", teta and teta.assoc_a),
            ("ClsA", teta and teta.cls_a),
            ("mAP", masks.category_ap),
            ("AP of all phrases", masks.phrase_ap and masks.phrase_ap.ap),
            ("IDF1", masks.identity.idf1),
            ("MOTA", masks.identity.mota),
        ),
        counts=_identity_counts(masks.identity),
        official=results.to_official(),
    )


def object_report(title: str, scores: ObjectScores) -> SetReport:
    """Report on objects followed from their first masks; without a mask to judge by, no score."""
    if not scores.objects:
        return SetReport(
            title=f"{title}, no objects",
            rows=tuple((name, None) for name in ("J&F", "J", "F")),
            official={"J&F": None, "J": None, "F": None, "objects": []},
            problems=(NOTHING_COUNTS,),
        )
    return SetReport(
        title=f"{title}, {len({one.clip for one in scores.objects})} clips, "
        f"{len(scores.objects)} objects",
        rows=(("J&F", scores.j_and_f), ("J", scores.j), ("F", scores.f)),
        official={
            "J&F": scores.j_and_f,
            "J": scores.j,
            "F": scores.f,
            "objects": [
                {"sequence": one.clip, "obj": one.object_id, "J": one.j, "F": one.f}
                for one in scores.objects
            ],
        },
    )


def _concept_rows(scores: ConceptScores) -> Sequence[Row]:
    return (
        ("cgF1", scores.cgf1),
        ("cgF1 @ .50", scores.cgf1_50),
        ("positive micro F1", scores.positive_micro_f1),
        ("IL_MCC", scores.il_mcc),
    )


def _identity_counts(counts: IdentityCounts) -> dict[str, int]:
    return {
        "identity switches": counts.switches,
        "masks missed": counts.missed,
        "false masks": counts.false,
    }
