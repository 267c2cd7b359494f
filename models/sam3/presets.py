"""How to decide, by size: the published thresholds, and those that suit a small model."""

from models.sam3.association import AssociationRules
from models.sam3.masklet import LifeRules
from models.sam3.options import SessionOptions

SESSION_OPTIONS: dict[str, SessionOptions] = {
    "sam3": SessionOptions(),
    # The nano detector draws better than the nano tracker; neither is as sure as the large ones.
    "sam3-nano": SessionOptions(
        nms_iou=0.3,
        # Seven do no better and take a third of a step (configs/studies/memory.md).
        memory_maps=3,
        association=AssociationRules(
            # It is seldom surer of what is small or half hidden: what it finds may begin.
            new_score=0.5,
            match_iou=0.3,
            recondition_score=0.7,
            recondition_iou=0.5,
            trust_iou=0.3,
        ),
        life=LifeRules(suppress_s=0.5, revive_reach=0.25),
    ),
}

# Of what is found of a phrase on a picture, how far two masks may overlap. Published is no bound;
# the nano detector finds one thing twice now and then.
PICTURE_NMS_IOU: dict[str, float] = {"sam3": 1.0, "sam3-nano": 0.5}
