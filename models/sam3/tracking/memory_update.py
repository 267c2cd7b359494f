"""Writes a frame into the memories of all masklets, in one pass (SAM 2, section 4).

Shape legend:
    K masklets of all streams, g tokens along a side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from models.sam2.outputs import TrackerFeatures
from models.sam2.tracker import MemoryTracker
from models.sam3.tracking.stream import SURE_LOGIT, Tracked


def update_memories(
    tracker: MemoryTracker,
    features: TrackerFeatures,
    times: Sequence[int],
    tracked: Sequence[Sequence[Tracked]],
    *,
    least_kept_area: float,
) -> None:
    """Encode this frame into the memory of every masklet that is not dormant.

    Args:
        tracker: The tracker.
        features: One frame of each stream.
        times: Number of that frame in each stream.
        tracked: Masklets of each stream.
        least_kept_area: A masklet that others cover but for this share is remembered as hidden.
    """
    rows = [
        (n, item)
        for n, items in enumerate(tracked)
        for item in items
        if not (item.is_dormant or item.is_withheld)
    ]
    if not rows:
        return
    frame = torch.tensor([n for n, _ in rows], device=features.top.device)
    logits = torch.stack([item.mask_logits for _, item in rows])[:, None]
    prompted = [item.is_prompted for _, item in rows]
    # What is prompted gets its pointer from its mask, below.
    blank = features.top.new_zeros(tracker.config.hidden_dim)
    pointers = torch.stack([blank if i.pointer is None else i.pointer for _, i in rows])
    is_prompted = torch.tensor(prompted, device=features.top.device)
    if any(prompted):
        given = F.interpolate(logits[is_prompted], scale_factor=4, mode="bilinear") > 0
        begun = tracker.condition_on_mask(features, frame[is_prompted], given)
        pointers[is_prompted] = begun.pointer.to(pointers.dtype)
    remembered = limit_overlap(logits, frame, least_kept_area)
    sureness = torch.where((remembered > 0).flatten(1).any(1), SURE_LOGIT, -SURE_LOGIT)[:, None]
    spatial = tracker.encode_memory(features, frame, remembered, sureness, binarize=is_prompted)
    for k, (n, item) in enumerate(rows):
        if prompted[k]:
            item.masklet.bank.write_conditioning(times[n], spatial[k], pointers[k])
        else:
            item.masklet.bank.write(times[n], spatial[k], pointers[k], item.quality)


def limit_overlap(logits: Tensor, frame: Tensor, least_kept_area: float) -> Tensor:
    """Blank masks that others cover almost wholly: remembering them would merge two objects.

    Args:
        logits: Shape (K, 1, 4g, 4g).
        frame: Frame of each, shape (K,).
        least_kept_area: Least share of its area that a mask has to itself to be kept.
    """
    limited = logits
    for n in frame.unique().tolist():
        rows = (frame == n).nonzero()[:, 0]
        if len(rows) < 2:
            continue
        masks = logits[rows, 0]
        winner = masks.argmax(0)
        own = (masks > 0) & (
            winner[None] == torch.arange(len(rows), device=masks.device)[:, None, None]
        )
        area = (masks > 0).flatten(1).sum(1).clamp(min=1)
        is_covered = own.flatten(1).sum(1) / area < least_kept_area
        blank = masks.clamp(max=-SURE_LOGIT)
        limited = limited.clone() if limited is logits else limited
        limited[rows, 0] = torch.where(is_covered[:, None, None], blank, masks)
    return limited
