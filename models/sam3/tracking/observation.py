"""What a session tells of a stream's masklets on one frame."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.common.masks import CropMask
from models.protocols import MaskletObservation
from models.sam3.masks import DrawnMasks, frame_masks
from models.sam3.network.refiner import MaskRefiner
from models.sam3.tracking.options import SessionOptions
from models.sam3.tracking.stream import LastFrame, Stream, Tracked


def observe(
    stream: Stream,
    tracked: Sequence[Tracked],
    frame: LastFrame,
    options: SessionOptions,
    *,
    refiner: MaskRefiner | None,
) -> list[MaskletObservation]:
    """Draw masklets on a frame, and say what is known of each.

    Args:
        stream: Their stream.
        tracked: The masklets on that frame.
        frame: The frame.
        options: Who gets a pixel that two masklets cover.
        refiner: Draws outlines anew; ``None`` leaves them as the tracker drew them.
    """
    return [
        MaskletObservation(
            masklet_id=item.masklet.masklet_id,
            concept=stream.name_of(item.masklet),
            concept_id=stream.concept_id_of(item.masklet),
            score=item.masklet.score,
            presence_score=stream.presence_of(item.masklet),
            occlusion_score=1 / (1 + math.exp(-max(min(item.object_logit, 30.0), -30.0))),
            is_matched=item.is_matched,
            first_seen_s=item.masklet.first_seen_s,
            last_seen_s=item.masklet.last_seen_s,
            mask=mask,
            pointer=pointer,
        )
        for item, mask, pointer in zip(
            tracked,
            _masks(tracked, frame, options, refiner),
            _pointers(tracked),
            strict=True,
        )
    ]


def _masks(
    tracked: Sequence[Tracked],
    frame: LastFrame,
    options: SessionOptions,
    refiner: MaskRefiner | None,
) -> list[CropMask]:
    drawable = [item for item in tracked if not item.is_dormant]
    if not drawable:
        return [CropMask.empty(frame.frame_hw) for _ in tracked]
    drawn = DrawnMasks.draw(
        torch.stack([item.mask_logits for item in drawable]),
        frame.frame_hw,
        refiner=refiner,
        pixels=frame.pixels,
    )
    masks = iter(
        frame_masks(
            drawn,
            groups=[item.masklet.concept_id for item in drawable],
            sureness=[item.object_logit for item in drawable],
            one_place_iou=options.one_place_iou,
            by_pixel=options.divide_by_pixel,
        )
    )
    return [CropMask.empty(frame.frame_hw) if item.is_dormant else next(masks) for item in tracked]


def _pointers(tracked: Sequence[Tracked]) -> list[NDArray[np.float32] | None]:
    """Return each object's pointer in the CPU's memory, by one transfer."""
    known = [item.pointer for item in tracked if item.pointer is not None]
    rows = iter(torch.stack(known).float().numpy(force=True)) if known else iter(())
    # Copies: a row would keep those of all objects alive.
    return [None if item.pointer is None else next(rows).copy() for item in tracked]
