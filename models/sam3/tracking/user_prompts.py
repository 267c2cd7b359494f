"""Objects that a person chose on a stream's frame (SAM 3, section 3, visual prompts)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from models.common.prompting import check_array, check_boxes, check_labels
from models.sam2.memory_bank import MemoryBank
from models.sam2.outputs import TrackerFeatures, TrackOutput
from models.sam2.tracker import MemoryTracker
from models.sam3.tracking.reconcile import begin_masklet
from models.sam3.tracking.stream import LastFrame, Stream, Tracked


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPrompt:
    """What a person said of one object, in px of the frame; see ``Sam3Session.add_object``."""

    points: ArrayLike | None = None
    labels: ArrayLike | None = None
    box: ArrayLike | None = None
    mask: ArrayLike | None = None


def choose_object(
    tracker: MemoryTracker, stream: Stream, prompt: ObjectPrompt, label: str, *, num_maps: int
) -> tuple[Tracked, LastFrame]:
    """Begin a masklet on the newest frame of a stream; also return that frame.

    Its memory holds ``num_maps``, see :class:`models.sam2.memory_bank.MemoryBank`.

    Raises:
        ValueError: If the stream has had no frame, or the prompt says nothing or has a wrong shape.
    """
    if stream.last is None:
        raise ValueError(f"stream {stream.stream_id!r} has had no frame; step one first")
    features = stream.last.features
    output = _segment(tracker, features, prompt, stream.last.frame_hw)
    this_frame = torch.zeros(1, dtype=torch.int64, device=features.top.device)
    spatial = tracker.encode_memory(
        features,
        this_frame,
        output.mask_logits,
        output.object_score_logits,
        binarize=torch.ones_like(this_frame, dtype=torch.bool),
    )
    object_logit = float(output.object_score_logits[0, 0])
    bank = MemoryBank(tracker.config, num_maps=num_maps)
    bank.write_conditioning(stream.frame_index, spatial[0], output.pointer[0])
    chosen = Tracked(
        masklet=begin_masklet(stream, bank, concept_id=None, score=1.0, label=label),
        mask_logits=output.mask_logits[0, 0],
        object_logit=object_logit,
        pointer=output.pointer[0],
        quality=1.0,
        is_new=True,
        is_prompted=True,
    )
    return chosen, stream.last


def _segment(
    tracker: MemoryTracker,
    features: TrackerFeatures,
    prompt: ObjectPrompt,
    frame_hw: tuple[int, int],
) -> TrackOutput:
    device = features.top.device
    this_frame = torch.zeros(1, dtype=torch.int64, device=device)
    if prompt.mask is not None:
        others = (prompt.points, prompt.labels, prompt.box)
        if any(other is not None for other in others):
            raise ValueError("mask is given with other prompts; accepted: a mask alone")
        mask = check_array("mask", prompt.mask, frame_hw) > 0
        if not mask.any():
            raise ValueError("mask is empty; accepted: at least one pixel of the object")
        return tracker.condition_on_mask(
            features, this_frame, torch.from_numpy(mask)[None, None].to(device)
        )
    if prompt.points is None and prompt.box is None:
        raise ValueError("no prompt; accepted: points, a box, both, or a mask")
    if prompt.labels is not None and prompt.points is None:
        raise ValueError("labels is given without points; accepted: both")
    scale = 1 / np.array([frame_hw[1], frame_hw[0]], np.float32)
    points = labels = boxes = None
    if prompt.points is not None:
        places = check_array("points", prompt.points, (None, 2))
        if not len(places):
            raise ValueError("points has no point; accepted: at least one")
        points = _row(places * scale, device)
        if prompt.labels is not None:
            labels = _row(check_labels("labels", prompt.labels, (len(places),)), device)
    if prompt.box is not None:
        corners = check_boxes("box", check_array("box", prompt.box, (4,))[None])[0]
        boxes = _row(corners * np.tile(scale, 2), device)
    return tracker.prompt(features, this_frame, points=points, labels=labels, boxes=boxes)


def _row(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values)[None].to(device)
