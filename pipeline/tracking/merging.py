"""Which living track goes on where another one ended."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.tracking.track import Track

_MERGE_IOU = 0.5
_MAX_PARTNERS = 8  # a heap of objects in one place must not cost the square of its size


def find_heirs(ended: Sequence[Track], living: Sequence[Track]) -> dict[str, str]:
    """Return for each ended track the living one that covers the same object, where there is one.

    Masks are compared only where boxes and areas allow them to cover each other by half, the
    likeliest first, so the cost does not grow with all pairs.

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
    concepts = np.array([track.concept_id for track in living])
    heirs: dict[str, str] = {}
    for track in ended:
        most = np.where(concepts == track.concept_id, _most_iou(track, corners, areas), 0.0)
        likely = np.argsort(-most, kind="stable")[:_MAX_PARTNERS]
        for index in likely[most[likely] >= _MERGE_IOU]:
            if living[index].last_mask.iou(track.last_mask) >= _MERGE_IOU:
                heirs[track.uid] = living[index].uid
                break
    return heirs


def _most_iou(
    track: Track, corners: NDArray[np.int64], areas: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the most that each mask's IoU can be, by boxes, shape (N, 4), and areas, shape (N,).

    The overlap of two masks is at most that of their boxes and at most the smaller area; their
    union is at least the larger area.
    """
    mine = np.array(track.last_mask.corners, np.int64)
    sides = np.minimum(mine[2:], corners[:, 2:]) - np.maximum(mine[:2], corners[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    area = track.last_mask.area
    return np.minimum(shared, np.minimum(area, areas)) / np.maximum(area, areas)
