"""Masklets records as ``supervision.Detections``, for its annotators, zones and counters."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.records.coco import box_in_px, visible_objects
from pipeline.records.schema import MaskletsRecord

if TYPE_CHECKING:
    import supervision


def to_supervision(record: MaskletsRecord) -> "supervision.Detections":
    """Return the objects that can be seen on a frame.

    ``class_id`` numbers the stream's concepts in their order, ``tracker_id`` is ``track_no``; the
    data hold ``class_name``, ``track_uid`` and ``state``. Masks are of the frame's size; there are
    none if the record was too large for them.

    Args:
        record: As ``read_records`` yields it.

    Raises:
        ModuleNotFoundError: If supervision is not installed.

    Example:
        >>> detections = to_supervision(record)
        >>> picture = supervision.MaskAnnotator().annotate(picture, detections)
    """
    try:
        import supervision
    except ModuleNotFoundError as error:
        accepted = "pip install 'maskstream[supervision]'"
        message = f"supervision is not installed (accepted: {accepted})"
        raise ModuleNotFoundError(message, name=error.name) from error
    objects = visible_objects(record)
    if not objects:
        return supervision.Detections.empty()
    concepts = list(dict.fromkeys([*record.presence, *(one.concept for one in objects)]))
    boxes = np.array([box_in_px(one, record) for one in objects], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    masks = [one.mask.to_array() for one in objects if one.mask is not None]
    return supervision.Detections(
        xyxy=boxes,
        mask=np.stack(masks) if len(masks) == len(objects) else None,
        confidence=np.array([one.score for one in objects]),
        class_id=np.array([concepts.index(one.concept) for one in objects]),
        tracker_id=np.array([one.track_no for one in objects]),
        data={
            "class_name": np.array([one.concept for one in objects]),
            "track_uid": np.array([one.track_uid for one in objects]),
            "state": np.array([str(one.state) for one in objects]),
        },
    )
