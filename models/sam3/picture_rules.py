"""How to decide on single pictures. Importing this costs no torch."""

from dataclasses import dataclass

from models.common.checks import check_bool, check_number


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRules:
    """How to decide on a picture; the defaults are the published ones.

    Attributes:
        nms_iou: Detections of one query whose masks overlap a better one's more than this are
            dropped; 1 keeps all: a large model finds nothing twice.
        answer_shown: Whether what a positive box shows is found, its mask within that box, and the
            first such box alone tells what is meant; as published all are read, and what they show
            may be missed.
    """

    nms_iou: float = 1.0
    answer_shown: bool = False

    def __post_init__(self) -> None:
        check_number("nms_iou", self.nms_iou, least=0, most=1)
        check_bool("answer_shown", self.answer_shown)
