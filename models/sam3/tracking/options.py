"""How a streaming session decides; what suits which size is in :mod:`models.catalogue`.

Imports no torch, so that a configuration can be checked without it.
"""

import math
from dataclasses import dataclass, field

from models.common.checks import check_bool, check_integer, check_number


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRules:
    """Thresholds of the published system.

    Attributes:
        new_score: Least score of a detection that may begin a masklet beside others.
        first_score: Least score of one that may begin a masklet where none of its concept is; as
            published any that is kept may.
        new_iou: A detection that overlaps a masklet this much is not new, and supports it.
        match_iou: A masklet without a detection that overlaps it this much is unmatched.
        recondition_score: Least score of a detection that may re-prompt its masklet.
        recondition_iou: Least overlap of such a pair.
        trust_iou: Least overlap at which a detection's mask stands for its masklet's on a frame,
            one to one; above 1 means never, as published. Worth it where the detector draws
            better than the tracker.
    """

    new_score: float = 0.7
    first_score: float = 0.0
    new_iou: float = 0.1
    match_iou: float = 0.5
    recondition_score: float = 0.8
    recondition_iou: float = 0.8
    trust_iou: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeRules:
    """When a masklet expires, is hidden and is brought back.

    Times are in seconds; the published system counts frames at 30 per second.

    Attributes:
        probation_s: Age until which a masklet must prove itself (published: 15 frames, "hot
            start").
        unmatched_s: Time without a matching detection that ends a masklet on probation (published:
            8 frames).
        duplicate_s: Time of sharing one detection with an older masklet that ends it on probation
            (8 frames).
        expiry_s: Time since the last matching detection after which any masklet ends. The published
            system lets nothing go after probation, so on a stream its cost would grow for ever.
        recondition_s: Least time between two re-promptings of a masklet (published: every 16
            frames).
        suppress_s: Time since the last matching detection after which a masklet counts as hidden,
            whatever the tracker draws: by then it follows the background (published: never).
        dormant_s: Time since the last matching detection after which a masklet is given up: until
            it expires it stays hidden, is not tracked and is not brought back. What a detection
            finds in its place is a new object (published: never).
        revive_reach: How far from where a hidden masklet is expected a new detection may lie to
            bring it back, as a share of the picture's side; 0 means never, as published.
    """

    probation_s: float = 1.5
    unmatched_s: float = 0.8
    duplicate_s: float = 0.8
    expiry_s: float = 30.0
    recondition_s: float = 0.5
    suppress_s: float = math.inf
    dormant_s: float = math.inf
    revive_reach: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session decides.

    Attributes:
        detection_score: Least joint score of a detection that is kept.
        nms_iou: Kept detections of one phrase overlap at most this much.
        one_place_iou: Two masklets overlapping this much cannot both be right.
        divide_by_pixel: Whether two objects of one phrase that meet divide what both their masks
            cover pixel by pixel, each to the mask that is surer of it, as SAM 2 does. As published
            for SAM 3 the surer object takes all of it.
        least_kept_area: A masklet that other masklets cover but for this share is not remembered
            as it is.
        recondition_logit: Least object score logit of a masklet that may be re-prompted.
        memory_maps: Spatial memories of a masklet, at most as many as the model has positions for:
            one less of tracked frames, and no more of conditioning frames. Fewer are faster.
        max_masklets: Most living masklets of a stream; the best-scored detections begin first.
        answer_shown: Whether what a positive box shows on a frame is found there, its mask within
            that box, and the first such box alone tells what is meant; as published all are read,
            and what they show may be missed.
        keep_exemplars: Whether exemplars go on saying what is meant after the frame they were drawn
            on. The published system reads them on that frame alone.
        max_kept_exemplars: Most exemplars of a phrase that are kept so; the newest stay.
        association: Thresholds for matching detections with masklets.
        life: When masklets end.
    """

    detection_score: float = 0.5
    nms_iou: float = 0.1
    one_place_iou: float = 0.7
    divide_by_pixel: bool = False
    least_kept_area: float = 0.3
    recondition_logit: float = 0.8
    memory_maps: int = 7
    max_masklets: int = 64
    answer_shown: bool = False
    keep_exemplars: bool = False
    max_kept_exemplars: int = 16
    association: AssociationRules = field(default_factory=AssociationRules)
    life: LifeRules = field(default_factory=LifeRules)

    def __post_init__(self) -> None:
        for name in ("detection_score", "nms_iou", "one_place_iou", "least_kept_area"):
            check_number(name, getattr(self, name), least=0)
        check_number("recondition_logit", self.recondition_logit)
        for name in ("divide_by_pixel", "answer_shown", "keep_exemplars"):
            check_bool(name, getattr(self, name))
        for name in ("memory_maps", "max_masklets", "max_kept_exemplars"):
            check_integer(name, getattr(self, name), least=1)
