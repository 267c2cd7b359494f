"""How to decide, by size: the published thresholds, and those that suit a small model."""

from dataclasses import dataclass

from models.sam3.tracking.options import AssociationRules, LifeRules, SessionOptions

SESSION_OPTIONS: dict[str, SessionOptions] = {
    "sam3": SessionOptions(),
    # The nano detector draws better than the nano tracker; neither is as sure as the large ones.
    "sam3-nano": SessionOptions(
        nms_iou=0.3,
        answer_shown=True,
        # Its masks stray onto others of a kind, where they are unsure.
        divide_by_pixel=True,
        # Seven do no better and take a third of a step (configs/studies/memory.md).
        memory_maps=3,
        association=AssociationRules(
            # It is seldom surer of what is small or half hidden. What it is less sure of goes on
            # where it was begun, but begins nothing: nearly all of that is false.
            new_score=0.65,
            first_score=0.65,
            match_iou=0.3,
            recondition_score=0.7,
            recondition_iou=0.5,
            trust_iou=0.3,
        ),
        life=LifeRules(suppress_s=0.5, revive_reach=0.25),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRules:
    """How to decide on a picture; see :class:`models.sam3.predictor.Sam3ImageDetector`."""

    nms_iou: float = 1.0
    answer_shown: bool = False


PICTURE_RULES: dict[str, PictureRules] = {
    "sam3": PictureRules(),
    # It finds one thing twice now and then, and misses small things even if they are shown.
    "sam3-nano": PictureRules(nms_iou=0.5, answer_shown=True),
}
