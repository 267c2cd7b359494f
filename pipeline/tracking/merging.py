"""Which living track goes on where another one ended."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.tracking.track import Track

_MERGE_IOU = 0.5


def find_heirs(ended: Sequence[Track], living: Sequence[Track]) -> dict[str, str]:
    """Return for each ended track the living one that covers the same object, where there is one.

    Masks are compared only where boxes and areas allow them to cover each other by half, so the
    cost grows with objects in one place, not with all pairs.

    Args:
        ended: Tracks whose masklets are gone.
        living: Tracks of this frame.

    Returns:
        Uids of heirs by uid of the ended.
    """
    living = [track for track in living if track.is_visible]
    if not ended or not living:
        return {}
    corners = np.array([track.last_mask.corners for track in living], np.int64)
    areas = np.array([track.last_mask.area for track in living], np.int64)
    concepts = np.array([track.concept for track in living])
    heirs: dict[str, str] = {}
    for track in ended:
        is_plausible = (concepts == track.concept) & _can_cover(track, corners, areas)
        best_iou = _MERGE_IOU
        for index in np.flatnonzero(is_plausible):
            iou = living[index].last_mask.iou(track.last_mask)
            if iou >= best_iou:
                best_iou = iou
                heirs[track.uid] = living[index].uid
    return heirs


def _can_cover(
    track: Track, corners: NDArray[np.int64], areas: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which boxes, shape (N, 4), and areas, shape (N,), leave room for enough overlap.

    The overlap of two masks is at most that of their boxes and at most the smaller area; their
    union is at least the larger area.
    """
    mine = np.array(track.last_mask.corners, np.int64)
    sides = np.minimum(mine[2:], corners[:, 2:]) - np.maximum(mine[:2], corners[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    area = track.last_mask.area
    most = np.minimum(shared, np.minimum(area, areas))
    return most >= _MERGE_IOU * np.maximum(area, areas)
